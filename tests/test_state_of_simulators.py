"""Simulators that keep state from one run to the next, and generators that move beside other threads."""

import random
import threading

import numpy as np
import pyro.distributions as dist
import pytest
import torch

import caskade_pyro as ck


class Solver(ck.Module):
    """A simulator that does something with a param."""

    def __init__(self, solve):
        super().__init__()
        self.mu = ck.Param("mu", prior=dist.Normal(0.0, 1.0))
        self.solve = solve

    @ck.forward
    def data(self, mu):
        return dist.Normal(self.solve(mu) + torch.zeros(3), 1.0)


class Starting:
    """Starts from its last solution and stops before it has arrived."""

    def __init__(self):
        self.last = None

    def __call__(self, mu):
        found = mu if self.last is None else 0.1 * self.last + 0.9 * mu
        self.last = mu.detach().clone()
        return found


class Remembering:
    """Computes what it is asked for once, and looks it up afterwards."""

    def __init__(self):
        self.known = {}

    def __call__(self, mu):
        asked = float(mu.detach())
        return self.known.setdefault(asked, 2.0 * asked) + mu


def bind(solve):
    return ck.PyroModel(Solver(solve).data).bind(obs=torch.ones(3))


def test_a_solver_that_starts_from_its_last_solution():
    """What a run keeps for the next one shows only after a run for other params, and is refused."""
    with pytest.raises(ck.ModelError, match="keeps state between calls"):
        bind(Starting())


def test_a_memory_of_results_is_no_state():
    """The same params give the same result, whatever was computed before."""
    assert bind(Remembering()).data


def test_a_simulator_that_fails_for_some_params():
    """That a simulator cannot take other params is not found to be state."""

    def root(mu):
        calls.append(mu)
        if len(calls) == 2:
            raise ValueError("no root")
        return mu

    calls = []
    assert bind(root).data
    assert len(calls) >= 3


@pytest.mark.parametrize("draw", [np.random.rand, random.random], ids=["numpy", "Python"])
def test_rare_effects_of_draws_beside_an_idle_thread(draw):
    """A thread that only waits, as there are in a notebook, hides no random numbers, though they hardly ever matter."""
    done = threading.Event()
    other = threading.Thread(target=done.wait)
    other.start()
    try:
        with pytest.raises(ck.ModelError, match=r"draws random numbers with .* in line \d+"):
            bind(lambda mu: mu + (draw() < 1e-12))
    finally:
        done.set()
        other.join()


@pytest.mark.parametrize("shape", [(0,), (3, 0)])
def test_predictions_without_numbers(shape):
    """What predicts nothing is refused by name, with data and without."""
    model = ck.PyroModel(Solver(lambda mu: mu).data, likelihood=lambda found: dist.Normal(torch.zeros(shape), 1.0))
    with pytest.raises(ck.ObservationError, match="predicts no numbers for 'obs'"):
        model.bind()


def test_dims_without_letters():
    """A dim needs a name that can be read."""
    with pytest.raises(ck.ObservationError, match="one of no letters"):
        ck.PyroModel(Solver(lambda mu: mu).data, dims={"obs": ("",)})


def test_a_second_key_for_a_child():
    """That a module cannot be linked twice to one parent is said with the keys and with what to do."""
    outer, inner = ck.Module("outer"), ck.Module("inner")
    outer.first = inner
    with pytest.raises(ck.GraphError, match=r"key 'first'.*as 'second' as well.*self\.first.*self\.meta\.second"):
        outer.second = inner
