"""Likelihoods: counts, choices, joint noise, mixtures, a distribution of the user's own, and likelihood=."""

import pyro
import pyro.distributions as dist
import torch
from torch.distributions import constraints

import caskade_pyro as ck

from .pair import Pair, data
from .priors import Vector


class Rates(ck.Module):
    """Members with a rate, of which several kinds of data tell."""

    def __init__(self, n):
        super().__init__()
        self.hierarchical_link("members", Vector(), size=n)
        self.mean = ck.Param("mean", prior=dist.Normal(0.0, 1.0))
        self.spread = ck.Param("spread", prior=dist.HalfNormal(1.0))
        self.members.value.prior = ck.prior(dist.Normal, self.mean, self.spread)

    @ck.forward
    def rates(self):
        return ck.vmap(self.members.own)()

    @ck.forward
    def successes(self, trials):
        return dist.Binomial(trials, logits=self.rates())

    @ck.forward
    def overdispersed(self, spread):
        return dist.NegativeBinomial(1 / spread, logits=self.rates()[:, None])

    @ck.forward
    def curves(self, x):
        return self.rates()[:, None] * x

    def latents_by_hand(self, n, dim=-1):
        """The params in plain Pyro."""
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        spread = pyro.sample("spread", dist.HalfNormal(1.0))
        members = pyro.plate("members", n, dim=dim)
        with members:
            value = pyro.sample("members.value", dist.Normal(mean, spread))
        return members, value, spread


def binomial():
    """Successes of a number of trials that differs between members."""
    trials, successes = torch.tensor([10.0, 3.0, 7.0]), torch.tensor([4.0, 3.0, 0.0])
    rates = Rates(3)
    bound = ck.PyroModel(rates.successes, dims={"obs": ("members",)}).bind(trials, obs=successes)

    def by_hand():
        members, value, _ = rates.latents_by_hand(3)
        with members:
            pyro.sample("obs", dist.Binomial(trials, logits=value), obs=successes)

    # The trials of all members stand beside the rates of a few: they would have to go through ck.subsample.
    return Pair(bound, by_hand)


def negative_binomial():
    """Counts with more spread than a Poisson distribution has, several of each member."""
    counts = torch.tensor([[0.0, 3.0, 9.0, 1.0], [2.0, 2.0, 5.0, 0.0], [1.0, 0.0, 0.0, 4.0]])
    rates = Rates(3)
    bound = ck.PyroModel(rates.overdispersed, dims={"obs": ("members", "years")}).bind(obs=counts)

    def by_hand():
        members, value, spread = rates.latents_by_hand(3, -2)
        with members, pyro.plate("years", 4, dim=-1):
            pyro.sample("obs", dist.NegativeBinomial(1 / spread, logits=value), obs=counts)

    return Pair(bound, by_hand, subsampled=("members", "years"))


def heavy(prediction):
    """A distribution around a prediction that allows for outliers."""
    return dist.StudentT(3.0, prediction, 0.4).to_event(1)


def given_likelihood():
    """A simulator that returns numbers, with likelihood= to make distributions of them."""
    x, observed = torch.linspace(0, 1, 5), data(3, 5)
    rates = Rates(3)
    bound = ck.PyroModel(rates.curves, likelihood=heavy, dims={"obs": ("members",)}).bind(x, obs=observed)

    def by_hand():
        members, value, _ = rates.latents_by_hand(3)
        with members:
            pyro.sample("obs", dist.StudentT(3.0, value[:, None] * x, 0.4).to_event(1), obs=observed)

    return Pair(bound, by_hand, subsampled=("members",))


class Choices(ck.Module):
    def __init__(self):
        super().__init__()
        self.hierarchical_link("members", Vector(3), size=4)
        self.members.value.prior = dist.Normal(0.0, 1.0)

    @ck.forward
    def chosen(self):
        return dist.Categorical(logits=ck.vmap(self.members.own)()[:, None, :])


def categorical():
    """Choices among three things, repeated by each member."""
    chosen = torch.tensor([[0, 2], [1, 1], [2, 2], [0, 1]])
    bound = ck.PyroModel(Choices().chosen, dims={"obs": ("members", "times")}).bind(obs=chosen)

    def by_hand():
        with pyro.plate("members", 4, dim=-2):
            value = pyro.sample("members.value", dist.Normal(0.0, 1.0).expand([4, 1, 3]).to_event(1))
            with pyro.plate("times", 2, dim=-1):
                pyro.sample("obs", dist.Categorical(logits=value), obs=chosen)

    return Pair(bound, by_hand, subsampled=("members", "times"))


class Process(ck.Module):
    """A line with noise that is correlated along it, in each member."""

    def __init__(self):
        super().__init__()
        self.slope = ck.Param("slope", shape=(), prior=dist.Normal(0.0, 1.0))
        self.length = ck.Param("length", shape=(), prior=dist.LogNormal(0.0, 0.3))

    @ck.forward
    def along(self, x, slope, length):
        covariance = torch.exp(-((x[:, None] - x) ** 2) / (2 * length**2)) + 0.1 * torch.eye(len(x))
        return dist.MultivariateNormal(slope * x, covariance)


