"""Trajectories of many chains: they keep exact draws exact, and stop where parts of them turn back."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from caskade_pyro.inference.vectorized import trajectory
from caskade_pyro.inference.vectorized.adaptation import (
    DualAveraging,
    Moments,
    Scale,
    first_scale,
    learned_scale,
    windows,
)
from caskade_pyro.inference.vectorized.run import Record, draw_all
from caskade_pyro.inference.vectorized.trajectory import Here, begin, begin_anew, grow
from caskade_pyro.inference.vectorized.warmup import Density, Tuned, warm_up

pytestmark = pytest.mark.usefixtures("float64")

CHANCE = 1e-4
"""How improbable the draws of a right sampler may be; the seeds are fixed."""


# Targets of which exact draws are known


class Gaussian:
    """Five correlated values."""

    dim = 5

    def __init__(self):
        root = torch.randn(5, 5, generator=torch.Generator().manual_seed(1))
        self.covariance = root @ root.T / 5 + 0.1 * torch.eye(5)
        self.mean = torch.arange(5.0)
        self.precision = torch.linalg.inv(self.covariance)

    def run(self, z):
        away = z - self.mean
        gradient = -away @ self.precision
        return 0.5 * (away * gradient).sum(1), gradient

    def exact(self, count, generator):
        factor = torch.linalg.cholesky(self.covariance)
        return self.mean + torch.randn(count, 5, generator=generator) @ factor.T

    def uniform(self, z):
        """Values that are independent and uniform if the draws are exact."""
        white = torch.linalg.solve_triangular(torch.linalg.cholesky(self.covariance), (z - self.mean).T, upper=False).T
        return stats.norm.cdf(white.numpy())


class Skewed:
    """The logarithm of a gamma variable, and a value whose spread it sets."""

    dim = 2

    def run(self, z):
        a, b = z.unbind(1)
        value = 2 * a - a.exp() - 0.5 * (b * (-0.5 * a).exp()) ** 2 - 0.5 * a
        gradient = torch.stack([2 - a.exp() + 0.5 * b**2 * (-a).exp() - 0.5, -b * (-a).exp()], 1)
        return value, gradient

    def exact(self, count, generator):
        gammas = -torch.rand(2, count, generator=generator).log().sum(0)
        return torch.stack([gammas.log(), gammas.sqrt() * torch.randn(count, generator=generator)], 1)

    def uniform(self, z):
        gammas, b = z[:, 0].exp().numpy(), z[:, 1].numpy()
        return np.stack([stats.gamma(2).cdf(gammas), stats.norm.cdf(b / np.sqrt(gammas))], 1)


def assert_exact(target, z):
    """The draws are independent ones of the target: each coordinate, all pairs, and the distance from the centre."""
    u = target.uniform(z)
    for column in u.T:
        assert stats.kstest(column, "uniform").pvalue > CHANCE
    normal = stats.norm.ppf(u.clip(1e-12, 1 - 1e-12))
    distances = stats.chi2(u.shape[1]).cdf((normal**2).sum(1))
    assert stats.kstest(distances, "uniform").pvalue > CHANCE
    for i in range(u.shape[1]):
        for j in range(i):
            assert stats.pearsonr(normal[:, i], normal[:, j]).pvalue > CHANCE
            assert stats.pearsonr(normal[:, i] ** 2, normal[:, j] ** 2).pvalue > CHANCE


def start(target, z, scale):
    value, gradient = target.run(z)
    return Here(scale.into(z), scale.gradient(gradient), value, -value)


def drawn(target, step_size, chains, draws, levels=6, scale=None, seed=3):
    generator = torch.Generator().manual_seed(seed)
    scale = scale or Scale(torch.ones(target.dim))
    tuned = Tuned(start(target, target.exact(chains, generator), scale), scale, step_size)
    record = Record(chains, draws, target.dim, torch.float64)
    draw_all(Density(target.run, by_row=True), tuned, record, levels, generator)
    return record.arrays(step_size, levels)


@pytest.mark.parametrize("target", [Gaussian, Skewed])
@pytest.mark.parametrize("step_size", [0.1, 0.4, 0.6])
def test_exact_draws_stay_exact(target, step_size):
    """Chains that start at exact draws are exact draws after some trajectories, with small and with large steps."""
    target = target()
    z, found = drawn(target, step_size, chains=4000, draws=3)
    assert_exact(target, torch.as_tensor(z[:, -1]))
    assert 0.05 < found["acceptance_rate"].mean() < 1
    moved = (np.diff(z, axis=1) != 0).any((1, 2)).mean()
    assert moved > 0.3


@pytest.mark.slow
@pytest.mark.parametrize("target", [Gaussian, Skewed])
@pytest.mark.parametrize("levels", [1, 3, 8])
@pytest.mark.parametrize("step_size", [0.2, 0.6])
def test_many_exact_draws_stay_exact(target, step_size, levels):
    """With many more chains, and for short and long trajectories, exact draws stay exact."""
    target = target()
    z, _ = drawn(target, step_size, chains=40_000, draws=2, levels=levels, seed=4)
    assert_exact(target, torch.as_tensor(z[:, -1]))


@pytest.mark.parametrize("full", [False, True])
def test_a_scale_does_not_change_the_law(full):
    """In other coordinates, stretched or sheared, exact draws stay exact."""
    factor = torch.tril(0.3 * torch.randn(5, 5) + torch.eye(5)) if full else torch.rand(5) + 0.5
    z, _ = drawn(Gaussian(), 0.3, chains=4000, draws=3, scale=Scale(factor))
    assert_exact(Gaussian(), torch.as_tensor(z[:, -1]))


def test_chains_forget_where_they_start():
    """From one point, far away, chains come to exact draws by warm-up and a few trajectories."""
    target, generator = Gaussian(), torch.Generator().manual_seed(5)
    density = Density(target.run, by_row=True)
    tuned = warm_up(density, 30 + torch.zeros(3000, 5), 60, 0.8, 8, generator)
    record = Record(3000, 4, 5, torch.float64)
    draw_all(density, tuned, record, 8, generator)
    assert_exact(target, record.z[:, -1])
    metric = tuned.scale.factor @ tuned.scale.factor.T
    torch.testing.assert_close(metric, target.covariance, rtol=0.15, atol=0.05)


class Steep:
    """A wide normal value whose size makes another one narrow: far out, only small steps are possible."""

    dim = 2

    def run(self, z):
        a, b = z.unbind(1)
        value = -0.5 * a**2 - 0.5 * b**2 * (2 * a).exp() + a
        return value, torch.stack([-a - b**2 * (2 * a).exp() + 1, -b * (2 * a).exp()], 1)


def test_a_chain_that_starts_where_it_is_steep_is_not_left_behind():
    """With the step size of the others it could not move; by the end of warm-up it is where they are."""
    starts = torch.randn(40, 2, generator=torch.Generator().manual_seed(1))
    starts[:, 1] *= (-starts[:, 0]).exp()
    starts[:3] = torch.tensor([4.0, 0.1])
    density, generator = Density(Steep().run, by_row=True), torch.Generator().manual_seed(2)
    tuned = warm_up(density, starts, 80, 0.8, 8, generator)
    z = tuned.scale.out(tuned.here.x)
    assert (z[:3, 0] < 3.5).all()
    assert tuned.step_size > 0.05


# The tree


def test_parts_of_a_subtree_are_found_at_their_last_leaf():
    """Walking leaf by leaf, every part of every size is met at its last leaf, with its first one still kept."""
    levels = 7
    slots, parts = trajectory._parts(levels, torch.device("cpu"))
    kept = {}
    for leaf in range(2 ** (levels - 1)):
        kept[int(slots[leaf])] = leaf
        sizes = [2**k for k in range(1, levels) if (leaf + 1) % 2**k == 0]
        first = sorted(kept[level] for level in range(levels) if parts[leaf, level])
        assert first == sorted(leaf + 1 - size for size in sizes)


def test_parts_turn_where_their_ends_say():
    """At every leaf, the parts that end there turn as their first and last momenta and the way between them say."""
    chains, levels = 30, 6
    momenta = 0.7 + torch.randn(2 ** (levels - 1), chains, 3)  # some parts turn and some do not
    zeros = torch.zeros(chains, 3)
    now = begin(Here(zeros, zeros, torch.zeros(chains), torch.zeros(chains)), zeros, levels)
    now = replace(now, depth=torch.full((chains,), levels - 1))
    seen = []
    for leaf, momentum in enumerate(momenta):
        now = replace(now, leaf=torch.full((chains,), leaf))
        found = trajectory._parts_turn(now, momentum, momenta[: leaf + 1].sum(0))
        expected = torch.zeros(chains, dtype=torch.bool)
        for size in (2**k for k in range(1, levels) if (leaf + 1) % 2**k == 0):
            part = momenta[leaf + 1 - size : leaf + 1]
            way = part.sum(0) - 0.5 * (part[0] + part[-1])
            expected |= ((part[0] * way).sum(1) <= 0) | ((part[-1] * way).sum(1) <= 0)
        assert torch.equal(found, expected)
        seen.append(found)
    assert 0.1 < torch.stack(seen[1::2]).double().mean() < 0.9


def test_a_step_back_undoes_a_step():
    """Leapfrog steps are undone by as many steps backwards, with each chain's own step size."""
    target = Gaussian()
    z = target.exact(10, torch.Generator().manual_seed(1))
    tip = first = torch.stack([z, torch.randn(10, 5), target.run(z)[1]], 1)
    step = torch.linspace(0.1, 0.4, 10)
    for direction in (1, 1, 1, -1, -1, -1):
        tip, density = trajectory.leapfrog(tip, target.run, direction * step)
    torch.testing.assert_close(tip, first)
    torch.testing.assert_close(density, target.run(z)[0])


