"""What simulators do themselves: sites of their own, factors, live params, pointers; discrete params; another package."""

import caskade
import pyro
import pyro.distributions as dist
import torch

import caskade_pyro as ck

from .pair import Pair, data
from .priors import Vector


class OwnSites(ck.Module):
    """A simulator with random effects of its own, and a factor that a distribution could not say."""

    def __init__(self):
        super().__init__()
        self.hierarchical_link("members", Vector(), size=3)
        self.level = ck.Param("level", prior=dist.Normal(0.0, 1.0))
        self.members.value.prior = ck.prior(dist.Normal, self.level, 0.5)

    @ck.forward
    def observed(self, level):
        values = ck.vmap(self.members.own)()
        jitter = pyro.sample("jitter", dist.Gamma(2.0, 4.0))
        with pyro.plate("shots", 4):
            shots = pyro.sample("shot", dist.Normal(0.0, jitter))
        pyro.sample("anchor", dist.Normal(level, 0.1), obs=torch.tensor(0.2))
        pyro.factor("sum_to_zero", -10 * values.sum() ** 2)
        return dist.Normal(values[:, None] + shots, 0.5)


def sites_of_the_simulator():
    """A simulator that samples, in a plate of its own too, observes and adds a factor."""
    observed = data(3, 4)
    bound = ck.PyroModel(OwnSites().observed, dims={"obs": ("members",)}).bind(obs=observed)

    def by_hand():
        level = pyro.sample("level", dist.Normal(0.0, 1.0))
        members = pyro.plate("members", 3, dim=-2)
        with members:
            value = pyro.sample("members.value", dist.Normal(level, 0.5))
        jitter = pyro.sample("jitter", dist.Gamma(2.0, 4.0))
        with pyro.plate("shots", 4, dim=-1):
            shots = pyro.sample("shot", dist.Normal(0.0, jitter))
        pyro.sample("anchor", dist.Normal(level, 0.1), obs=torch.tensor(0.2))
        pyro.factor("sum_to_zero", -10 * value.sum() ** 2)
        with members, pyro.plate("obs_dim_1", 4, dim=-1):
            pyro.sample("obs", dist.Normal(value + shots, 0.5), obs=observed)

    return Pair(bound, by_hand, subsampled=("obs_dim_1",), one_by_one=True)


def twice_the_mass(p):
    return 2 * p.mass.value


def total(p):
    return p.weight.value.sum(-1)


class Star(ck.Module):
    """A star whose temperature the simulator computes and passes on as a live param."""

    def __init__(self):
        super().__init__()
        self.mass = ck.Param("mass", shape=(), prior=dist.LogNormal(0.0, 0.3))
        self.weight = ck.Param("weight", twice_the_mass, link=self.mass)

    @ck.forward
    def own(self, weight):
        return weight


class Cluster(ck.Module):
    def __init__(self):
        super().__init__()
        star = Star()
        self.hierarchical_link("stars", star, size=3)
        self.age = ck.Param("age", prior=dist.Gamma(2.0, 1.0), units="Gyr")
        self.young = ck.Param("young", reciprocal_of_age, link=self.age)
        self.brightness = ck.Param("brightness", shape=(2,))
        self.brightness.to_static(None)

    @ck.forward
    def seen(self, young):
        weights = ck.vmap(self.stars.own)()
        self.brightness = torch.stack([young, young * weights.sum()])
        return dist.Normal(self.bands(), 1.0).to_event(1)

    @ck.forward
    def bands(self, brightness):
        return brightness


def reciprocal_of_age(p):
    return 1 / p.age.value


def pointers_and_live_params():
    """Pointers, in a plate and outside of it, and a live param are reported beside the params."""
    observed = data(2)
    bound = ck.PyroModel(Cluster().seen).bind(obs=observed)

    def by_hand():
        age = pyro.sample("age", dist.Gamma(2.0, 1.0))
        with pyro.plate("stars", 3):
            mass = pyro.sample("stars.mass", dist.LogNormal(0.0, 0.3))
            weight = pyro.deterministic("stars.weight", 2 * mass)
        young = pyro.deterministic("young", 1 / age)
        total = (2 * mass).sum(-1)
        brightness = pyro.deterministic("brightness", torch.stack([young, young * total], -1), event_dim=1)
        pyro.sample("obs", dist.Normal(brightness, 1.0).to_event(1), obs=observed)
        return weight

    return Pair(bound, by_hand)


class Kind(ck.Module):
    """A member of one of two kinds, nobody knows which."""

    def __init__(self):
        super().__init__()
        self.kind = ck.Param("kind", shape=())

    @ck.forward
    def own(self, kind):
        return kind


