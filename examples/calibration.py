"""Does inference give back what a model puts in? Simulation-based calibration of four kinds of hierarchy.

    python examples/calibration.py [--simulations 300] [--out calibration_output]

For each model, params are drawn from the priors and data from the params, hundreds of times, and inferred again with
NUTS. Where inference is right, the true params are spread evenly among the draws. The last model is wrong on purpose:
it takes the noise to be half of what it is.
"""

import argparse
import math
from pathlib import Path

import matplotlib as mpl
import pyro.distributions as dist
import torch

import caskade_pyro as ck


class School(ck.Module):
    """One school of a study: its effect, estimated with an error."""

    def __init__(self):
        super().__init__()
        self.effect = ck.Param("effect", shape=())

    @ck.forward
    def estimate(self, error, effect):
        return dist.Normal(effect, error)


class Study(ck.Module):
    """Schools in one plate, whose effects come from one population."""

    def __init__(self, n, error):
        super().__init__()
        school = School()
        self.hierarchical_link("schools", school, size=n)
        self.mean = ck.Param("mean", prior=dist.Normal(0.0, 1.0))
        self.scatter = ck.Param("scatter", prior=dist.HalfNormal(1.0))
        self.error = error
        school.effect.prior = ck.prior(dist.Normal, self.mean, self.scatter)

    @ck.forward
    def estimates(self):
        return ck.vmap(self.schools.estimate)(self.error)


class Pupil(ck.Module):
    """One pupil."""

    def __init__(self):
        super().__init__()
        self.ability = ck.Param("ability", shape=())

    @ck.forward
    def own(self, ability):
        return ability


class Class(ck.Module):
    """Pupils of one class."""

    def __init__(self, pupils):
        super().__init__()
        pupil = Pupil()
        self.hierarchical_link("pupils", pupil, size=pupils)
        self.level = ck.Param("level", shape=())
        pupil.ability.prior = ck.prior(dist.Normal, self.level, 0.7)

    @ck.forward
    def own(self):
        return ck.vmap(self.pupils.own)()


class Grade(ck.Module):
    """Classes, and pupils in them: a plate inside a plate."""

    def __init__(self, classes, pupils):
        super().__init__()
        one = Class(pupils)
        self.hierarchical_link("classes", one, size=classes)
        self.mean = ck.Param("mean", prior=dist.Normal(0.0, 1.0))
        self.scatter = ck.Param("scatter", prior=dist.LogNormal(-0.5, 0.5))
        one.level.prior = ck.prior(dist.Normal, self.mean, self.scatter)

    @ck.forward
    def scores(self):
        return dist.Normal(ck.vmap(self.classes.own)(), 0.5)


class Effect(ck.Module):
    """The effect of a person, or of an item."""

    def __init__(self):
        super().__init__()
        self.effect = ck.Param("effect", shape=())

    @ck.forward
    def own(self, effect):
        return effect


class Exam(ck.Module):
    """Persons and items, crossed; each person answers each item."""

    def __init__(self, persons, items):
        super().__init__()
        person, item = Effect(), Effect()
        self.hierarchical_link("persons", person, size=persons)
        self.hierarchical_link("items", item, size=items)
        self.spread = ck.Param("spread", prior=dist.HalfNormal(1.0))
        person.effect.prior = ck.prior(dist.Normal, 0.0, self.spread)
        item.effect.prior = dist.Normal(0.0, 1.0)

    @ck.forward
    def answers(self):
        ability, difficulty = ck.vmap(self.persons.own)(), ck.vmap(self.items.own)()
        return dist.Bernoulli(logits=ability[:, None] - difficulty)


class Wave(ck.Module):
    """A wave whose phase lies on a circle."""

    def __init__(self):
        super().__init__()
        self.amplitude = ck.Param("amplitude", prior=dist.LogNormal(0.0, 0.3))
        self.phase = ck.Param("phase", cyclic=True, valid=(0.0, 2 * math.pi), units="rad")

    @ck.forward
    def height(self, t, amplitude, phase):
        return dist.Normal(amplitude * torch.sin(t + phase), 1.0)


def one_plate(error=1.0):
    """Eight schools."""
    return ck.PyroModel(Study(8, error).estimates, dims={"obs": ("schools",)}).bind(obs=torch.zeros(8))


def nested():
    """Four classes of three pupils."""
    model = ck.PyroModel(Grade(4, 3).scores, dims={"obs": ("classes", "classes.pupils")})
    return model.bind(obs=torch.zeros(4, 3))


def crossed():
    """Six persons and five items."""
    return ck.PyroModel(Exam(6, 5).answers, dims={"obs": ("persons", "items")}).bind(obs=torch.zeros(6, 5))


def cyclic():
    """Six points of a wave, one of them missing."""
    heights = torch.zeros(6)
    heights[2] = math.nan
    return ck.PyroModel(Wave().height).bind(torch.linspace(0, 5, 6), obs=heights)


MODELS = {"one_plate": one_plate, "nested": nested, "crossed": crossed, "cyclic": cyclic}


def calibrate(name, simulations, seed=1):
    """The calibration of one of the models; of ``wrong``, which infers with half of the noise."""
    if name == "wrong":
        return ck.calibrate(one_plate(), simulations, fitted=one_plate(error=0.5), seed=seed)
    return ck.calibrate(MODELS[name](), simulations, seed=seed)


def main():
    """Calibrate all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("calibration_output"))
    options = parser.parse_args()
    mpl.use("agg")
    options.out.mkdir(exist_ok=True)
    for name in (*MODELS, "wrong"):
        found = calibrate(name, options.simulations)
        print(f"{name:10} {found}")
        found.plot().savefig(options.out / f"{name}.png", dpi=150)


if __name__ == "__main__":
    main()