def test_both_directions_are_as_likely():
    """Trees grow in either direction of time with the same chance."""
    x = torch.zeros(20_000, 1)
    now = begin(Here(x, -x, x[:, 0], x[:, 0]), x, 3)
    now, _ = grow(now, lambda z: (-0.5 * (z**2).sum(1), -z), torch.ones(20_000), torch.Generator().manual_seed(0))
    assert stats.binomtest(int(now.forward.sum()), 20_000).pvalue > CHANCE


def one_tree(step_size, momentum, levels=6):
    """The tree of one chain in a standard Gaussian that goes on until it turns."""
    x = torch.zeros(1, 2)
    here = Here(x, -x, torch.zeros(1), torch.zeros(1))
    now = begin(here, momentum, levels)
    generator, count = torch.Generator().manual_seed(0), 0
    while True:
        now, ended = grow(now, lambda z: (-0.5 * (z**2).sum(1), -z), torch.full((1,), step_size), generator)
        count += 1
        if ended:
            return now, count


def test_a_trajectory_ends_after_half_a_period():
    """In a standard Gaussian a trajectory of small steps is doubled until it is longer than half a period."""
    now, count = one_tree(0.1, torch.tensor([[1.0, 0.5]]))
    assert int(now.steps) == count
    assert math.pi / 0.1 / 2 < count < 2 * math.pi / 0.1 + 1
    assert not now.diverged
    assert now.acceptance_rate > 0.99


