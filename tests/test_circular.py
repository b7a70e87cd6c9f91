"""Params on a circle: posteriors that straddle the seam come out whole."""

import math
import re

import arviz as az
import numpy as np
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from scipy import integrate

import caskade_pyro as ck
from caskade_pyro.bridge.circular import Ring
from caskade_pyro.results.circular import unwrapped

FULL = 2 * math.pi


class Phase(ck.Module):
    """A phase seen through its sine and cosine, on a circle from 0 to a whole turn."""

    def __init__(self, prior=None, low=0.0):
        super().__init__()
        self.phase = ck.Param("phase", shape=(), valid=(low, low + FULL), cyclic=True, prior=prior)

    @ck.forward
    def seen(self, phase):
        return dist.Normal(torch.stack([phase.cos(), phase.sin()]), 0.5).to_event(1)


OBSERVED = torch.tensor([[0.9, 0.3], [1.2, -0.4], [0.7, -0.2]])


def density(phase, prior):
    """The unnormalised posterior density of the phase, by hand."""
    found = prior(phase)
    for cosine, sine in OBSERVED.tolist():
        found -= ((cosine - math.cos(phase)) ** 2 + (sine - math.sin(phase)) ** 2) / (2 * 0.5**2)
    return math.exp(found)


def exact(prior):
    """The mean direction and the standard deviation around it, by integration over the circle."""

    def moment(function):
        return integrate.quad(lambda x: function(x) * density(x, prior), -math.pi, math.pi, limit=200)[0]

    mass = moment(lambda _: 1.0)
    mean = math.atan2(moment(math.sin) / mass, moment(math.cos) / mass)

    def distance(x):
        return (x - mean + math.pi) % FULL - math.pi

    return mean, math.sqrt(moment(lambda x: distance(x) ** 2) / mass)


def von_mises(phase):
    return 2.0 * math.cos(phase - 0.7)


def wrapped(phase):
    return math.log(sum(math.exp(-0.5 * ((phase - 0.7 + FULL * turns) / 1.5) ** 2) for turns in range(-5, 6)))


@pytest.mark.filterwarnings("error::caskade_pyro.ConvergenceWarning")
@pytest.mark.parametrize(
    ("prior", "by_hand"),
    [
        pytest.param(None, lambda _: 0.0, id="uniform"),
        pytest.param(dist.VonMises(0.7, 2.0), von_mises, id="von_mises", marks=pytest.mark.slow),
        pytest.param(ck.WrappedNormal(0.7, 1.5, 0.0, FULL), wrapped, id="wrapped_normal", marks=pytest.mark.slow),
    ],
)
def test_a_posterior_across_the_seam(prior, by_hand):
    """NUTS on a posterior around the seam has mean and spread of the integral over the circle, and R-hat is content."""
    module = Phase(prior)
    bound = ck.PyroModel(module.seen).bind(obs=OBSERVED)
    posterior = ck.sample(bound, draws=800, tune=300, chains=2, seed=2, cores=1, progress=False)
    draws = posterior.posterior["phase"]
    assert ((draws >= 0) & (draws <= FULL)).all()
    assert 0.1 < (draws < 1).mean() < 0.9  # on both sides of the seam
    mean, sd = exact(by_hand)
    error = 4.5 * az.mcse(unwrapped(draws).to_dataset(name="phase"))["phase"].item()
    point = ck.point(posterior, module)["phase"].item()
    assert abs((point - mean + math.pi) % FULL - math.pi) < error
    median = ck.point(posterior, module, stat="median")["phase"].item()
    assert abs((median - point + math.pi) % FULL - math.pi) < 0.05
    assert unwrapped(draws).std().item() == pytest.approx(sd, rel=0.08)
    # As numbers on a line the draws are in two pieces, which the plain statistics do not see through.
    assert abs(draws.mean().item() - mean) > 1
    module.set_values(ck.point(posterior, module))


def test_two_chains_on_two_sides_of_the_seam_agree():
    """R-hat looks at distances on the circle: chains just below and just above the seam are at the same place."""
    rng = np.random.default_rng(1)
    values = rng.normal(0.0, 0.1, (2, 500)) % FULL
    found = az.from_dict(posterior={"phase": values})
    found.posterior["phase"].attrs["circle"] = (0.0, FULL)
    assert az.rhat(found)["phase"] < 1.05
    straight = unwrapped(found.posterior["phase"])
    assert straight.std().item() == pytest.approx(0.1, rel=0.1)
    assert abs(straight).max() < 1


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("low", [0.0, -math.pi, 1.0])
def test_a_prior_on_the_circle_is_drawn_evenly(low):
    """Rings drawn from their own density point in all directions evenly, and their density is one in all."""
    ring = Ring((4000,))
    points = ring.sample()
    bound = ck.PyroModel(Phase(low=low).seen).bind(obs=OBSERVED)
    found = poutine.trace(poutine.condition(bound.noncentered(), {"phase_ring": points[0]})).get_trace()
    assert low <= found.nodes["phase"]["value"] <= low + FULL
    angles = torch.atan2(points[:, 1], points[:, 0] + 1)
    assert angles.cos().mean().abs() < 4.5 / math.sqrt(2 * 4000)
    assert angles.sin().mean().abs() < 4.5 / math.sqrt(2 * 4000)

    def at(x, y):
        return Ring().log_prob(torch.tensor([x, y])).exp().item()

    radial, _ = integrate.quad(lambda radius: 2 * math.pi * radius * at(radius - 1, 0.0), 0, 4)
    assert radial == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("low", [0.0, 1.0])
