"""A fit that sees some members at a time has arrived, or says that it has not."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_minibatch import population

import caskade_pyro as ck
from caskade_pyro.inference.minibatch import MinibatchSteps
from caskade_pyro.inference.trail import FEWEST, MOST_BLOCKS, Trail
from caskade_pyro.inference.whole_batch import numbers_of, seconds_for_all, warn_of_a_cheap_whole
from caskade_pyro.results.arrival import unsettled


def trail_of(values):
    trail = Trail()
    for value in values:
        trail.add(torch.tensor([float(value)], dtype=torch.float64), 0.1)
    return trail


@settings(deadline=None, max_examples=30)
@given(steps=st.integers(64, 3000), slope=st.floats(-2, 2), at=st.floats(-10, 10))
def test_a_trail_ends_with_the_mean_of_its_last_quarter(steps, slope, at):
    """However many steps there are, the mean is that of about the last quarter, and a drift over it is seen as an error."""
    trail = trail_of(at + slope * np.arange(steps))
    assert len(trail.blocks) < MOST_BLOCKS
    wander = trail.wander()
    begin, end = at + slope * 0.70 * steps, at + slope * steps
    assert min(begin, end) - 1e-9 <= wander.mean.item() <= max(begin, end) + 1e-9
    assert wander.error.item() == pytest.approx(abs(slope) * steps / 16, rel=0.35, abs=1e-9)
    assert wander.speed.item() == pytest.approx(abs(slope) / 0.1, rel=1e-3, abs=1e-6)


def test_what_moves_to_and_fro_has_no_speed():
    """Noise has no direction, which a steady move in the same noise has."""
    noise = np.random.default_rng(1).normal(size=1000)
    assert trail_of(noise).wander().speed.item() == 0.0
    assert trail_of(noise + 0.1 * np.arange(1000)).wander().speed.item() == pytest.approx(1.0, abs=0.3)


def test_the_first_steps_tell_nothing():
    """Of few steps there is no mean."""
    assert trail_of(range(4 * FEWEST - 1)).wander() is None
    assert trail_of(range(4 * FEWEST)).wander() is not None


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
def test_the_size_of_gradients_says_nothing(factor):
    """Gradients that Adam sees are the same, whatever the number of members that those of a step stand for."""
    draw = torch.Generator().manual_seed(1)
    steps = SimpleNamespace(usual=torch.zeros(3), taken=0)
    plain = SimpleNamespace(usual=torch.zeros(3), taken=0)
    for _ in range(20):
        gradient = torch.randn(3, generator=draw)
        seen = MinibatchSteps._of_usual_size(steps, factor * gradient)
        torch.testing.assert_close(seen, MinibatchSteps._of_usual_size(plain, gradient))
    assert not MinibatchSteps._of_usual_size(SimpleNamespace(usual=torch.zeros(2), taken=0), torch.zeros(2)).any()


def test_what_the_last_steps_say():
    """What moved too much, or cannot be told, and losses that jump are said; noise is not."""
    noise = np.random.default_rng(1).normal(size=1000)
    assert unsettled(noise, {"mu": 0.3, "tau": 0.9}) is None
    assert "tau moved 1.2 times" in unsettled(noise, {"mu": 0.3, "tau": 1.2})
    assert "mu (and 1 more) moved" in unsettled(noise, {"mu": 3.0, "tau": 1.2})
    assert "mu moved nan" in unsettled(noise, {"mu": float("nan")})
    assert "not stable" in unsettled(np.where(np.arange(1000) % 20, noise, 1e4), {})


def test_a_fit_that_still_moves_says_so():
    """A fit that is cut short says what moves, what to do, and where it was called."""
    bound, _, _ = population(60, 10)
    with pytest.warns(
        ck.ConvergenceWarning, match=r"moved .* times as much.* Bind without subsample_size=.* take at most \d"
    ) as caught:
        ck.fit(bound, steps=60, seed=1, noncentered=False, progress=False)
    assert {one.filename for one in caught} == {__file__}


def test_a_whole_that_is_cheap_is_recommended():
    """Where all members are few numbers, a long fit of a few at a time says so, and a short one does not."""
    bound, _, _ = population(60, 10)
    assert numbers_of(bound) == 2 + 60 + 60
    assert 0 < seconds_for_all(bound, "auto") < 60
    with pytest.warns(ck.PerformanceWarning, match=r"sees 10 of 60 members, .* only 122 numbers.*Bind without"):
        warn_of_a_cheap_whole(bound, 1000, 1)
    warn_of_a_cheap_whole(bound, 999, 1)
    warn_of_a_cheap_whole(bound.whole(), 2000, 1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::caskade_pyro.PerformanceWarning")
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("noncentered", [True, False])
def test_a_plate_of_few_members_is_right_or_says_so(seed, noncentered):
    """Four members, two at each step: the fit is that of all four, or a warning says that it is not."""
    bound, _, _ = population(4, 2)
    whole = ck.fit(bound.whole(), steps=1500, seed=1, noncentered=noncentered, progress=False).fitted.draw(500, seed=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        few = ck.fit(bound, steps=1500, seed=seed, noncentered=noncentered, progress=False).fitted.draw(500, seed=1)
    said = [one for one in caught if issubclass(one.category, ck.ConvergenceWarning)]
    for name in ("mu", "tau"):
        near = abs(few[name].mean() - whole[name].mean()) < 0.7 * whole[name].std()
        assert (near and few[name].std() == pytest.approx(whole[name].std(), rel=0.5)) or said
