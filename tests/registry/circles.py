"""Params between bounds without a prior, and on circles."""

import math
from typing import ClassVar

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


class Ellipse(ck.Module):
    def __init__(self):
        super().__init__()
        self.angle = ck.Param("angle", shape=(), valid=(0.0, math.pi), cyclic=True)

    @ck.forward
    def axes(self, angle):
        return torch.stack([torch.cos(2 * angle), torch.sin(2 * angle)], -1)


class Aligned(ck.Module):
    def __init__(self):
        super().__init__()
        self.hierarchical_link("members", Ellipse(), size=3)
        self.mean = ck.Param("mean", valid=(0.0, math.pi), cyclic=True)
        self.scatter = ck.Param("scatter", prior=dist.HalfNormal(0.5))
        self.members.angle.prior = ck.prior(ck.WrappedNormal, self.mean, self.scatter, 0.0, math.pi)

    @ck.forward
    def observed(self):
        return dist.Normal(ck.vmap(self.members.axes)(), 0.3).to_event(1)


class Wound(dist.TorchDistribution):
    """A normal distribution wound around half a turn, as a sum over many."""

    arg_constraints: ClassVar = {}
    support = torch.distributions.constraints.interval(0.0, math.pi)

    def __init__(self, mean, scatter, batch_shape=()):
        self.mean_direction, self.scatter = mean, scatter
        super().__init__(torch.Size(batch_shape), validate_args=False)

    def expand(self, batch_shape, _instance=None):
        return Wound(self.mean_direction, self.scatter, batch_shape)

    def sample(self, sample_shape=()):
        return (self.mean_direction + self.scatter * torch.randn(self._extended_shape(sample_shape))) % math.pi

    def log_prob(self, value):
        away = value[..., None] - self.mean_direction + math.pi * torch.arange(-30.0, 31.0)
        return torch.logsumexp(dist.Normal(0.0, self.scatter).log_prob(away), -1)


def wrapped_normal():
    """Position angles, which are the same after half a turn, around a mean direction with a scatter."""
    observed = data(3, 2)
    bound = bind(Aligned(), observed)

    def by_hand():
        mean = pyro.sample("mean", dist.Uniform(0.0, math.pi))
        scatter = pyro.sample("scatter", dist.HalfNormal(0.5))
        with pyro.plate("members", 3):
            angle = pyro.sample("members.angle", Wound(mean, scatter))
            axes = torch.stack([torch.cos(2 * angle), torch.sin(2 * angle)], -1)
            pyro.sample("obs", dist.Normal(axes, 0.3).to_event(1), obs=observed)

    return Pair(bound, by_hand, subsampled=("members",))


PAIRS = {pair.__name__: pair for pair in (defaults_of_bounds, von_mises, wrapped_normal)}
