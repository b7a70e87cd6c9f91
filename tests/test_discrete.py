"""Discrete params summed out: right wherever members can be summed over one by one, and refused elsewhere."""

import itertools

import pyro.distributions as dist
import pytest
import torch

import caskade_pyro as ck
from caskade_pyro.density.log_density import LogDensity

pytestmark = pytest.mark.usefixtures("float64")


class Site(ck.Module):
    def __init__(self):
        super().__init__()
        self.z = ck.Param("z", shape=(), prior=dist.Bernoulli(0.4))

    @ck.forward
    def own(self, z):
        return z


class Region(ck.Module):
    def __init__(self):
        super().__init__()
        self.open = ck.Param("open", shape=(), prior=dist.Bernoulli(0.7))
        site = Site()
        self.hierarchical_link("sites", site, size=2)
        self.share = ck.Param("share", lambda p: 0.1 + 0.6 * p.open.value)
        self.share.link(self.open)
        site.z.prior = ck.prior(dist.Bernoulli, self.share)

    @ck.forward
    def levels(self):
        return ck.vmap(self.sites.own)()


class Sites(ck.Module):
    def __init__(self, size=3):
        super().__init__()
        self.hierarchical_link("sites", Site(), size=size)
        self.hierarchical_link("years", Site(), size=2)
        self.level = ck.Param("level", prior=dist.Normal(0.0, 1.0))
        self.rows = torch.tensor([0, 0, 1, 2, 2])

    @ck.forward
    def both(self):
        return ck.vmap(self.sites.own)(), ck.vmap(self.years.own)()

    @ck.forward
    def alone(self, level):
        return {"a": dist.Normal(level + self.both()[0], 1.0), "b": dist.Normal(level, 1.0)}

    @ck.forward
    def each(self, level):
        sites, years = self.both()
        return {"a": dist.Normal(level + sites, 1.0), "b": dist.Normal(level + years, 1.0)}

    @ck.forward
    def looked_up(self, level):
        places = torch.stack([level, 2 * level + 1])
        return dist.Normal(places[self.both()[0].long()], 1.0)

    @ck.forward
    def long(self, level):
        return dist.Normal(level + self.both()[0][self.rows], 1.0)

    @ck.forward
    def total(self, level):
        return dist.Normal(level + self.both()[0].sum(), 1.0)

    @ck.forward
    def neighbours(self, level):
        sites = self.both()[0]
        return dist.Normal(level + sites + 0.5 * sites.roll(1), 1.0)

    @ck.forward
    def crossed(self, level):
        sites, years = self.both()
        return dist.Normal(level + sites[:, None] + years, 1.0)


class Counted(Sites):
    """With a pointer that counts over all members."""

    def __init__(self):
        super().__init__()
        self.number = ck.Param("number", lambda p: p.z.value.sum(-1))
        self.number.link("z", self.sites.z)

    @ck.forward
    def seen(self, level):
        return dist.Normal(level + self.both()[0], 1.0)


class TiedPrior(Counted):
    """With a prior that depends on the discrete params of all members."""

    def __init__(self):
        super().__init__()
        self.level.shape = ()
        self.level.prior = ck.prior(dist.Normal, self.number, 1.0)


class Regions(ck.Module):
    def __init__(self):
        super().__init__()
        self.hierarchical_link("regions", Region(), size=2)
        self.level = ck.Param("level", prior=dist.Normal(0.0, 1.0))

    @ck.forward
    def nested(self, level):
        return dist.Normal(level + ck.vmap(self.regions.levels)(), 1.0)


def bind(method, dims, *shapes):
    generator = torch.Generator().manual_seed(1)
    values = [torch.randn(shape, generator=generator) for shape in shapes]
    return ck.PyroModel(method, dims=dims).bind(obs=dict(zip(dims, values, strict=True)))


SUMMABLE = {
    "a data set without discrete params": lambda: bind(Sites().alone, {"a": ("sites",), "b": ("k",)}, (3,), (4,)),
    "a data set for each of two plates": lambda: bind(Sites().each, {"a": ("sites",), "b": ("years",)}, (3,), (2,)),
    "through an index": lambda: bind(Sites().looked_up, {"obs": ("sites",)}, (3,)),
    "several data each": lambda: bind(Sites().each, {"a": ("k", "sites"), "b": ("years",)}, (4, 3), (2,)),
    "a pointer over all members": lambda: bind(Counted().seen, {"obs": ("sites",)}, (3,)),
    "plates in plates": lambda: bind(Regions().nested, {"obs": ("regions", "regions.sites")}, (2, 2)),
}


@pytest.mark.parametrize("name", SUMMABLE)
def test_the_density_is_the_sum_over_all_combinations(name):
    """Summed out member by member, discrete params leave the density that the sum over all their combinations gives."""
    bound = SUMMABLE[name]()
    sizes = {site.name: site.draw_shape for site in bound.discrete}
    count = sum(shape.numel() for shape in map(torch.Size, sizes.values()))
    combinations = torch.tensor(list(itertools.product([0.0, 1.0], repeat=count)))
    parts = combinations.split([torch.Size(shape).numel() for shape in sizes.values()], dim=1)
    params = {name: part.reshape(-1, *shape) for (name, shape), part in zip(sizes.items(), parts, strict=True)}
    density = LogDensity(bound)
    for level in (-0.4, 1.3):
        joint = bound.log_density(params | {"level": torch.full((len(combinations),), level)})
        found, _ = density.value_and_grad(torch.tensor([level]))
        torch.testing.assert_close(found, joint.logsumexp(0))