class Processes(ck.Module):
    def __init__(self):
        super().__init__()
        self.hierarchical_link("members", Process(), size=3)

    @ck.forward
    def along(self, x):
        return ck.vmap(self.members.along)(x)


def joint_by_hand(x, slope, length):
    """The same in plain Pyro, for all members."""
    squares = (x[:, None] - x) ** 2
    covariance = torch.exp(-squares / (2 * length[..., None, None] ** 2)) + 0.1 * torch.eye(len(x))
    return dist.MultivariateNormal(slope[..., None] * x, covariance)


def joint_noise():
    """Noise that is correlated within an observation, with a covariance of params; it crosses a vmap."""
    x, observed = torch.linspace(0, 1, 4), data(3, 4)
    bound = ck.PyroModel(Processes().along, dims={"obs": ("members",)}).bind(x, obs=observed)

    def by_hand():
        with pyro.plate("members", 3):
            slope = pyro.sample("members.slope", dist.Normal(0.0, 1.0))
            length = pyro.sample("members.length", dist.LogNormal(0.0, 0.3))
            pyro.sample("obs", joint_by_hand(x, slope, length), obs=observed)

    return Pair(bound, by_hand, subsampled=("members",))


class Logistic(dist.TorchDistribution):
    """A distribution that neither torch nor Pyro has, as a user would write it."""

    arg_constraints = {"loc": constraints.real, "width": constraints.positive}  # noqa: RUF012 - torch has it so
    support = constraints.real

    def __init__(self, loc, width, validate_args=None):
        self.loc, self.width = torch.broadcast_tensors(torch.as_tensor(loc), torch.as_tensor(width))
        super().__init__(self.loc.shape, validate_args=validate_args)

    def expand(self, batch_shape, _instance=None):
        return Logistic(self.loc.expand(batch_shape), self.width.expand(batch_shape))

    def sample(self, sample_shape=()):
        uniform = torch.rand(tuple(sample_shape) + tuple(self.batch_shape), dtype=self.loc.dtype)
        return self.loc + self.width * torch.logit(uniform, eps=1e-6)

    def log_prob(self, value):
        scaled = (value - self.loc) / self.width
        return -scaled - 2 * torch.nn.functional.softplus(-scaled) - self.width.log()


class Custom(ck.Module):
    def __init__(self):
        super().__init__()
        self.hierarchical_link("members", CustomMember(), size=3)

    @ck.forward
    def observed(self):
        return ck.vmap(self.members.observed)()


class CustomMember(ck.Module):
    def __init__(self):
        super().__init__()
        self.loc = ck.Param("loc", shape=(2,), prior=Logistic(0.0, 2.0))
        self.width = ck.Param("width", shape=(), prior=dist.Gamma(2.0, 2.0))

    @ck.forward
    def observed(self, loc, width):
        return Logistic(loc, width)


def custom_distribution():
    """A distribution of the user's own, as a prior and as what a vmap returns."""
    observed = data(3, 2)
    bound = ck.PyroModel(Custom().observed, dims={"obs": ("members", "sides")}).bind(obs=observed)

    def by_hand():
        with pyro.plate("members", 3, dim=-2):
            loc = pyro.sample("members.loc", Logistic(torch.zeros(3, 1, 2), 2.0).to_event(1))
            width = pyro.sample("members.width", dist.Gamma(2.0, 2.0))
            with pyro.plate("sides", 2, dim=-1):
                pyro.sample("obs", Logistic(loc.squeeze(-2), width), obs=observed)

    return Pair(bound, by_hand, subsampled=("members", "sides"))


class Outliers(ck.Module):
    def __init__(self):
        super().__init__()
        self.slope = ck.Param("slope", prior=dist.Normal(0.0, 1.0))
        self.share = ck.Param("share", prior=dist.Beta(1.0, 5.0))

    @ck.forward
    def points(self, x, slope, share):
        kinds = dist.Categorical(torch.stack([1 - share, share], -1).expand(len(x), 2))
        locs = torch.stack([slope * x, torch.zeros_like(x)], -1)
        return dist.MixtureSameFamily(kinds, dist.Normal(locs, torch.tensor([0.2, 3.0])))


def outliers():
    """A mixture as likelihood: points on a line, and a share of others."""
    x, observed = torch.linspace(-1, 1, 6), data(6)
    bound = ck.PyroModel(Outliers().points).bind(x, obs=observed)

    def by_hand():
        slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
        share = pyro.sample("share", dist.Beta(1.0, 5.0))
        with pyro.plate("obs_dim_0", 6):
            kinds = dist.Categorical(torch.stack([1 - share, share]))
            parts = dist.Normal(torch.stack([slope * x, 0 * x], -1), torch.tensor([0.2, 3.0]))
            pyro.sample("obs", dist.MixtureSameFamily(kinds, parts), obs=observed)

    return Pair(bound, by_hand, subsampled=("obs_dim_0",))


PAIRS = {
    pair.__name__: pair
    for pair in (
        binomial,
        negative_binomial,
        given_likelihood,
        categorical,
        joint_noise,
        custom_distribution,
        outliers,
    )
}