def test_a_tree_has_a_greatest_depth():
    """Steps that are too small to turn back end with as many doublings as are allowed."""
    now, count = one_tree(1e-4, torch.tensor([[1.0, 0.5]]), levels=4)
    assert (int(now.depth), count) == (4, 15)


def test_lost_energy_is_a_divergence_and_the_chain_stays():
    """A step into a wall ends the trajectory as a divergence, and nothing that is not a number is drawn."""

    def wall(z):
        return torch.where(z[:, 0] < 1, -0.5 * (z**2).sum(1), torch.nan), torch.where(z < 1, -z, torch.nan)

    x = torch.zeros(50, 1)
    here = Here(x, -x, torch.zeros(50), torch.zeros(50))
    now, generator = begin(here, torch.randn(50, 1), 5), torch.Generator().manual_seed(0)
    diverged = torch.zeros(50, dtype=torch.bool)
    for _ in range(200):
        now, ended = grow(now, wall, torch.full((50,), 0.4), generator)
        assert torch.isfinite(now.draw.x[ended]).all()
        diverged |= ended & now.diverged
        now = begin_anew(now, ended, torch.randn(50, 1))
    assert diverged.any()
    assert (now.draw.x < 1).all()


def test_chains_do_not_know_of_each_other():
    """A chain in a batch goes where it goes in any batch with the same numbers of chance: leaving rows out changes nothing."""
    target = Gaussian()
    runs = []
    for by_row in (True, False):
        generator = torch.Generator().manual_seed(2)
        scale = Scale(torch.ones(5))
        tuned = Tuned(start(target, target.exact(20, generator), scale), scale, 0.4)
        record = Record(20, 10, 5, torch.float64)
        draw_all(Density(target.run, by_row), tuned, record, 6, generator)
        runs.append(record.z)
    torch.testing.assert_close(runs[0], runs[1], rtol=1e-9, atol=1e-9)


