"""Priors: multivariate, truncated, mixed, improper, on a circle, with pointers and tensors as arguments."""

import math

import pyro
import pyro.distributions as dist
import torch
from torch.distributions import constraints

import caskade_pyro as ck

from .pair import Pair, data


class Vector(ck.Module):
    """A member with some numbers of its own."""

    def __init__(self, *shape):
        super().__init__()
        self.value = ck.Param("value", shape=shape)

    @ck.forward
    def own(self, value):
        return value


class Population(ck.Module):
    """Members that are observed with a known error."""

    def __init__(self, n, *shape):
        super().__init__()
        self.hierarchical_link("members", Vector(*shape), size=n)

    @ck.forward
    def observed(self):
        return dist.Normal(ck.vmap(self.members.own)(), 0.3).to_event(len(self.members.value.shape))


def bind(population, observed):
    """A model of a population with its data."""
    return ck.PyroModel(population.observed, dims={"obs": ("members",)}).bind(obs=observed)


def from_correlation(mean, scales, factor):
    """A normal distribution from means, scales and the Cholesky factor of a correlation matrix."""
    return dist.MultivariateNormal(mean, scale_tril=scales[..., :, None] * factor)


class Correlated(Population):
    def __init__(self):
        super().__init__(4, 2)
        self.mean = ck.Param("mean", shape=(2,), prior=dist.Normal(torch.tensor([0.0, 1.0]), 1.0))
        self.scales = ck.Param("scales", shape=(2,), prior=dist.HalfNormal(1.0))
        self.factor = ck.Param("factor", shape=(2, 2), prior=dist.LKJCholesky(2, 2.0))
        self.members.value.prior = ck.prior(from_correlation, self.mean, factor=self.factor, scales=self.scales)


def correlated():
    """Members with a joint normal distribution, whose correlation matrix has an LKJ prior; the prior is a function."""
    observed = data(4, 2)
    bound = bind(Correlated(), observed)

    def by_hand():
        mean = pyro.sample("mean", dist.Normal(torch.tensor([0.0, 1.0]), 1.0).to_event(1))
        scales = pyro.sample("scales", dist.HalfNormal(1.0).expand([2]).to_event(1))
        factor = pyro.sample("factor", dist.LKJCholesky(2, 2.0))
        with pyro.plate("members", 4):
            joint = dist.MultivariateNormal(mean, scale_tril=torch.diag_embed(scales) @ factor)
            value = pyro.sample("members.value", joint)
            pyro.sample("obs", dist.Normal(value, 0.3).to_event(1), obs=observed)

    return Pair(bound, by_hand, subsampled=("members",))


class HeavyTails(Population):
    def __init__(self):
        super().__init__(3, 2)
        self.df = ck.Param("df", prior=dist.Gamma(4.0, 1.0))
        self.centre = ck.Param("centre", shape=(2,), prior=dist.MultivariateNormal(torch.zeros(2), torch.eye(2)))
        self.factor = ck.Param("factor", shape=(2, 2), prior=dist.LKJCholesky(2, 1.0))
        self.members.value.prior = ck.prior(dist.MultivariateStudentT, self.df, self.centre, scale_tril=self.factor)


def heavy_tails():
    """A multivariate Student-t prior whose three arguments are params, a matrix by keyword among them."""
    observed = data(3, 2)
    bound = bind(HeavyTails(), observed)

    def by_hand():
        df = pyro.sample("df", dist.Gamma(4.0, 1.0))
        centre = pyro.sample("centre", dist.MultivariateNormal(torch.zeros(2), torch.eye(2)))
        factor = pyro.sample("factor", dist.LKJCholesky(2, 1.0))
        with pyro.plate("members", 3):
            value = pyro.sample("members.value", dist.MultivariateStudentT(df, centre, factor))
            pyro.sample("obs", dist.Normal(value, 0.3).to_event(1), obs=observed)

    return Pair(bound, by_hand, subsampled=("members",))


class Shares(ck.Module):
    def __init__(self):
        super().__init__()
        self.hierarchical_link("members", Vector(3), size=4)
        self.concentration = ck.Param("concentration", shape=(3,), prior=dist.Gamma(2.0, 0.5))
        self.members.value.prior = ck.prior(dist.Dirichlet, self.concentration)

    @ck.forward
    def counts(self):
        return dist.Multinomial(20, ck.vmap(self.members.own)())


