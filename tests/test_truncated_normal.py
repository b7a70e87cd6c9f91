"""The truncated normal distribution against scipy's, far into the tails."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from scipy import integrate

import caskade_pyro as ck

pytestmark = pytest.mark.usefixtures("float64")

INF = math.inf

# loc, scale, low, high
PLAIN = [
    (0.0, 1.0, -1.0, 2.0),
    (3.0, 0.5, 0.0, INF),
    (-2.0, 4.0, -INF, 1.5),
    (1.0, 2.0, -INF, INF),
    (5.0, 0.1, 4.99, 5.01),
]
TAILS = [
    (0.0, 1.0, 8.0, 9.0),
    (0.0, 1.0, 30.0, INF),
    (0.0, 1.0, -INF, -30.0),
    (0.0, 1.0, -12.0, -11.0),
    (0.0, 2.0, 70.0, 70.5),
]


def pair(loc, scale, low, high):
    """Ours and scipy's."""
    theirs = scipy.stats.truncnorm((low - loc) / scale, (high - loc) / scale, loc=loc, scale=scale)
    return ck.TruncatedNormal(loc, scale, low=low, high=high), theirs


@pytest.mark.parametrize("args", PLAIN + TAILS)
def test_density_and_quantiles(args):
    """Log density, quantiles and mean equal scipy's to ten digits, thirty standard deviations away as well."""
    ours, theirs = pair(*args)
    probabilities = np.array([1e-6, 0.01, 0.3, 0.5, 0.9, 0.999])
    places = theirs.ppf(probabilities)
    np.testing.assert_allclose(ours.log_prob(torch.as_tensor(places)), theirs.logpdf(places), rtol=1e-9, atol=1e-9)
    width = theirs.std()
    quantiles = ours.icdf(torch.as_tensor(probabilities))
    np.testing.assert_allclose(quantiles, places, rtol=0, atol=1e-7 * width)
    np.testing.assert_allclose(ours.mean, theirs.mean(), rtol=0, atol=1e-6 * width)


@pytest.mark.parametrize("args", PLAIN + TAILS)
def test_draws(args):
    """Draws lie between the bounds and follow scipy's distribution (Kolmogorov and Smirnov)."""
    ours, theirs = pair(*args)
    draws = ours.sample((4000,)).numpy()
    assert (draws >= args[2]).all()
    assert (draws <= args[3]).all()
    assert scipy.stats.kstest(draws, theirs.cdf).pvalue > 1e-3


@pytest.mark.parametrize("args", PLAIN)
def test_the_density_integrates_to_one(args):
    """The density is one in all, and minus infinity in logarithms outside of the bounds."""
    ours, _ = pair(*args)
    low, high = max(args[2], args[0] - 12 * args[1]), min(args[3], args[0] + 12 * args[1])
    mass, _ = integrate.quad(lambda x: ours.log_prob(torch.tensor(x)).exp().item(), low, high, epsabs=1e-10)
    assert mass == pytest.approx(1.0, abs=1e-8)
    quiet = ck.TruncatedNormal(*args[:2], low=args[2], high=args[3], validate_args=False)
    outside = [bound for bound in (args[2] - 0.1, args[3] + 0.1) if math.isfinite(bound)]
    assert all(quiet.log_prob(torch.tensor(x)) == -INF for x in outside)


@pytest.mark.parametrize("args", [*PLAIN, *TAILS[:4]])
def test_gradients(args):
    """The log density and draws at given uniform numbers have the derivatives of finite differences in all arguments."""
    finite = [value for value in args if math.isfinite(value)]
    at = torch.tensor(pair(*args)[1].ppf(0.4))

    def put(values):
        given = iter(values)
        return [next(given) if math.isfinite(value) else torch.tensor(value) for value in args]

    def density(*values):
        return ck.TruncatedNormal(*put(values), validate_args=False).log_prob(at)

    def quantile(*values):
        return ck.TruncatedNormal(*put(values), validate_args=False).icdf(torch.tensor(0.4))

    inputs = tuple(torch.tensor(value, requires_grad=True) for value in finite)
    assert torch.autograd.gradcheck(density, inputs, eps=1e-6, rtol=1e-4, atol=1e-6)
    assert torch.autograd.gradcheck(quantile, inputs, eps=1e-6, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("args", TAILS)
def test_gradients_stay_finite_in_single_precision(args):
    """In float32, and far out, density, draws and derivatives are finite numbers."""
    loc, scale = (torch.tensor(value, dtype=torch.float32, requires_grad=True) for value in args[:2])
    low, high = (torch.tensor(value, dtype=torch.float32) for value in args[2:])
    ours = ck.TruncatedNormal(loc, scale, low=low, high=high)
    draws = ours.rsample((100,))
    assert draws.dtype == torch.float32
    total = ours.log_prob(draws.detach()).sum() + draws.sum()
    assert torch.isfinite(torch.stack([total, *torch.autograd.grad(total, [loc, scale])])).all()


def test_shapes_and_support():
    """Arguments broadcast, and the support is a line, half of one or an interval."""
    many = ck.TruncatedNormal(torch.zeros(3, 1), torch.ones(2), low=-1.0)
    assert many.batch_shape == (3, 2)
    assert many.expand((4, 3, 2)).sample((5,)).shape == (5, 4, 3, 2)
    assert many.support.check(torch.tensor(-1.1)).any().item() is False
    assert ck.TruncatedNormal(0.0, 1.0).support is torch.distributions.constraints.real
    assert ck.TruncatedNormal(0.0, 1.0, high=2.0).support.check(torch.tensor([1.9, 2.1])).tolist() == [True, False]
    inside = ck.TruncatedNormal(0.0, 1.0, low=-1.0, high=2.0).support
    assert inside.check(torch.tensor([-1.1, 0.0, 2.1])).tolist() == [False, True, False]


def test_bounds_of_which_some_are_open():
    """In a batch where only some members have a lower bound, each has the density of its own."""
    low = torch.tensor([-INF, 0.0])
    mixed = ck.TruncatedNormal(torch.zeros(2), 1.0, low=low)
    found = mixed.log_prob(torch.tensor([0.5, 0.5]))
    expected = [scipy.stats.norm.logpdf(0.5), scipy.stats.truncnorm(0.0, INF).logpdf(0.5)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
