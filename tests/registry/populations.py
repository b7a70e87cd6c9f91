"""Populations whose members the simulator draws itself."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine

import caskade_pyro as ck

from .pair import Pair, data


class Source(ck.Module):
    """A bump at a place of its own, in one of the bands that all share."""

    def __init__(self):
        super().__init__()
        self.place = ck.Param("place", shape=())
        self.height = ck.Param("height", shape=(), prior=dist.LogNormal(0.0, 0.5))
        self.shape = ck.Param("shape", shape=(2,), prior=dist.HalfNormal(1.0))
        self.width = ck.Param("width", shape=(), prior=dist.Gamma(4.0, 8.0), batch_shape=())

    @ck.forward
    def at(self, x, place, height, shape, width):
        return height * torch.exp(-(((x - place) / width) ** 2)) * (1 + shape.sum())


class Scene(ck.Module):
    def __init__(self):
        super().__init__()
        self.hierarchical_link("sources", Source())
        self.centre = ck.Param("centre", prior=dist.Normal(0.0, 0.5))
        self.extent = ck.Param("extent", prior=dist.HalfNormal(1.0))
        self.sources.place.prior = ck.prior(dist.Normal, self.centre, self.extent)
        # How many there are besides the first one.
        self.more = ck.Param("more", prior=dist.Categorical(torch.tensor([0.4, 0.3, 0.2, 0.1])))

    @ck.forward
    def drawn(self, x, n):
        params, dims = ck.draw_members(self.sources, n)
        return dist.Normal(torch.vmap(self.sources.at, in_dims=(None, dims))(x, params).sum(0), 0.3)

    @ck.forward
    def slots(self, x, more):
        params, dims, occupied = ck.draw_slots(self.sources, 1 + more, maximum=4)
        curves = torch.vmap(self.sources.at, in_dims=(None, dims))(x, params)
        return dist.Normal((curves * occupied[:, None]).sum(0), 0.3)


def _scene_by_hand(n, occupied, x):
    centre = pyro.sample("centre", dist.Normal(0.0, 0.5))
    extent = pyro.sample("extent", dist.HalfNormal(1.0))
    width = pyro.sample("sources.width", dist.Gamma(4.0, 8.0))
    with pyro.plate("sources", n), poutine.mask(mask=occupied):
        place = pyro.sample("sources.place", dist.Normal(centre, extent))
        height = pyro.sample("sources.height", dist.LogNormal(0.0, 0.5))
        shape = pyro.sample("sources.shape", dist.HalfNormal(1.0).expand([2]).to_event(1))
    curves = height[:, None] * torch.exp(-(((x - place[:, None]) / width) ** 2)) * (1 + shape.sum(-1)[:, None])
    return (curves * occupied[:, None]).sum(0)


def members_drawn():
    """A simulator that draws a population: sites in a plate, a prior with params of the graph, one param for all."""
    x, observed = torch.linspace(-1, 1, 5), data(5)
    scene = Scene()
    scene.more.to_static(0.0)
    bound = ck.PyroModel(scene.drawn).bind(x, 3, obs=observed)

    def by_hand():
        curve = _scene_by_hand(3, torch.ones(3, dtype=torch.bool), x)
        with pyro.plate("obs_dim_0", 5):
            pyro.sample("obs", dist.Normal(curve, 0.3), obs=observed)

    return Pair(bound, by_hand, subsampled=("obs_dim_0",), one_by_one=True)


def slots_drawn():
    """A population with a fixed maximum, of which a discrete param says how many slots are occupied."""
    x, observed = torch.linspace(-1, 1, 5), data(5)
    bound = ck.PyroModel(Scene().slots).bind(x, obs=observed)

    def by_hand():
        more = pyro.sample("more", dist.Categorical(torch.tensor([0.4, 0.3, 0.2, 0.1])))
        curve = _scene_by_hand(4, torch.arange(4) < 1 + more, x)
        with pyro.plate("obs_dim_0", 5):
            pyro.sample("obs", dist.Normal(curve, 0.3), obs=observed)

    return Pair(bound, by_hand, subsampled=("obs_dim_0",), one_by_one=True)


PAIRS = {pair.__name__: pair for pair in (members_drawn, slots_drawn)}
