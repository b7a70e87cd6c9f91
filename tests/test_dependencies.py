"""What Pyro finds out of a model by itself: the dependencies behind ck.vmap are those of the model written by hand."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoGaussian, AutoStructured
from pyro.infer.inspect import get_dependencies, get_model_relations
from registry import PAIRS
from registry.pair import DrawsImproper

import caskade_pyro as ck

MADE = {name: pair() for name, pair in PAIRS.items()}


def found(model):
    """Dependencies as Pyro finds them."""
    pyro.set_rng_seed(0)
    with DrawsImproper():
        return get_dependencies(model), get_model_relations(model)


@pytest.mark.parametrize("name", PAIRS)
def test_dependencies_are_those_by_hand(name):
    """Prior dependencies, and the relations that a picture of the model is made of, are those of the twin in plain Pyro."""
    pair = MADE[name]
    (ours, relations), (theirs, drawn) = found(pair.bound), found(pair.by_hand)
    assert ours["prior_dependencies"] == theirs["prior_dependencies"]
    # Pointers and live params are sites of ours alone; their parents are behind them.
    for site in theirs["prior_dependencies"]:
        assert set(relations["sample_sample"][site]) == set(drawn["sample_sample"][site])
    if list(ours["prior_dependencies"]) == list(theirs["prior_dependencies"]) and name != "outer_batch":
        # In another order of the sites Pyro says the same of them the other way round. Of two dims the twin has other plates.
        assert ours["posterior_dependencies"] == theirs["posterior_dependencies"]


@pytest.mark.parametrize("choice", ["offsets", "auto"])
def test_dependencies_of_offsets(choice):
    """Of a reparametrised model, data depend on offsets and on what they are offsets from."""
    model = MADE["one_plate"].bound.noncentered(choice)
    upstream = get_dependencies(model)["prior_dependencies"]
    assert {"mean", "scatter", "galaxies.log_sigma_decentered", "galaxies.x0"} <= set(upstream["obs"])


class Counted(ck.Module):
    """A member that enters through a comparison, where no derivative leads."""

    def __init__(self):
        super().__init__()
        self.level = ck.Param("level", shape=(), prior=dist.Normal(0.0, 1.0))
        self.idle = ck.Param("idle", shape=(), prior=dist.Normal(0.0, 1.0))

    @ck.forward
    def step(self, level):
        return (level > 0).to(level.dtype)


class Count(ck.Module):
    def __init__(self):
        super().__init__()
        self.hierarchical_link("members", Counted(), size=4)

    @ck.forward
    def data(self):
        return dist.Normal(ck.vmap(self.members.step)(), 1.0)


def test_dependencies_without_derivatives():
    """A param that enters through a comparison is seen to enter, and one that enters nothing is not."""
    bound = ck.PyroModel(Count().data, dims={"obs": ("members",)}).bind(obs=torch.zeros(4))
    assert set(get_dependencies(bound)["prior_dependencies"]["obs"]) == {"obs", "members.level"}


@pytest.mark.parametrize("guide", [AutoGaussian, AutoStructured])
@pytest.mark.parametrize("name", ["one_plate", "two_nested", "crossed"])
def test_guides_of_the_dependencies(name, guide):
    """Guides that Pyro makes of the dependencies have the same params as for the model by hand."""
    shapes = []
    for model in (MADE[name].bound, MADE[name].by_hand):
        pyro.clear_param_store()
        made = guide(model)
        made()
        shapes.append({key: tuple(value.shape) for key, value in made.named_parameters()})
    assert shapes[0] == shapes[1]


def test_the_picture_of_pyro_has_the_data():
    """Pyro's own picture of a model has arrows to the data behind ck.vmap."""
    relations = get_model_relations(MADE["two_nested"].bound)
    assert relations["sample_sample"]["obs"] == ["noise", "schools.pupils.ability"]