def dirichlet():
    """Shares of three kinds in each member, with counts of the kinds as data."""
    counts = torch.tensor([[10.0, 5.0, 5.0], [0.0, 20.0, 0.0], [7.0, 7.0, 6.0], [1.0, 2.0, 17.0]])
    bound = ck.PyroModel(Shares().counts, dims={"obs": ("members",)}).bind(obs=counts)

    def by_hand():
        concentration = pyro.sample("concentration", dist.Gamma(2.0, 0.5).expand([3]).to_event(1))
        with pyro.plate("members", 4):
            value = pyro.sample("members.value", dist.Dirichlet(concentration))
            pyro.sample("obs", dist.Multinomial(20, value), obs=counts)

    return Pair(bound, by_hand, subsampled=("members",))


class Truncated(Population):
    def __init__(self):
        super().__init__(4)
        self.mean = ck.Param("mean", prior=ck.TruncatedNormal(1.0, 0.5, high=2.0))
        self.spread = ck.Param("spread", prior=dist.HalfCauchy(1.0), valid=(0.0, None))
        self.least = ck.Param("least", prior=dist.Uniform(-1.0, 0.5), valid=(-1.0, 0.5))
        self.top = ck.Param("top", prior=ck.prior(dist.Pareto, 3.0, alpha=2.0))
        self.level = ck.Param("level", prior=ck.prior(dist.Uniform, self.least, self.top))
        self.members.value.prior = ck.prior(ck.TruncatedNormal, self.mean, scale=self.spread, low=self.least)

    @ck.forward
    def observed(self, level):
        return dist.Normal(ck.vmap(self.members.own)() + level, 0.3)


class CutOff(dist.TorchDistribution):
    """A normal distribution on one side of a bound, as it is defined; its draws only lie there."""

    arg_constraints = {}  # noqa: RUF012 - torch.distributions has it so

    def __init__(self, mean, scale, bound, side):
        self.centre, self.scale, self.bound = torch.broadcast_tensors(*map(torch.as_tensor, (mean, scale, bound)))
        self.side = side
        super().__init__(self.centre.shape, validate_args=False)

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self):
        return constraints.greater_than(self.bound) if self.side > 0 else constraints.less_than(self.bound)

    def expand(self, batch_shape, _instance=None):
        return CutOff(*(one.expand(batch_shape) for one in (self.centre, self.scale, self.bound)), self.side)

    def sample(self, sample_shape=()):
        distance = torch.randn(tuple(sample_shape) + tuple(self.batch_shape)).abs() * self.scale
        return self.bound + self.side * distance

    def log_prob(self, value):
        left = 0.5 * torch.erfc(self.side * (self.bound - self.centre) / (self.scale * math.sqrt(2)))
        return dist.Normal(self.centre, self.scale).log_prob(value) - left.log()


def truncated():
    """Normal priors cut off at numbers and at another param, half-line priors, and uniform ones between params."""
    observed = 2 + data(4)
    bound = bind(Truncated(), observed)

    def by_hand():
        mean = pyro.sample("mean", CutOff(1.0, 0.5, 2.0, side=-1))
        spread = pyro.sample("spread", dist.HalfCauchy(1.0))
        least = pyro.sample("least", dist.Uniform(-1.0, 0.5))
        top = pyro.sample("top", dist.Pareto(3.0, 2.0))
        level = pyro.sample("level", dist.Uniform(least, top))
        with pyro.plate("members", 4):
            value = pyro.sample("members.value", CutOff(mean, spread, least, side=1))
            pyro.sample("obs", dist.Normal(value + level, 0.3), obs=observed)

    return Pair(bound, by_hand, subsampled=("members",))


def two_kinds(share, low, high):
    """Most members around one value, the others around another one."""
    kinds = dist.Categorical(torch.stack([share, 1 - share], -1))
    return dist.MixtureSameFamily(kinds, dist.Normal(torch.stack([low, high], -1), 0.5))


class Mixed(Population):
    def __init__(self):
        super().__init__(5)
        self.share = ck.Param("share", prior=dist.Beta(2.0, 2.0))
        self.low = ck.Param("low", prior=dist.Normal(-1.0, 1.0))
        kinds = dist.Categorical(torch.tensor([0.3, 0.7]))
        self.high = ck.Param("high", prior=dist.MixtureSameFamily(kinds, dist.Normal(torch.tensor([0.0, 3.0]), 1.0)))
        self.members.value.prior = ck.prior(two_kinds, self.share, self.low, self.high)