NOT_SUMMABLE = {
    "rows of a long table": (Sites, "long", ("rows",), (5,), r"obs depends on it and lies in rows, not in sites"),
    "dims not named": (
        Sites,
        "looked_up",
        (),
        (3,),
        r"lies in obs_dim_0, not in sites.*dims=\{'obs': \('sites', \.\.\.\)\}",
    ),
    "one number from all": (Sites, "total", (), (), r"obs depends on it and lies in no plate, not in sites"),
    "neighbours": (Sites, "neighbours", ("sites",), (3,), r"obs depends for one member on the sites\.z of others"),
    "crossed plates": (Sites, "crossed", ("sites", "years"), (3, 2), r"sites\.z and years\.z .* sites, years cross"),
    "a prior": (TiedPrior, "seen", ("sites",), (3,), r"level depends on it and lies in no plate, not in sites"),
}


@pytest.mark.parametrize("run", [LogDensity, ck.sample, ck.fit], ids=["LogDensity", "sample", "fit"])
@pytest.mark.parametrize("name", NOT_SUMMABLE)
def test_members_that_matter_together_are_refused(name, run):
    """Where one datum depends on the discrete params of several members, an error says so before anything is sampled."""
    module, method, dims, shape, message = NOT_SUMMABLE[name]
    with pytest.raises(ck.SamplingError, match=message):
        run(bind(getattr(module(), method), {"obs": dims}, shape))


def test_a_count_of_members_is_reported_with_its_draws():
    """A pointer over the discrete params of all members is that of their draws, in the posterior and in predictions."""
    bound = SUMMABLE["a pointer over all members"]()
    posterior = ck.sample(bound, draws=50, tune=50, chains=1, seed=1, progress=False).posterior
    assert posterior["number"].dims == ("chain", "draw")
    assert (posterior["number"] == posterior["sites.z"].sum("sites")).all()
    assert posterior["number"].std() > 0


class Pond(ck.Module):
    """A number of frogs, of which each visit counts some: an N-mixture."""

    def __init__(self):
        super().__init__()
        self.frogs = ck.Param("frogs", shape=())

    @ck.forward
    def own(self, frogs):
        return frogs


class Ponds(ck.Module):
    def __init__(self, most):
        super().__init__()
        pond = Pond()
        self.hierarchical_link("ponds", pond, size=3)
        self.rate = ck.Param("rate", prior=dist.Gamma(2.0, 1.0))
        numbers = torch.arange(most + 1.0)
        self.weights = ck.Param("weights", lambda p: dist.Poisson(p.rate.value).log_prob(numbers), shape=(most + 1,))
        self.weights.link(self.rate)
        pond.frogs.prior = ck.prior(dist.Categorical, logits=self.weights)
        self.seen = ck.Param("seen", 0.4)

    @ck.forward
    def counts(self, seen):
        return dist.Binomial(ck.vmap(self.ponds.own)()[:, None], seen)


def test_counts_that_are_impossible_for_few_individuals():
    """Data that some values of a discrete param make impossible are fitted: the density is the sum over the other values."""
    counts = torch.tensor([[2.0, 1.0], [0.0, 0.0], [3.0, 4.0]])
    bound = ck.PyroModel(Ponds(8).counts, dims={"obs": ("ponds", "visits")}).bind(obs=counts)
    found, _ = ck.LogDensity(bound).value_and_grad(torch.tensor([0.7]))
    rate = torch.tensor(0.7).exp()
    expected = dist.Gamma(2.0, 1.0).log_prob(rate) + 0.7
    weights = dist.Poisson(rate).log_prob(torch.arange(9.0)).softmax(0)
    for row in counts:
        likelihoods = [
            dist.Binomial(n, 0.4).log_prob(row).sum().exp() if n >= row.max() else torch.tensor(0.0) for n in range(9)
        ]
        expected = expected + (weights * torch.stack(likelihoods)).sum().log()
    torch.testing.assert_close(found, expected)
    posterior = ck.sample(bound, draws=50, tune=100, chains=1, seed=1, progress=False).posterior
    assert (posterior["ponds.frogs"].min(("chain", "draw")).values >= counts.numpy().max(1)).all()


class Several(ck.Module):
    def __init__(self):
        super().__init__()
        self.z = ck.Param("z", shape=(3,), prior=dist.Bernoulli(0.4))
        self.level = ck.Param("level", prior=dist.Normal(0.0, 1.0))

    @ck.forward
    def data(self, z, level):
        return dist.Normal(level + z, 1.0)


def test_several_discrete_values_in_one_param_are_refused():
    """A discrete param that holds several values is refused with the advice to make a plate of them."""
    with pytest.raises(ck.SamplingError, match=r"The discrete z has shape \(3,\).*hierarchical_link\(\.\.\., size=n\)"):
        ck.sample(ck.PyroModel(Several().data).bind(obs=torch.zeros(3)))
