"""Where chains start: Pathfinder's approximations, and the choice among its paths."""

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import multivariate_normal

import caskade_pyro as ck
from caskade_pyro.inference.pathfinder import find_path
from caskade_pyro.inference.starts import find_starts

COVARIANCE = np.array([[2.0, 0.9, 0.0], [0.9, 0.5, 0.1], [0.0, 0.1, 3.0]])
MEAN = np.array([1.0, -2.0, 30.0])


def gaussian(x):
    """The log density of a correlated normal distribution, up to a constant, and its gradient."""
    pull = np.linalg.solve(COVARIANCE, MEAN - x)
    return 7.0 + 0.5 * (x - MEAN) @ -np.linalg.solve(COVARIANCE, x - MEAN), pull


def covariance(approximation):
    """The covariance of an approximation, written out."""
    q, factor, scales = approximation.directions, approximation.factor, np.diag(approximation.scales)
    return scales @ (np.eye(len(scales)) + q @ (factor @ factor.T - np.eye(len(factor))) @ q.T) @ scales


def test_a_normal_posterior_is_found_nearly_as_it_is():
    """On a normal density the best approximation has its mean and nearly its log evidence as the bound."""
    path = find_path(gaussian, np.zeros(3), np.random.default_rng(1))
    np.testing.assert_allclose(path.approximation.mean, MEAN, atol=1e-2)
    evidence = 7.0 + 0.5 * np.linalg.slogdet(2 * np.pi * COVARIANCE)[1]
    assert abs(path.elbo - evidence) < 0.2


def test_draws_have_the_mean_the_covariance_and_the_density_of_the_approximation():
    """What is drawn, and its log density, are those of the normal distribution that the approximation says it is."""
    approximation = find_path(gaussian, np.array([3.0, 4.0, 5.0]), np.random.default_rng(1)).approximation
    draws, log_densities = approximation.draw(np.random.default_rng(2), 200_000)
    expected = covariance(approximation)
    np.testing.assert_allclose(draws.mean(0), approximation.mean, atol=0.02)
    np.testing.assert_allclose(np.cov(draws.T), expected, rtol=0.02, atol=0.02)
    np.testing.assert_allclose(
        log_densities, multivariate_normal(approximation.mean, expected).logpdf(draws), rtol=1e-8
    )


def test_more_dimensions_than_remembered_steps():
    """With many scales in many dimensions the bound comes within a few nats of the log evidence, and never above it."""
    scales = np.geomspace(0.5, 2.0, 40)
    path = find_path(
        lambda x: (-0.5 * ((x / scales) ** 2).sum(), -x / scales**2), np.ones(40), np.random.default_rng(1)
    )
    evidence = np.log(scales).sum() + 20 * np.log(2 * np.pi)
    assert evidence - 5.0 < path.elbo < evidence + 1.0


def test_a_flat_density_has_no_path():
    """Where there is no slope there is nothing to follow."""
    assert find_path(lambda x: (0.0, np.zeros_like(x)), np.zeros(2), np.random.default_rng(1)) is None


def test_the_top_of_a_funnel_is_no_start():
    """Where the density grows without bound as the volume vanishes, the best approximation stays in the open."""

    def funnel(x):
        scale, members = x[0], x[1:]
        value = -0.5 * (scale / 3.0) ** 2 - 0.5 * (members**2).sum() * np.exp(-2 * scale) - 9 * scale
        slope = -scale / 9.0 + (members**2).sum() * np.exp(-2 * scale) - 9
        return value, np.concatenate([[slope], -members * np.exp(-2 * scale)])

    path = find_path(funnel, np.ones(10), np.random.default_rng(1))
    assert path.approximation.mean[0] > -7.0  # the mode along the path is at -81


class Wave(ck.Module):
    """A frequency, which data on a wave leave with many modes, of which one has all the weight."""

    def __init__(self):
        super().__init__()
        self.frequency = ck.Param("frequency", prior=dist.Uniform(0.2, 4.0))

    @ck.forward
    def data(self, time, frequency):
        return dist.Normal((frequency * time).sin(), 0.2)


def wave():
    time = torch.linspace(0.0, 8.0, 60)
    return ck.PyroModel(Wave().data).bind(time, obs=(1.7 * time).sin())


def test_chains_do_not_start_at_modes_of_no_weight():
    """Of the paths, those that end beside the posterior are left out, so that all chains find it."""
    density = ck.LogDensity(wave())
    begins = [density.constrain(density.initial(seed))["frequency"].item() for seed in range(8)]
    assert any(abs(one - 1.7) > 0.4 for one in begins), "no path begins where it can be lost"
    for seed in range(5):
        for start in find_starts(density, 4, seed):
            found = density.constrain(torch.as_tensor(start).to(density.dtype))["frequency"]
            assert abs(found.item() - 1.7) < 0.1


def test_the_same_seed_gives_the_same_starts():
    """Starts follow from the seed alone, and are different for each chain."""
    density = ck.LogDensity(wave())
    one, same, other = (np.stack(find_starts(density, 3, seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)
    assert len(np.unique(one)) == 3


def test_many_chains_share_paths():
    """There are no more paths than it takes; chains beyond them start at other draws."""
    starts = np.stack(find_starts(ck.LogDensity(wave()), 40, 1))
    assert starts.shape == (40, 1)
    assert len(np.unique(starts)) == 40


class Fragile(ck.Module):
    """A simulator that refuses what it was not made for."""

    def __init__(self):
        super().__init__()
        self.size = ck.Param("size", prior=dist.Normal(0.0, 1.0))

    @ck.forward
    def data(self, size):
        if abs(size) > 5.0:
            raise ValueError("size out of range")
        return dist.Normal(size, 0.01)


@pytest.mark.filterwarnings("ignore::caskade_pyro.PerformanceWarning")
def test_a_simulator_may_refuse_far_points():
    """A path that meets an error of the simulator turns back."""
    density = ck.LogDensity(ck.PyroModel(Fragile().data).bind(obs=torch.tensor(4.9)))
    assert density.form == "eager"
    for start in find_starts(density, 2, 1):
        assert abs(start[0] - 4.9) < 0.1
