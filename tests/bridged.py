"""Bridged models beside the same models written by hand in Pyro: the registry that several tests run through.

Each entry is a function that returns a bound model and a hand-written one with the same data and site names.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import torch

import caskade_pyro as ck


@dataclass(frozen=True)
class Pair:
    """A bridged model and its twin; ``by_hand`` has sites of the same names and shapes."""

    bound: ck.BoundModel
    by_hand: Callable


def data(*shape):
    """Data of a shape, always the same."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


class Galaxy(ck.Module):
    """One round galaxy of the design document."""

    def __init__(self, name=None):
        super().__init__(name)
        self.x0 = ck.Param("x0", shape=(2,), prior=dist.Normal(0.0, 1.0), units="pixel")
        self.log_sigma = ck.Param("log_sigma", shape=())
        self.log_I0 = ck.Param("log_I0", shape=())

    @ck.forward
    def stamp(self, x, y, x0, log_sigma, log_I0):
        r2 = (x - x0[0]) ** 2 + (y - x0[1]) ** 2
        return torch.exp(log_I0 - r2 / (2 * torch.exp(2 * log_sigma)))


class Survey(ck.Module):
    """The design document's survey of galaxies."""

    def __init__(self, galaxy, n):
        super().__init__()
        self.hierarchical_link("galaxies", galaxy, size=n)
        self.mean = ck.Param("mean", prior=dist.Normal(0.7, 0.5))
        self.scatter = ck.Param("scatter", prior=dist.HalfNormal(0.5))
        galaxy.log_sigma.prior = ck.prior(dist.Normal, self.mean, self.scatter)
        galaxy.log_I0.prior = dist.Normal(4.5, 1.0)
        self.noise = ck.Param("noise", prior=dist.HalfNormal(10.0))

    @ck.forward
    def stamps(self, x, y, noise):
        images = ck.vmap(self.galaxies.stamp)(x, y)
        return dist.Normal(images, noise).to_event(2)


def axes():
    """The pixel axes of a 7 x 7 stamp."""
    return torch.meshgrid(torch.linspace(-3, 3, 7), torch.linspace(-3, 3, 7), indexing="xy")