def test_draws_of_a_von_mises_prior_lie_between_the_bounds(low):
    """The values that the simulator sees, and prior draws, lie where the param is; the density is von Mises'."""
    bound = ck.PyroModel(Phase(dist.VonMises(0.7, 2.0), low).seen).bind(obs=OBSERVED)
    draws = ck.prior_predictive(bound, draws=500, seed=1, progress=False).prior["phase"]
    assert ((draws >= low) & (draws <= low + FULL)).all()
    assert abs(np.angle(np.exp(1j * draws).mean()) - 0.7) < 4.5 * 0.9 / math.sqrt(500)
    run = poutine.trace(bound).get_trace()
    run.compute_log_prob()
    known = dist.VonMises(0.7, 2.0).log_prob(run.nodes["phase"]["value"])
    torch.testing.assert_close(run.nodes["phase"]["log_prob"], known)
    assert bound.report().rows()[0][2] == f"[{low:.4g}, {low + FULL:.4g}]"


@pytest.mark.parametrize(
    ("prior", "seen"),
    [
        (dist.Normal(0.0, 1.0), "Normal(0, 1) has the support real, which reaches beyond it"),
        (dist.HalfNormal(1.0), "HalfNormal(1) has the support >= 0, which reaches beyond it"),
        (dist.VonMises(0.0, 4.0), "VonMises(0, 4) has a circle of the length 2 pi"),
    ],
)
def test_a_prior_that_does_not_fit_the_circle(prior, seen):
    """A prior beyond the circle, or of a circle of another length, is refused, and what fits is named."""
    module = Phase()
    module.phase.valid = (0.0, math.pi)
    module.phase.prior = prior
    message = (
        f"Param phase is cyclic: it lies on a circle from 0 to 3.142, but its prior {seen}. Take ck.WrappedNormal(loc,"
    )
    with pytest.raises(ck.PriorError, match=re.escape(message)):
        ck.PyroModel(module.seen).bind(obs=OBSERVED)


def test_a_prior_on_a_part_of_the_circle_has_edges():
    """Where the prior leaves a part of the circle out there is no way around, and the param is sampled on a line."""
    bound = ck.PyroModel(Phase(dist.Uniform(0.5, 1.5)).seen).bind(obs=OBSERVED)
    assert "circle" not in bound.report().rows()[0][-1]


class Turn(ck.Module):
    """A turn whose prior covers the circle, but not evenly, though a uniform one stands behind it."""

    def __init__(self):
        super().__init__()
        squeezed = dist.TransformedDistribution(dist.Uniform(-3.0, 3.0), [dist.transforms.SigmoidTransform()])
        self.turn = ck.Param("turn", shape=(), valid=(0.0, 1.0), cyclic=True, prior=squeezed)

    @ck.forward
    def seen(self, turn):
        return dist.Normal(turn, 0.5)


@pytest.mark.usefixtures("float64")
def test_a_transformed_uniform_prior_keeps_its_density():
    """Between two points of the ring the density changes as the user's does between the two turns."""
    bound = ck.PyroModel(Turn().seen).bind(obs=torch.tensor(0.4))
    found, own = [], []
    for angle in (torch.tensor(0.5), torch.tensor(2.0)):
        point = torch.stack([angle.cos() - 1, angle.sin()])
        run = poutine.trace(poutine.condition(bound.noncentered(), {"turn_ring": point})).get_trace()
        found.append(run.log_prob_sum())
        value = {"turn": run.nodes["turn"]["value"]}
        own.append(poutine.trace(poutine.condition(bound, value)).get_trace().log_prob_sum())
    torch.testing.assert_close(found[1] - found[0], own[1] - own[0])
    assert abs(own[1] - own[0]) > 0.1


def test_variational_fits_cross_the_seam():
    """A normal guide on the ring finds the mean direction as well."""
    module = Phase()
    bound = ck.PyroModel(module.seen).bind(obs=OBSERVED)
    posterior = ck.fit(bound, steps=1500, seed=1, progress=False).sample(draws=2000, seed=2)
    mean, sd = exact(lambda _: 0.0)
    point = ck.point(posterior, module)["phase"].item()
    assert abs((point - mean + math.pi) % FULL - math.pi) < 0.05
    assert unwrapped(posterior.posterior["phase"]).std().item() == pytest.approx(sd, rel=0.3)