class Sample(ck.Module):
    def __init__(self):
        super().__init__()
        self.hierarchical_link("members", Kind(), size=4)
        self.share = ck.Param("share", prior=dist.Beta(2.0, 2.0))
        self.places = ck.Param("places", shape=(2,), prior=dist.Normal(torch.tensor([-1.0, 2.0]), 1.0))
        self.members.kind.prior = ck.prior(dist.Bernoulli, self.share)

    @ck.forward
    def observed(self, places):
        kinds = ck.vmap(self.members.own)()
        return dist.Normal(torch.where(kinds == 1, places[1], places[0]), 0.5)


def discrete_in_a_plate():
    """A discrete param of each member of a plate: a mixture said by its parts."""
    observed = data(4)
    bound = ck.PyroModel(Sample().observed, dims={"obs": ("members",)}).bind(obs=observed)

    def by_hand():
        share = pyro.sample("share", dist.Beta(2.0, 2.0))
        places = pyro.sample("places", dist.Normal(torch.tensor([-1.0, 2.0]), 1.0).to_event(1))
        with pyro.plate("members", 4):
            kind = pyro.sample("members.kind", dist.Bernoulli(share))
            place = torch.where(kind == 1, places[..., 1], places[..., 0])
            pyro.sample("obs", dist.Normal(place, 0.5), obs=observed)

    return Pair(bound, by_hand, subsampled=("members",))


class Regime(ck.Module):
    def __init__(self):
        super().__init__()
        self.hierarchical_link("members", Vector(), size=3)
        self.regime = ck.Param("regime", prior=dist.Categorical(torch.tensor([0.2, 0.3, 0.5])))
        self.level = ck.Param("level", prior=dist.Normal(0.0, 1.0))
        self.members.value.prior = ck.prior(dist.Normal, self.level, 1.0)

    @ck.forward
    def observed(self, regime):
        scale = 0.5 + regime
        return dist.Normal(ck.vmap(self.members.own)()[:, None], scale)


def discrete_global():
    """One discrete param of the whole model, among three values."""
    observed = data(3, 2)
    bound = ck.PyroModel(Regime().observed, dims={"obs": ("members",)}).bind(obs=observed)

    def by_hand():
        regime = pyro.sample("regime", dist.Categorical(torch.tensor([0.2, 0.3, 0.5])))
        level = pyro.sample("level", dist.Normal(0.0, 1.0))
        with pyro.plate("members", 3, dim=-2):
            value = pyro.sample("members.value", dist.Normal(level, 1.0))
            with pyro.plate("obs_dim_1", 2, dim=-1):
                pyro.sample("obs", dist.Normal(value, 0.5 + regime), obs=observed)

    return Pair(bound, by_hand, subsampled=("members", "obs_dim_1"))


class UpstreamLine(caskade.Module):
    def __init__(self):
        super().__init__("line")
        self.slope = caskade.Param("slope", shape=(), valid=(-2.0, 2.0))
        self.offset = caskade.Param("offset", shape=())

    @caskade.forward
    def at(self, x, slope, offset):
        return offset + slope * x


class UpstreamLines(caskade.Module):
    def __init__(self):
        super().__init__("lines")
        line = UpstreamLine()
        self.hierarchical_link("line", line)
        self.noise = caskade.Param("noise", shape=())
        self.mean = caskade.Param("mean", shape=())
        line.slope.batch_shape = line.offset.batch_shape = (3,)
        self.noise.prior = dist.HalfNormal(1.0)
        self.mean.prior = dist.Normal(0.0, 1.0)
        line.offset.prior = ck.prior(dist.Normal, self.mean, 1.0)

    @caskade.forward
    def points(self, x, noise, line_params, line_dims):
        curves = torch.vmap(self.line.at, in_dims=(None, line_dims))(x, line_params)
        return dist.Normal(curves, noise)


def module_of_caskade():
    """A module of the package `caskade`, as it is, in its own way of mapping over members."""
    x, observed = torch.linspace(0, 1, 4), data(3, 4)
    bound = ck.PyroModel(UpstreamLines().points, dims={"obs": ("line",)}).bind(x, obs=observed)

    def by_hand():
        noise = pyro.sample("noise", dist.HalfNormal(1.0))
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("line", 3, dim=-2):
            slope = pyro.sample("line.slope", dist.Uniform(-2.0, 2.0))
            offset = pyro.sample("line.offset", dist.Normal(mean, 1.0))
            with pyro.plate("obs_dim_1", 4, dim=-1):
                pyro.sample("obs", dist.Normal(offset + slope * x, noise), obs=observed)

    return Pair(bound, by_hand, subsampled=("line", "obs_dim_1"))


PAIRS = {
    pair.__name__: pair
    for pair in (
        sites_of_the_simulator,
        pointers_and_live_params,
        discrete_in_a_plate,
        discrete_global,
        module_of_caskade,
    )
}
