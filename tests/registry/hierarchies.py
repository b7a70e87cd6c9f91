"""Plates in plates: one to four deep."""

import pyro
import pyro.distributions as dist
import torch

import caskade_pyro as ck

from .pair import Pair, data


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

    return Pair(bound, by_hand, subsampled=("galaxies",))


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

    return Pair(bound, by_hand, subsampled=("schools", "schools.pupils"))


class Leaf(ck.Module):
    def __init__(self):
        super().__init__()
        self.size = ck.Param("size", shape=(2,))

    @ck.forward
    def own(self, size):
        return size


def twice_the_spread(p):
    return 2 * p.spread.value


class Branch(ck.Module):
    def __init__(self, leaf):
        super().__init__()
        self.hierarchical_link("leaves", leaf, size=4)
        self.mean = ck.Param("mean", shape=(2,))
        self.spread = ck.Param("spread", shape=(), prior=dist.Gamma(2.0, 1.0))
        # Twice the spread, as a function of a param of each branch.
        self.scale = ck.Param("scale", twice_the_spread, link=self.spread)
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

    return Pair(bound, by_hand, subsampled=names)


class DistrictByPupils(District):
    @ck.forward
    def by_pupils(self, noise):
        return dist.Normal(ck.vmap(self.schools.scores)().T, noise)


def nested_transposed():
    """The same as `two_nested`, but the data have the pupils as their rows; outer plates still lie further left."""
    scores = data(5, 3)
    bound = ck.PyroModel(DistrictByPupils(3, 5).by_pupils, dims={"obs": ("schools.pupils", "schools")}).bind(obs=scores)

    def by_hand():
        mean = pyro.sample("mean", dist.Normal(0.0, 5.0))
        scatter = pyro.sample("scatter", dist.HalfCauchy(2.0))
        noise = pyro.sample("noise", dist.HalfNormal(1.0))
        with pyro.plate("schools", 3, dim=-3):
            effect = pyro.sample("schools.effect", dist.Normal(mean, scatter))
            spread = pyro.sample("schools.spread", dist.LogNormal(0.0, 0.5))
            with pyro.plate("schools.pupils", 5, dim=-2):
                ability = pyro.sample("schools.pupils.ability", dist.Normal(effect, spread))
                pyro.sample("obs", dist.Normal(ability, noise), obs=scores.T[..., None])

    return Pair(bound, by_hand, subsampled=("schools", "schools.pupils"))


class Level(ck.Module):
    """A level of a chain of plates: something of its own around that of the level above."""

    def __init__(self, below=None):
        super().__init__()
        self.value = ck.Param("value", shape=())
        if below is not None:
            self.hierarchical_link("below", below, size=2)
            below.value.prior = ck.prior(dist.Normal, self.value, 1.0)

    @ck.forward
    def innermost(self, value):
        return ck.vmap(self.below.innermost)() if "below" in self.children else value


class Chain(ck.Module):
    def __init__(self):
        super().__init__()
        top = Level(Level(Level(Level())))
        self.hierarchical_link("top", top, size=3)
        top.value.prior = dist.Normal(0.0, 3.0)
        self.noise = ck.Param("noise", prior=dist.Exponential(2.0))

    @ck.forward
    def innermost(self, noise):
        return dist.Laplace(ck.vmap(self.top.innermost)(), noise)


def four_nested():
    """Four plates in each other, each level with the one above as its mean."""
    observed = data(3, 2, 2, 2)
    names = ("top", "top.below", "top.below.below", "top.below.below.below")
    bound = ck.PyroModel(Chain().innermost, dims={"obs": names}).bind(obs=observed)

    def by_hand():
        noise = pyro.sample("noise", dist.Exponential(2.0))
        with pyro.plate(names[0], 3, dim=-4):
            first = pyro.sample("top.value", dist.Normal(0.0, 3.0))
            with pyro.plate(names[1], 2, dim=-3):
                second = pyro.sample("top.below.value", dist.Normal(first, 1.0))
                with pyro.plate(names[2], 2, dim=-2):
                    third = pyro.sample("top.below.below.value", dist.Normal(second, 1.0))
                    with pyro.plate(names[3], 2, dim=-1):
                        fourth = pyro.sample("top.below.below.below.value", dist.Normal(third, 1.0))
                        pyro.sample("obs", dist.Laplace(fourth, noise), obs=observed)

    return Pair(bound, by_hand, subsampled=names)


PAIRS = {pair.__name__: pair for pair in (one_plate, two_nested, nested_transposed, three_nested, four_nested)}
