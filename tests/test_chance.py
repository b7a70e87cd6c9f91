"""Simulators that are not the same each time have no density, and are refused by operation and line."""

# ruff: noqa: NPY002 - the generators that all threads share are what this is about

import random
import threading

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.nn import functional

import caskade_pyro as ck

NUMBERS = np.random.default_rng(0)
OWN = torch.Generator().manual_seed(0)
DROPOUT = torch.nn.Dropout()
SILENT = torch.nn.Dropout().eval()
LAYERS = torch.nn.LSTM(1, 2, 2)


class Noisy(ck.Module):
    """A simulator that adds something."""

    def __init__(self, added):
        super().__init__()
        self.mu = ck.Param("mu", prior=dist.Normal(0.0, 1.0))
        self.added = added

    @ck.forward
    def data(self, mu):
        return dist.Normal(mu + self.added(), 1.0)


def state():
    calls.append(1)
    return float(len(calls))


calls = []


def weighed():
    pyro.factor("weight", torch.randn(()))
    return 0.0


DRAWING = {
    "rand": lambda: torch.rand(()),
    "randn": lambda: torch.randn(3).sum(),
    "rand_like": lambda: torch.rand_like(torch.zeros(3)).sum(),
    "normal_": lambda: torch.empty(()).normal_(),
    "multinomial": lambda: torch.multinomial(torch.ones(5), 1)[0],
    "bernoulli": lambda: torch.bernoulli(torch.tensor(0.5)),
    "randperm": lambda: torch.randperm(4)[0],
    "random_": lambda: torch.empty(()).random_(5),
    "poisson": lambda: torch.poisson(torch.tensor(3.0)),
    "binomial": lambda: dist.Binomial(10, torch.tensor(0.5)).sample(),
    "normal": lambda: torch.distributions.Normal(0.0, 1.0).sample(),
    "_standard_gamma": lambda: dist.Gamma(1.0, 1.0).sample(),
    "_sample_dirichlet": lambda: dist.Dirichlet(torch.ones(3)).sample()[0],
    "bernoulli_": lambda: DROPOUT(torch.ones(5)).sum(),
    "exponential_": lambda: functional.gumbel_softmax(torch.ones(3))[0],
}

ELSEWHERE = {
    "numpy.random": lambda: float(np.random.normal()),
    "Python's random": random.random,
    "torch's randn": lambda: torch.randn((), generator=OWN),
}

SAME = {
    "dropout that is off": lambda: SILENT(torch.ones(3)).sum(),
    "dropout of nothing": lambda: functional.dropout(torch.ones(5), p=0.0).sum(),
    "layers": lambda: LAYERS(torch.ones(2, 1, 1))[0].sum().detach(),
    "attention": lambda: functional.scaled_dot_product_attention(*[torch.ones(1, 2, 2)] * 3).sum(),
    "a generator seeded each time": lambda: torch.randn((), generator=torch.Generator().manual_seed(0)),
    "a numpy generator seeded each time": lambda: np.random.default_rng(3).normal(),
    "a site": lambda: pyro.sample("u", dist.Normal(0.0, 1.0)),
}


def bind(added):
    return ck.PyroModel(Noisy(added).data).bind(obs=torch.ones(3))


@pytest.mark.parametrize("name", DRAWING)
def test_draws_of_torch(name):
    """A draw that is no site is refused with the operation, the line and what to do."""
    with pytest.raises(
        ck.ModelError, match=rf"draws random numbers with torch's {name} in line \d+ of test_chance.py \("
    ):
        bind(DRAWING[name])


@pytest.mark.parametrize("name", ELSEWHERE)
def test_draws_from_other_generators(name):
    """Draws of numpy, of Python and of a generator of the simulator's own are refused by name and line, too."""
    with pytest.raises(ck.ModelError, match=rf"draws random numbers with {name} in line \d+ of test_chance.py \("):
        bind(ELSEWHERE[name])


@pytest.mark.parametrize("added", [state, NUMBERS.normal], ids=["state", "generator"])
def test_predictions_that_change(added):
    """What gives another prediction for the same params is refused, whatever makes it so."""
    with pytest.raises(ck.ModelError, match="gives another prediction when it runs again for the same params"):
        bind(added)


def test_weights_that_change():
    """A factor counts like data."""
    with pytest.raises(ck.ModelError, match=r"draws random numbers with torch's randn in line \d+"):
        bind(weighed)


@pytest.mark.parametrize("name", SAME)
def test_simulators_that_stay_the_same(name):
    """What draws nothing, the same numbers each time, or sites, is taken."""
    assert bind(SAME[name]).data


def test_draws_beside_another_thread():
    """A thread that draws all the time does not make a simulator a random one, and does not hide one."""
    stop = threading.Event()

    def draw():
        while not stop.is_set():
            np.random.rand()
            random.random()

    other = threading.Thread(target=draw)
    other.start()
    try:
        assert bind(lambda: 0.0).data
        with pytest.raises(ck.ModelError, match="draws random numbers with"):
            bind(ELSEWHERE["numpy.random"])
    finally:
        stop.set()
        other.join()


class Member(ck.Module):
    def __init__(self):
        super().__init__()
        self.x = ck.Param("x", shape=(), prior=dist.Normal(0.0, 1.0))

    @ck.forward
    def data(self, x):
        return dist.Normal(x + torch.randn(()), 1.0)


class Members(ck.Module):
    def __init__(self, randomness):
        super().__init__()
        self.hierarchical_link("members", Member(), size=3)
        self.randomness = randomness

    @ck.forward
    def data(self):
        return ck.vmap(self.members.data, randomness=self.randomness)()


@pytest.mark.parametrize("randomness", ["error", "same", "different"])
def test_draws_of_members(randomness):
    """Under ck.vmap the line of the member's own method is named."""
    with pytest.raises(
        ck.ModelError, match=r"draws random numbers with torch.* in line \d+ of test_chance.py \(return dist"
    ):
        ck.PyroModel(Members(randomness).data).bind(obs=torch.ones(3))


def test_draws_of_a_likelihood():
    """A likelihood is a part of the simulator."""
    model = ck.PyroModel(
        Noisy(lambda: 0.0).data, likelihood=lambda found: dist.Normal(found.mean + torch.rand(()), 1.0)
    )
    with pytest.raises(ck.ModelError, match="draws random numbers with torch's rand"):
        model.bind(obs=torch.ones(3))


def test_simulations_may_be_random():
    """Without data there is no density to be wrong: one draws from the model, the same for the same seed."""
    bound = ck.PyroModel(Noisy(lambda: torch.randn(())).data).bind()
    one, other = (ck.prior_predictive(bound, 5, seed=1, progress=False).prior_predictive for _ in range(2))
    assert one.equals(other)
    assert len(set(one["obs"].values.ravel().tolist())) == 5
