"""The normal distribution wound around a circle, against the sum over its turns."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from scipy import integrate, special

import caskade_pyro as ck

pytestmark = pytest.mark.usefixtures("float64")

TURNS = np.arange(-200, 201)

# loc, scale, low, high: narrow and wide, on both sides of where the one series takes over from the other
CIRCLES = [
    (0.1, 0.01, 0.0, math.pi),
    (3.0, 0.5, -math.pi, math.pi),
    (-20.0, 1.25, 0.0, math.pi),
    (1.0, 1.26, 0.0, math.pi),
    (4.0, 30.0, 2.0, 5.0),
]


def by_turns(x, loc, scale, low, high):
    """The log density as the sum over all values that differ by whole turns."""
    unwound = np.asarray(x)[..., None] + TURNS * (high - low)
    return special.logsumexp(scipy.stats.norm(loc, scale).logpdf(unwound), axis=-1)


@pytest.mark.parametrize("circle", CIRCLES)
def test_the_density_is_the_sum_over_all_turns(circle):
    """Log densities equal the sum by hand to ten digits, also beyond the ends, and the density is one in all."""
    ours = ck.WrappedNormal(*circle)
    low, high = circle[2:]
    places = np.linspace(low, high, 23)
    np.testing.assert_allclose(ours.log_prob(torch.as_tensor(places)), by_turns(places, *circle), rtol=1e-10)
    outside = ck.WrappedNormal(*circle, validate_args=False).log_prob(torch.as_tensor(places + 2 * (high - low)))
    np.testing.assert_allclose(outside, by_turns(places, *circle), rtol=1e-9)
    mode = low + (circle[0] - low) % (high - low)
    whole, _ = integrate.quad(lambda x: ours.log_prob(torch.tensor(x)).exp().item(), low, high, points=[mode])
    assert whole == pytest.approx(1.0, abs=1e-8)


@pytest.mark.parametrize("circle", CIRCLES)
def test_draws_are_normal_ones_without_their_turns(circle):
    """Draws lie between the ends and follow the density (Kolmogorov and Smirnov)."""
    ours = ck.WrappedNormal(*circle)
    loc, scale, low, high = circle
    torch.manual_seed(1)
    draws = ours.sample((4000,)).numpy()
    assert ((draws >= low) & (draws <= high)).all()

    def below(x):
        ends = np.stack([np.full_like(x, low), x])[..., None] + TURNS * (high - low)
        return np.diff(scipy.stats.norm(loc, scale).cdf(ends).sum(axis=-1), axis=0)[0]

    assert scipy.stats.kstest(draws, below).pvalue > 1e-3
    assert low <= ours.mean <= high
    assert math.sin(2 * math.pi * (ours.mean.item() - loc) / (high - low)) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("scale", [0.05, 1.25, 1.26, 8.0])
def test_derivatives(scale):
    """Derivatives by value, mean direction and scale are those of finite differences."""
    values = torch.tensor([0.4, 1.1, scale], requires_grad=True)

    def density(given):
        at, loc, width = given
        return ck.WrappedNormal(loc, width, 0.0, math.pi, validate_args=False).log_prob(at)

    assert torch.autograd.gradcheck(density, (values,))


def test_single_precision_takes_no_harm():
    """In single precision densities have its digits, and derivatives are finite, however narrow or wide."""
    scales = torch.tensor([1e-3, 0.1, 1.0, 100.0], dtype=torch.float32, requires_grad=True)
    found = ck.WrappedNormal(1.0, scales, 0.0, math.pi).log_prob(torch.tensor(1.001, dtype=torch.float32))
    known = [by_turns(1.001, 1.0, scale.item(), 0.0, math.pi) for scale in scales.detach()]
    np.testing.assert_allclose(found.detach(), known, rtol=2e-4)
    found.sum().backward()
    assert torch.isfinite(scales.grad).all()


def test_batches_and_ends():
    """Parameters broadcast, expansion keeps the density, and ends must be in their order."""
    many = ck.WrappedNormal(torch.zeros(3, 1), torch.ones(2), 0.0, math.pi)
    assert many.batch_shape == (3, 2)
    wider = many.expand((4, 3, 2))
    at = torch.tensor(0.3)
    torch.testing.assert_close(wider.log_prob(at), many.log_prob(at).expand(4, 3, 2))
    with pytest.raises(ck.PriorError, match="low must be below high everywhere, got low=1"):
        ck.WrappedNormal(0.0, 1.0, 1.0, 1.0, validate_args=True)