# What is learned


def test_moments_of_parts_are_those_of_all():
    """Moments that draws are added to in parts are those of all draws."""
    x, gradient = torch.randn(70, 3) * 2 + 5, torch.randn(70, 3)
    moments = Moments.none(x, full=True)
    for part in (slice(0, 10), slice(10, 11), slice(11, 70)):
        moments = moments.add(x[part], gradient[part])
    assert moments.count == 70
    torch.testing.assert_close(moments.means, torch.stack([x.mean(0), gradient.mean(0)]))
    torch.testing.assert_close(moments.products / 69, torch.cov(x.T))
    torch.testing.assert_close(moments.squares / 69, torch.stack([x.var(0), gradient.var(0)]))


@pytest.mark.parametrize("full", [False, True])
def test_a_scale_goes_both_ways(full):
    """Positions and gradients go into the coordinates of a scale and back, and one scale after another is one."""
    scale = Scale(torch.tril(torch.ones(3, 3)) + torch.eye(3) if full else torch.tensor([0.5, 2.0, 3.0]))
    z = torch.randn(4, 3)
    torch.testing.assert_close(scale.out(scale.into(z)), z)
    torch.testing.assert_close(scale.gradient_out(scale.gradient(z)), z)
    # A gradient times a way is the same in all coordinates.
    torch.testing.assert_close((scale.gradient(z) * scale.into(z)).sum(1), (z * z).sum(1))
    for inner in (Scale(torch.rand(3) + 1), Scale(torch.tril(torch.ones(3, 3)))):
        torch.testing.assert_close(scale.after(inner).out(z), scale.out(inner.out(z)))


def test_scales_are_learned_from_gradients_and_from_covariances():
    """Few draws give the right spreads, wherever they lie; many give the covariance."""
    target, generator = Gaussian(), torch.Generator().manual_seed(1)
    spreads = torch.tensor([1e-3, 1.0, 50.0])
    z = 7 * spreads + 0.1 * spreads * torch.randn(20, 3)  # nothing like draws from the Gaussian of these spreads
    torch.testing.assert_close(first_scale(z, -z / spreads**2).factor, spreads)
    torch.testing.assert_close(first_scale(z[:1], -z[:1] / spreads).factor, (spreads / z[0].abs()) ** 0.5)
    x = target.exact(5000, generator)
    scale = learned_scale(Scale(torch.ones(5)), Moments.none(x, full=True).add(x, target.run(x)[1]))
    torch.testing.assert_close(scale.factor @ scale.factor.T, target.covariance, rtol=0.1, atol=0.05)
    diagonal = learned_scale(Scale(torch.ones(5)), Moments.none(x, full=False).add(x, target.run(x)[1]))
    expected = (target.covariance.diag() / target.precision.diag()) ** 0.25
    torch.testing.assert_close(diagonal.factor, expected, rtol=0.05, atol=0)


def test_draws_that_teach_nothing_leave_the_scale():
    """Chains that have not moved, or that are not numbers, change nothing."""
    scale = Scale(torch.tensor([0.5, 2.0]))
    for x in (torch.ones(30, 2), torch.full((30, 2), torch.nan)):
        found = learned_scale(scale, Moments.none(x, full=False).add(x, x))
        torch.testing.assert_close(found.factor, scale.factor)


@pytest.mark.parametrize("tune", [0, 1, 10, 30, 100, 200, 1000])
def test_windows_fill_the_warm_up_but_for_its_end(tune):
    """Windows grow, the last ends before the steps that are for the step size alone, and there may be none."""
    ends = windows(tune)
    assert list(ends) == sorted(set(ends))
    assert all(0 < end <= tune - min(tune, 10) for end in ends)
    if tune >= 100:
        lengths = np.diff([0, *ends])
        assert (lengths[1:] >= 2 * lengths[:-1]).all()
        assert ends[-1] >= tune - tune // 6 - 10


def test_the_step_size_comes_to_the_acceptance_that_is_asked_for():
    """Where the acceptance falls with the step size, dual averaging finds where it is as asked for."""
    averaging = DualAveraging.around(0.1, 0.8)
    for _ in range(300):
        averaging = averaging.update(math.exp(-math.exp(averaging.log_step)))
    assert math.exp(-math.exp(averaging.averaged)) == pytest.approx(0.8, abs=0.01)
