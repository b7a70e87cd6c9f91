"""Variational fits of a model whose posterior is one normal distribution, known exactly."""

import numpy as np
import pyro.distributions as dist
import pytest
import torch

import caskade_pyro as ck

# Independent normals are another posterior than a correlated one, which is what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:The Pareto k-hat:caskade_pyro.ConvergenceWarning")

PRIOR, SPREAD, NOISE = 2.0, 1.0, 0.8


class Member(ck.Module):
    def __init__(self):
        super().__init__()
        self.level = ck.Param("level", shape=())

    @ck.forward
    def own(self, level):
        return level


class Levels(ck.Module):
    """Levels around a mean, each seen a few times; all spreads are known."""

    def __init__(self, n):
        super().__init__()
        self.hierarchical_link("members", Member(), size=n)
        self.mean = ck.Param("mean", prior=dist.Normal(0.0, PRIOR))
        self.members.level.prior = ck.prior(dist.Normal, self.mean, SPREAD)

    @ck.forward
    def observed(self):
        return dist.Normal(ck.vmap(self.members.own)()[:, None], NOISE)


def observations(n, times):
    generator = torch.Generator().manual_seed(1)
    levels = 1.5 + SPREAD * torch.randn(n, 1, generator=generator)
    return levels + NOISE * torch.randn(n, times, generator=generator)


def exact(observed):
    """Mean and precision matrix of the posterior of the mean and the levels, the mean first."""
    n, times = observed.shape
    precision = np.zeros((n + 1, n + 1))
    precision[0, 0] = 1 / PRIOR**2 + n / SPREAD**2
    precision[0, 1:] = precision[1:, 0] = -1 / SPREAD**2
    precision[1:, 1:] = np.eye(n) * (1 / SPREAD**2 + times / NOISE**2)
    pull = np.concatenate([[0.0], observed.double().numpy().sum(1) / NOISE**2])
    return np.linalg.solve(precision, pull), precision


def bind(observed, **kwargs):
    model = ck.PyroModel(Levels(len(observed)).observed, dims={"obs": ("members", "times")})
    return model.bind(obs=observed, **kwargs)


def draws_of(fitted, draws=8000):
    """Draws as rows, the mean first."""
    posterior = fitted.sample(draws=draws, seed=5).posterior
    return np.column_stack([posterior["mean"].values[0], posterior["members.level"].values[0]])


def agree(draws, mean, variance):
    """Draws have a mean within a seventh of their spread, and a spread to a seventh."""
    sd = np.sqrt(variance)
    assert (np.abs(draws.mean(0) - mean) < 0.15 * sd).all()
    np.testing.assert_allclose(draws.std(0), sd, rtol=0.15)


OBSERVED = observations(4, 2)


def test_mean_field_has_the_best_independent_normals():
    """Independent normals find the mean of the posterior, and the conditional variances: one over the precisions."""
    mean, precision = exact(OBSERVED)
    fitted = ck.fit(bind(OBSERVED), steps=1000, seed=1, lr=0.03, particles=2, noncentered=False, progress=False)
    draws = draws_of(fitted)
    agree(draws, mean, 1 / np.diag(precision))
    assert np.abs(np.corrcoef(draws.T) - np.eye(5)).max() < 0.06
    assert np.sqrt(1 / precision[0, 0]) < 0.9 * np.sqrt(np.linalg.inv(precision)[0, 0])  # so the families differ


@pytest.mark.parametrize("noncentered", [False, pytest.param("auto", marks=pytest.mark.slow)])
def test_full_rank_has_the_posterior(noncentered):
    """One joint normal distribution is the posterior, its correlations included, in levels and in offsets."""
    mean, precision = exact(OBSERVED)
    covariance = np.linalg.inv(precision)
    fitted = ck.fit(
        bind(OBSERVED),
        "full_rank",
        steps=1000,
        seed=1,
        lr=0.03,
        particles=2,
        noncentered=noncentered,
        progress=False,
    )
    draws = draws_of(fitted)
    agree(draws, mean, np.diag(covariance))
    sd = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(np.corrcoef(draws.T), covariance / np.outer(sd, sd), atol=0.12)


def test_laplace_has_the_posterior():
    """The normal distribution at the mode is exact for a normal posterior."""
    mean, precision = exact(OBSERVED)
    fitted = ck.fit(bind(OBSERVED), "laplace", steps=1500, seed=1, lr=0.05, noncentered=False, progress=False)
    draws = draws_of(fitted)
    agree(draws, mean, np.diag(np.linalg.inv(precision)))


def test_delta_has_the_mode():
    """A point is the mode, which is the mean of a normal posterior."""
    mean, _ = exact(OBSERVED)
    fitted = ck.fit(bind(OBSERVED), "delta", steps=1500, seed=1, lr=0.05, noncentered=False, progress=False)
    np.testing.assert_allclose(draws_of(fitted, draws=1)[0], mean, atol=0.01)


@pytest.mark.slow
def test_nuts_has_the_posterior():
    """NUTS draws have the covariance of the posterior."""
    mean, precision = exact(OBSERVED)
    posterior = ck.sample(bind(OBSERVED), draws=1500, tune=500, chains=2, seed=1, progress=False).posterior
    draws = np.column_stack([posterior["mean"].values.ravel(), posterior["members.level"].values.reshape(-1, 4)])
    agree(draws, mean, np.diag(np.linalg.inv(precision)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Each step sees:caskade_pyro.PerformanceWarning")
@pytest.mark.parametrize("sizes", [{"members": 6}, {"times": 2}, {"members": 6, "times": 2}], ids=str)
def test_subsampled_fits_agree_with_those_of_all_data(sizes):
    """Seeing a few members, or a few data, at each step, a fit ends where that of all data does: at the exact optimum."""
    observed = observations(18, 4)
    mean, precision = exact(observed)
    variance = 1 / np.diag(precision)
    settings = {"steps": 4000, "seed": 1, "lr": 0.02, "noncentered": False, "progress": False}
    whole = draws_of(ck.fit(bind(observed), **settings))
    few = draws_of(ck.fit(bind(observed, subsample_size=sizes), **settings))
    sd = np.sqrt(variance)
    for draws in (whole, few):
        assert (np.abs(draws.mean(0) - mean) < 0.35 * sd).all()
        assert np.abs((draws.mean(0) - mean) / sd).mean() < 0.15
        np.testing.assert_allclose(draws.std(0), sd, rtol=0.35)
        assert np.mean(draws.std(0) / sd) == pytest.approx(1.0, abs=0.1)
