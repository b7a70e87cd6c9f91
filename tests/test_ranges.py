"""Params that must be positive with priors that are not, data without numbers, plates without members."""

import numpy as np
import pyro.distributions as dist
import pytest
import torch

import caskade_pyro as ck

DATA = torch.tensor([0.3, 1.2, -0.4])


class Scaled(ck.Module):
    """A mean, and a scale that enters as the function says."""

    def __init__(self, prior, enters=lambda scale: scale, kind=dist.Normal):
        super().__init__()
        self.mean = ck.Param("mean", prior=dist.Normal(0.0, 1.0))
        self.scale = ck.Param("scale", shape=(), prior=prior)
        self.enters, self.kind = enters, kind

    @ck.forward
    def seen(self, mean, scale):
        return self.kind(mean, self.enters(scale))


def bind(*args, **kwargs):
    """The model with its data."""
    return ck.PyroModel(Scaled(*args, **kwargs).seen).bind(obs=DATA)


@pytest.mark.parametrize(
    "kind", [dist.Normal, dist.Laplace, dist.Cauchy, lambda loc, scale: dist.StudentT(4.0, loc, scale)]
)
@pytest.mark.parametrize("seed", range(3))
def test_a_scale_with_a_normal_prior_is_named(kind, seed):
    """The error names the param, the argument, the distribution, the observation and what to take, whatever is drawn."""
    torch.manual_seed(seed)
    with pytest.raises(ck.PriorError, match=r"scale.*positive.*HalfNormal.*LogNormal") as told:
        bind(dist.Normal(1.0, 1.0), kind=kind)
    assert "'obs'" in str(told.value)


def test_a_scale_that_is_negative_at_the_preflight_is_named_too():
    """Where the simulator fails at the first draw, the params that are negative are named."""
    with pytest.raises(ck.PriorError, match=r"Must .*scale.* be positive\? Take dist\.HalfNormal"):
        bind(dist.Normal(-3.0, 0.1))


@pytest.mark.parametrize(
    ("prior", "enters"),
    [
        (dist.HalfNormal(1.0), lambda scale: scale),
        (dist.LogNormal(0.0, 1.0), lambda scale: scale),
        (dist.Uniform(0.0, 3.0), lambda scale: scale),
        (dist.Normal(30.0, 1.0), lambda scale: scale),
        (ck.TruncatedNormal(1.0, 1.0, low=0.0), lambda scale: scale),
        (dist.Normal(1.0, 1.0), torch.exp),
        (dist.Normal(1.0, 1.0), torch.abs),
        (dist.Normal(1.0, 1.0), lambda scale: 0.1 + scale**2),
    ],
    ids=["half", "lognormal", "uniform", "far from zero", "truncated", "exp", "abs", "square"],
)
def test_what_stays_positive_is_taken(prior, enters):
    """Positive priors, those with next to nothing below zero, and functions that are positive."""
    assert bind(prior, enters).data


def test_a_scale_of_a_population_is_named():
    """Also where the scale is an argument of a prior."""

    class Member(ck.Module):
        def __init__(self):
            super().__init__()
            self.x = ck.Param("x", shape=())

        @ck.forward
        def seen(self, x):
            return dist.Normal(x, 1.0)

    class Members(ck.Module):
        def __init__(self):
            super().__init__()
            member = Member()
            self.hierarchical_link("members", member, size=3)
            self.spread = ck.Param("spread", prior=dist.Normal(1.0, 1.0))
            member.x.prior = ck.prior(dist.Normal, 0.0, self.spread)

        @ck.forward
        def seen(self):
            return ck.vmap(self.members.seen)()

    with pytest.raises(
        ck.PriorError, match=r"spread is the scale of the Normal that is the prior of members\.x.*positive"
    ):
        ck.PyroModel(Members().seen).bind(obs=DATA)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda mean, p: dist.Bernoulli(p), "between 0 and 1"),
        (lambda mean, p: dist.Poisson(p), "positive"),
        (lambda mean, p: dist.Exponential(p), "positive"),
        (lambda mean, p: dist.Gamma(2.0, p), "positive"),
    ],
    ids=["bernoulli", "poisson", "exponential", "gamma"],
)
def test_rates_and_probabilities_too(make, message):
    """A rate or a probability with a normal prior is refused, or its draw is."""
    with pytest.raises(ck.ModelError, match=rf"{message}|Expected parameter"):
        ck.PyroModel(Scaled(dist.Normal(0.5, 0.5), kind=make).seen).bind(obs=torch.ones(3))


def test_a_start_search_that_meets_a_negative_scale_names_it():
    """Where nothing else is left, the culprit's argument and its value are said."""

    class Late(ck.Module):
        def __init__(self):
            super().__init__()
            self.log_scale = ck.Param("log_scale", prior=dist.Normal(0.0, 0.01))

        @ck.forward
        def seen(self, log_scale):
            return dist.Normal(0.0, torch.exp(log_scale) - 9.0, validate_args=False)

    with pytest.raises(ck.SamplingError, match=r"obs \(nan.*whose scale of -.*outside of where Normal is defined"):
        ck.LogDensity(ck.PyroModel(Late().seen).bind(obs=DATA))


@pytest.mark.parametrize("empty", [torch.zeros(0), np.zeros((0,)), [], torch.zeros(3, 0)])
def test_data_without_numbers_are_refused(empty):
    """The error names the data set and its shape."""
    with pytest.raises(ck.ObservationError, match=r"data of 'obs' have shape \((3, )?0,?\): there are no numbers"):
        ck.PyroModel(Scaled(dist.HalfNormal(1.0)).seen).bind(obs=empty)


def test_a_plate_without_members_is_refused():
    """The error names the plate and the params that say so."""

    class Members(ck.Module):
        def __init__(self):
            super().__init__()
            member = Scaled(dist.HalfNormal(1.0))
            member.offset = ck.Param("offset", torch.zeros(0), shape=())
            self.hierarchical_link("members", member)

        @ck.forward
        def seen(self):
            return ck.vmap(self.members.seen)()

    with pytest.raises(ck.PlateError, match=r"Plate members has no members.*members\.offset"):
        ck.PyroModel(Members().seen).bind()