def mixed():
    """Mixtures as priors: a ready-made one, and one whose weights and places are params."""
    observed = data(5)
    bound = bind(Mixed(), observed)

    def by_hand():
        share = pyro.sample("share", dist.Beta(2.0, 2.0))
        low = pyro.sample("low", dist.Normal(-1.0, 1.0))
        weights = dist.Categorical(torch.tensor([0.3, 0.7]))
        high = pyro.sample("high", dist.MixtureSameFamily(weights, dist.Normal(torch.tensor([0.0, 3.0]), 1.0)))
        with pyro.plate("members", 5):
            value = pyro.sample("members.value", two_kinds(share, low, high))
            pyro.sample("obs", dist.Normal(value, 0.3), obs=observed)

    return Pair(bound, by_hand, subsampled=("members",))


class Improper(Population):
    def __init__(self):
        super().__init__(3, 2)
        self.mean = ck.Param("mean", prior=dist.ImproperUniform(constraints.real, (), ()))
        self.spread = ck.Param("spread", prior=dist.ImproperUniform(constraints.positive, (), ()), valid=(0.0, None))
        self.shift = ck.Param("shift", shape=(2,), prior=dist.ImproperUniform(constraints.real_vector, (), (2,)))
        self.members.value.prior = ck.prior(dist.Normal, self.mean, self.spread)

    @ck.forward
    def observed(self, shift):
        return dist.Normal(ck.vmap(self.members.own)() + shift, 0.3).to_event(1)


def improper():
    """Flat priors that are no distributions, said in so many words: on the line, on its half, on a plane."""
    observed = data(3, 2)
    bound = bind(Improper(), observed)

    def by_hand():
        mean = pyro.sample("mean", dist.ImproperUniform(constraints.real, (), ()))
        spread = pyro.sample("spread", dist.ImproperUniform(constraints.positive, (), ()))
        shift = pyro.sample("shift", dist.ImproperUniform(constraints.real_vector, (), (2,)))
        with pyro.plate("members", 3):
            value = pyro.sample("members.value", dist.Normal(mean, spread).expand([3, 2]).to_event(1))
            pyro.sample("obs", dist.Normal(value + shift, 0.3).to_event(1), obs=observed)

    return Pair(bound, by_hand, subsampled=("members",), improper=True)


def logarithm_of_mean(p):
    return torch.log(p.mean.value)


def product(p):
    return p.gain.value * p.unit.value


class Pointed(Population):
    def __init__(self):
        super().__init__(4)
        self.mean = ck.Param("mean", prior=dist.Gamma(3.0, 1.0))
        self.log_mean = ck.Param("log_mean", logarithm_of_mean, link=self.mean)
        self.unit = ck.Param("unit", 2.0)
        self.gain = ck.Param("gain", prior=dist.LogNormal(0.0, 0.1))
        self.scale = ck.Param("scale", product, link=(self.gain, self.unit))
        self.same = ck.Param("same", self.gain)
        self.members.value.prior = ck.prior(dist.Normal, self.log_mean, scale=self.scale)
        self.shift = ck.Param("shift", prior=ck.prior(dist.Normal, self.same, self.unit))

    @ck.forward
    def observed(self, shift):
        return dist.Normal(ck.vmap(self.members.own)() + shift, 0.3)


def pointers_in_priors():
    """Pointers as means and scales of priors: functions of params, of a fixed one as well, and a mere other name."""
    observed = data(4)
    bound = bind(Pointed(), observed)

    def by_hand():
        mean = pyro.sample("mean", dist.Gamma(3.0, 1.0))
        gain = pyro.sample("gain", dist.LogNormal(0.0, 0.1))
        shift = pyro.sample("shift", dist.Normal(gain, 2.0))
        with pyro.plate("members", 4):
            value = pyro.sample("members.value", dist.Normal(mean.log(), 2 * gain))
            pyro.sample("obs", dist.Normal(value + shift, 0.3), obs=observed)

    return Pair(bound, by_hand, subsampled=("members",))


class Weighted(ck.Module):
    """A member with a vector and a matrix."""

    def __init__(self):
        super().__init__()
        self.value = ck.Param("value", shape=(2,))
        self.weight = ck.Param("weight", shape=(2, 2), prior=dist.Normal(torch.arange(3.0)[:, None, None], 1.0))

    @ck.forward
    def own(self, value, weight):
        return weight @ value


