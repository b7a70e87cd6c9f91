"""Params between bounds without a prior, and on circles."""

import math

import pyro
import pyro.distributions as dist
import torch

import caskade_pyro as ck

from .pair import Pair, data
from .priors import Vector, bind


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


PAIRS = {pair.__name__: pair for pair in (defaults_of_bounds, von_mises)}