def one_plate():
    """Galaxies in a survey: a plate with hyperparameters and a two-component param."""
    X, Y = axes()
    stamps = data(4, 7, 7)
    bound = ck.PyroModel(Survey(Galaxy(), 4).stamps, dims={"obs": ("galaxies",)}).bind(X, Y, obs=stamps)

    def by_hand():
        mean = pyro.sample("mean", dist.Normal(0.7, 0.5))
        scatter = pyro.sample("scatter", dist.HalfNormal(0.5))
        noise = pyro.sample("noise", dist.HalfNormal(10.0))
        with pyro.plate("galaxies", 4):
            x0 = pyro.sample("galaxies.x0", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
            log_sigma = pyro.sample("galaxies.log_sigma", dist.Normal(mean, scatter))
            log_I0 = pyro.sample("galaxies.log_I0", dist.Normal(4.5, 1.0))
            r2 = (X - x0[:, 0, None, None]) ** 2 + (Y - x0[:, 1, None, None]) ** 2
            image = torch.exp(log_I0[:, None, None] - r2 / (2 * torch.exp(2 * log_sigma[:, None, None])))
            pyro.sample("obs", dist.Normal(image, noise).to_event(2), obs=stamps)

    return Pair(bound, by_hand)


class Pupil(ck.Module):
    def __init__(self):
        super().__init__()
        self.ability = ck.Param("ability", shape=())

    @ck.forward
    def score(self, ability, effect):
        return ability + effect


class School(ck.Module):
    def __init__(self, pupils):
        super().__init__()
        pupil = Pupil()
        self.hierarchical_link("pupils", pupil, size=pupils)
        self.effect = ck.Param("effect", shape=())
        self.spread = ck.Param("spread", shape=(), prior=dist.LogNormal(0.0, 0.5))
        pupil.ability.prior = ck.prior(dist.Normal, self.effect, self.spread)

    @ck.forward
    def scores(self):
        return ck.vmap(self.pupils.own)()


class OwnPupil(Pupil):
    @ck.forward
    def own(self, ability):
        return ability


class District(ck.Module):
    def __init__(self, schools, pupils):
        super().__init__()
        school = School(pupils)
        school.unlink("pupils")
        pupil = OwnPupil()
        school.hierarchical_link("pupils", pupil, size=pupils)
        pupil.ability.prior = ck.prior(dist.Normal, school.effect, school.spread)
        self.hierarchical_link("schools", school, size=schools)
        self.mean = ck.Param("mean", prior=dist.Normal(0.0, 5.0))
        self.scatter = ck.Param("scatter", prior=dist.HalfCauchy(2.0))
        school.effect.prior = ck.prior(dist.Normal, self.mean, scale=self.scatter)
        self.noise = ck.Param("noise", prior=dist.HalfNormal(1.0))

    @ck.forward
    def scores(self, noise):
        return dist.Normal(ck.vmap(self.schools.scores)(), noise)


def two_nested():
    """Pupils in schools in a district: two plates, one inside the other."""
    scores = data(3, 5)
    bound = ck.PyroModel(District(3, 5).scores, dims={"obs": ("schools", "schools.pupils")}).bind(obs=scores)

    def by_hand():
        mean = pyro.sample("mean", dist.Normal(0.0, 5.0))
        scatter = pyro.sample("scatter", dist.HalfCauchy(2.0))
        noise = pyro.sample("noise", dist.HalfNormal(1.0))
        with pyro.plate("schools", 3, dim=-2):
            effect = pyro.sample("schools.effect", dist.Normal(mean, scatter))
            spread = pyro.sample("schools.spread", dist.LogNormal(0.0, 0.5))
            with pyro.plate("schools.pupils", 5, dim=-1):
                ability = pyro.sample("schools.pupils.ability", dist.Normal(effect, spread))
                pyro.sample("obs", dist.Normal(ability, noise), obs=scores)

    return Pair(bound, by_hand)


class Line(ck.Module):
    def __init__(self):
        super().__init__()
        self.slope = ck.Param("slope", shape=())
        self.offset = ck.Param("offset", shape=())

    @ck.forward
    def at(self, x, slope, offset):
        return offset + slope * x


class Lines(ck.Module):
    """Lines with their own offsets and one slope, which is owned outside and pointed to from inside."""

    def __init__(self, n):
        super().__init__()
        line = Line()
        self.hierarchical_link("lines", line, size=n)
        self.slope = ck.Param("slope", prior=dist.Normal(0.0, 1.0))
        self.mean = ck.Param("mean", prior=dist.Normal(0.0, 1.0))
        line.slope = self.slope
        line.offset.prior = ck.prior(dist.Normal, self.mean, 0.7)

    @ck.forward
    def points(self, x):
        return dist.StudentT(4.0, ck.vmap(self.lines.at, in_dims=0)(x), 0.5)


def shared_param():
    """A param that all members share, and inputs that differ between members."""
    x, y = data(6, 9).abs(), data(6, 9)
    bound = ck.PyroModel(Lines(6).points, dims={"obs": ("lines",)}).bind(x, obs=y)

    def by_hand():
        slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        points = pyro.plate("obs_dim_1", 9, dim=-1)
        with pyro.plate("lines", 6, dim=-2):
            offset = pyro.sample("lines.offset", dist.Normal(mean, 0.7))
            with points:
                pyro.sample("obs", dist.StudentT(4.0, offset + slope * x, 0.5), obs=y)

    return Pair(bound, by_hand)


class Blob(ck.Module):
    def __init__(self):
        super().__init__()
        self.height = ck.Param("height", shape=(), prior=dist.Normal(1.0, 1.0))
        self.width = ck.Param("width", shape=(), prior=dist.LogNormal(0.0, 0.3))

    @ck.forward
    def at(self, x, height, width):
        return height * torch.exp(-((x / width) ** 2))


class Blobs(ck.Module):
    def __init__(self):
        super().__init__("experiment")
        blob = Blob()
        self.hierarchical_link("blobs", blob)
        self.noise = ck.Param("noise", shape=(), prior=dist.HalfNormal(1.0), batch_shape=(3,))
        blob.height.batch_shape = (3, 4)
        blob.width.batch_shape = (4,)

    @ck.forward
    def profile(self, x, noise):
        return dist.Normal(ck.vmap(self.blobs.at)(x).sum(0), noise)


def outer_batch():
    """Three replicates of a model with a plate of four: one param in both, one in the plate, one in the replicates."""
    x, y = torch.linspace(-1, 1, 8), data(3, 8)
    bound = ck.PyroModel(Blobs().profile).bind(x, obs=y)

    def by_hand():
        blobs = pyro.plate("blobs", 4, dim=-1)
        with pyro.plate("experiment", 3, dim=-2):
            noise = pyro.sample("noise", dist.HalfNormal(1.0))
            with blobs:
                height = pyro.sample("blobs.height", dist.Normal(1.0, 1.0))
        with blobs:
            width = pyro.sample("blobs.width", dist.LogNormal(0.0, 0.3))
        profile = (height[..., None] * torch.exp(-((x / width[..., None]) ** 2))).sum(1)
        with pyro.plate("experiment_again", 3, dim=-2), pyro.plate("obs_dim_0", 8, dim=-1):
            pyro.sample("obs", dist.Normal(profile, noise), obs=y)

    return Pair(bound, by_hand)


class TwoInstruments(ck.Module):
    def __init__(self, n):
        super().__init__()
        line = Line()
        self.hierarchical_link("stars", line, size=n)
        line.slope.prior = dist.Normal(0.0, 2.0)
        self.zero = ck.Param("zero", prior=dist.Normal(0.0, 1.0))
        line.offset.prior = ck.prior(dist.Normal, self.zero, 1.0)
        self.noise = ck.Param("noise", prior=dist.HalfNormal(1.0))

    @ck.forward
    def both(self, x, noise):
        curves = ck.vmap(self.stars.at)(x)
        return {
            "photometry": dist.Normal(curves, noise),
            "counts": dist.Poisson(torch.exp(curves.mean(-1) / 4)),
        }


def two_data_sets():
    """Two data sets with one noise, the one with a data plate beside that of the graph, the other without."""
    x = torch.linspace(0, 1, 7)
    photometry, counts = data(5, 7), torch.tensor([0.0, 3.0, 1.0, 2.0, 5.0])
    dims = {"photometry": ("stars", "epochs"), "counts": ("stars",)}
    bound = ck.PyroModel(TwoInstruments(5).both, dims=dims).bind(x, obs={"photometry": photometry, "counts": counts})

    def by_hand():
        zero = pyro.sample("zero", dist.Normal(0.0, 1.0))
        noise = pyro.sample("noise", dist.HalfNormal(1.0))
        epochs = pyro.plate("epochs", 7, dim=-1)
        with pyro.plate("stars", 5, dim=-2):
            slope = pyro.sample("stars.slope", dist.Normal(0.0, 2.0))
            offset = pyro.sample("stars.offset", dist.Normal(zero, 1.0))
            curves = offset + slope * x
            with epochs:
                pyro.sample("photometry", dist.Normal(curves, noise), obs=photometry)
            pyro.sample("counts", dist.Poisson(torch.exp(curves.mean(-1, keepdim=True) / 4)), obs=counts[:, None])

    return Pair(bound, by_hand)


class Person(ck.Module):
    def __init__(self):
        super().__init__()
        self.ability = ck.Param("ability", shape=())

    @ck.forward
    def own(self, ability):
        return ability


class Item(ck.Module):
    def __init__(self):
        super().__init__()
        self.difficulty = ck.Param("difficulty", shape=())
        self.weight = ck.Param("weight", shape=())

    @ck.forward
    def own(self, difficulty, weight):
        return difficulty, weight


class Exam(ck.Module):
    """Persons and items: crossed plates, priors given for each member, and a constant for each item."""

    def __init__(self, persons, items):
        super().__init__()
        person, item = Person(), Item()
        self.hierarchical_link("persons", person, size=persons)
        self.hierarchical_link("items", item, size=items)
        self.spread = ck.Param("spread", prior=dist.HalfNormal(1.0))
        person.ability.prior = ck.prior(dist.Normal, torch.linspace(-1, 1, persons), self.spread)
        item.difficulty.prior = dist.Normal(torch.linspace(0, 1, items), 1.0)
        item.weight = torch.linspace(0.5, 1.5, items)
        item.weight.to_static()

    @ck.forward
    def answers(self):
        ability = ck.vmap(self.persons.own)()
        difficulty, weight = ck.vmap(self.items.own)()
        return dist.Bernoulli(logits=weight * (ability[:, None] - difficulty))


def crossed():
    """Answers of persons to items: two plates beside each other, both in the data."""
    answers = (data(4, 3) > 0).to(torch.get_default_dtype())
    bound = ck.PyroModel(Exam(4, 3).answers, dims={"obs": ("persons", "items")}).bind(obs=answers)

    def by_hand():
        spread = pyro.sample("spread", dist.HalfNormal(1.0))
        persons, items = pyro.plate("persons", 4, dim=-2), pyro.plate("items", 3, dim=-1)
        with persons:
            ability = pyro.sample("persons.ability", dist.Normal(torch.linspace(-1, 1, 4)[:, None], spread))
        with items:
            difficulty = pyro.sample("items.difficulty", dist.Normal(torch.linspace(0, 1, 3), 1.0))
        with persons, items:
            logits = torch.linspace(0.5, 1.5, 3) * (ability - difficulty)
            pyro.sample("obs", dist.Bernoulli(logits=logits), obs=answers)

    return Pair(bound, by_hand)


class Leaf(ck.Module):
    def __init__(self):
        super().__init__()
        self.size = ck.Param("size", shape=(2,))

    @ck.forward
    def own(self, size):
        return size


class Branch(ck.Module):
    def __init__(self, leaf):
        super().__init__()
        self.hierarchical_link("leaves", leaf, size=4)
        self.mean = ck.Param("mean", shape=(2,))
        self.spread = ck.Param("spread", shape=(), prior=dist.Gamma(2.0, 1.0))
        # Twice the spread, as a function of a param of each branch.
        self.scale = ck.Param("scale", lambda p: 2 * p.spread.value, link=self.spread)
        leaf.size.prior = ck.prior(dist.Normal, self.mean, self.scale)

    @ck.forward
    def own(self):
        return ck.vmap(self.leaves.own)()


class Tree(ck.Module):
    def __init__(self, branch):
        super().__init__()
        self.hierarchical_link("branches", branch, size=3)
        self.mean = ck.Param("mean", shape=(2,), prior=dist.Normal(0.0, 1.0))
        branch.mean.prior = ck.prior(
            dist.MultivariateNormal, self.mean, scale_tril=torch.tensor([[1.0, 0.0], [0.5, 1.0]])
        )

    @ck.forward
    def own(self):
        return ck.vmap(self.branches.own)()


class Forest(ck.Module):
    def __init__(self):
        super().__init__()
        self.hierarchical_link("trees", Tree(Branch(Leaf())), size=2)

    @ck.forward
    def sizes(self):
        return dist.Normal(ck.vmap(self.trees.own)(), 0.3).to_event(1)


def three_nested():
    """Leaves on branches of trees: vectors, a multivariate prior, and a pointer of each branch as a scale."""
    sizes = data(2, 3, 4, 2)
    names = ("trees", "trees.branches", "trees.branches.leaves")
    bound = ck.PyroModel(Forest().sizes, dims={"obs": names}).bind(obs=sizes)

    def by_hand():
        with pyro.plate("trees", 2, dim=-3):
            top = pyro.sample("trees.mean", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
            with pyro.plate("trees.branches", 3, dim=-2):
                tril = torch.tensor([[1.0, 0.0], [0.5, 1.0]])
                mean = pyro.sample("trees.branches.mean", dist.MultivariateNormal(top, scale_tril=tril))
                spread = pyro.sample("trees.branches.spread", dist.Gamma(2.0, 1.0))
                with pyro.plate("trees.branches.leaves", 4, dim=-1):
                    prior = dist.Normal(mean, 2 * spread[..., None]).to_event(1)
                    size = pyro.sample("trees.branches.leaves.size", prior)
                    pyro.sample("obs", dist.Normal(size, 0.3).to_event(1), obs=sizes)

    return Pair(bound, by_hand)


PAIRS = {
    pair.__name__: pair
    for pair in (one_plate, two_nested, shared_param, outer_batch, two_data_sets, crossed, three_nested)
}