class GivenForMembers(ck.Module):
    def __init__(self):
        super().__init__()
        self.hierarchical_link("members", Weighted(), size=3)
        self.spread = ck.Param("spread", prior=dist.LogNormal(0.0, 1.0))
        self.members.value.prior = ck.prior(dist.Normal, scale=self.spread, loc=torch.arange(6.0).reshape(3, 2))

    @ck.forward
    def observed(self):
        return dist.Normal(ck.vmap(self.members.own)(), 0.3).to_event(1)


def tensors_in_priors():
    """Numbers of each member in priors, beside a param and in a ready-made distribution; and a matrix as a param."""
    observed = data(3, 2)
    bound = bind(GivenForMembers(), observed)

    def by_hand():
        spread = pyro.sample("spread", dist.LogNormal(0.0, 1.0))
        with pyro.plate("members", 3):
            value = pyro.sample("members.value", dist.Normal(torch.arange(6.0).reshape(3, 2), spread).to_event(1))
            around = torch.arange(3.0)[:, None, None].expand(3, 2, 2)
            weight = pyro.sample("members.weight", dist.Normal(around, 1.0).to_event(2))
            mean = torch.einsum("mij,mj->mi", weight, value)
            pyro.sample("obs", dist.Normal(mean, 0.3).to_event(1), obs=observed)

    return Pair(bound, by_hand, subsampled=("members",))


class Wheel(ck.Module):
    def __init__(self):
        super().__init__()
        self.phase = ck.Param("phase", shape=(), valid=(0.0, 2 * math.pi), cyclic=True)
        self.size = ck.Param("size", shape=(), valid=(0.5, 2.0))

    @ck.forward
    def at(self, phase, size):
        return size * torch.stack([torch.cos(phase), torch.sin(phase)], -1)


class Wheels(ck.Module):
    def __init__(self):
        super().__init__()
        self.hierarchical_link("wheels", Wheel(), size=3)
        self.noise = ck.Param("noise", prior=dist.HalfNormal(0.5))

    @ck.forward
    def points(self, noise):
        return dist.Normal(ck.vmap(self.wheels.at)(), noise).to_event(1)


def defaults_of_bounds():
    """No priors but bounds, on a line and on a circle."""
    observed = data(3, 2)
    bound = ck.PyroModel(Wheels().points, dims={"obs": ("wheels",)}).bind(obs=observed)

    def by_hand():
        noise = pyro.sample("noise", dist.HalfNormal(0.5))
        with pyro.plate("wheels", 3):
            phase = pyro.sample("wheels.phase", dist.Uniform(0.0, 2 * math.pi))
            size = pyro.sample("wheels.size", dist.Uniform(0.5, 2.0))
            points = size[:, None] * torch.stack([phase.cos(), phase.sin()], -1)
            pyro.sample("obs", dist.Normal(points, noise).to_event(1), obs=observed)

    return Pair(bound, by_hand, subsampled=("wheels",))


class Directions(ck.Module):
    def __init__(self):
        super().__init__()
        self.hierarchical_link("members", Vector(2), size=3)
        self.mean = ck.Param("mean", valid=(-math.pi, math.pi), cyclic=True, prior=dist.Uniform(-math.pi, math.pi))
        self.sharpness = ck.Param("sharpness", prior=dist.Gamma(2.0, 0.5))
        self.members.value.prior = ck.prior(dist.VonMises, self.mean, self.sharpness)

    @ck.forward
    def observed(self):
        return dist.VonMises(ck.vmap(self.members.own)(), 4.0).to_event(1)


def von_mises():
    """Directions around a mean direction, in a plate, two for each member; the data are directions as well."""
    observed = data(3, 2)
    bound = bind(Directions(), observed)

    def by_hand():
        mean = pyro.sample("mean", dist.Uniform(-math.pi, math.pi))
        sharpness = pyro.sample("sharpness", dist.Gamma(2.0, 0.5))
        with pyro.plate("members", 3):
            value = pyro.sample("members.value", dist.VonMises(mean, sharpness).expand([3, 2]).to_event(1))
            pyro.sample("obs", dist.VonMises(value, 4.0).to_event(1), obs=observed)

    return Pair(bound, by_hand, subsampled=("members",))


PAIRS = {
    pair.__name__: pair
    for pair in (
        correlated,
        heavy_tails,
        dirichlet,
        truncated,
        mixed,
        improper,
        pointers_in_priors,
        tensors_in_priors,
        defaults_of_bounds,
        von_mises,
    )
}
