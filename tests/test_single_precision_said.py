"""Where single precision is too coarse for what it holds, that is said, with the numbers."""

import warnings

import numpy as np
import pyro.distributions as dist
import pytest
import torch

import caskade_pyro as ck

NEAR = 2458001.1357
DOUBLE = torch.float64
SINGLE = torch.tensor([NEAR + one for one in range(4)])


class Level(ck.Module):
    """A level, with a likelihood of some family and scale."""

    def __init__(self, likelihood, prior=None, scale_prior=None):
        super().__init__()
        self.likelihood = likelihood
        self.level = ck.Param("level", prior=prior or dist.Normal(torch.tensor(NEAR, dtype=DOUBLE), 1e4))
        if scale_prior is not None:
            self.scale = ck.Param("scale", prior=scale_prior)
        else:
            self.scale = ck.Param("scale", 7e-4)

    @ck.forward
    def seen(self, level, scale):
        return self.likelihood(level, scale)


def joint(level, scale):
    """A joint normal distribution of four."""
    return dist.MultivariateNormal(level.expand(4), scale**2 * torch.eye(4, dtype=level.dtype))


def mixture(level, scale):
    """Of a narrow and a wide component."""
    scales = torch.stack([scale.to(level.dtype), torch.full_like(level, 1e6)])
    return dist.MixtureSameFamily(
        dist.Categorical(torch.ones(2, dtype=level.dtype)), dist.Normal(level.expand(2), scales)
    )


FAMILIES = {
    "normal": dist.Normal,
    "student": lambda level, scale: dist.StudentT(2.0, level, scale),
    "cauchy": dist.Cauchy,
    "lognormal": lambda level, scale: dist.LogNormal(level.log(), scale * 1e-6),
    "joint": joint,
    "mixture": mixture,
    "event": lambda level, scale: dist.Normal(level.expand(4), scale).to_event(1),
}


def told(bind):
    """What is said of precision while a function runs."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        bind()
    return [str(one.message) for one in found if issubclass(one.category, ck.PrecisionWarning)]


@pytest.mark.parametrize("family", FAMILIES)
def test_single_data_of_a_double_model_are_told(family):
    """The warning names the data, the spacing and where, and what to give; data in double are taken without a word."""
    model = ck.PyroModel(Level(FAMILIES[family]).seen)
    (message,) = told(lambda: model.bind(obs=SINGLE))
    assert "data of 'obs'" in message
    assert "float32" in message
    assert "0.25 apart at 24580" in message
    assert "torch.float64" in message
    assert told(lambda: model.bind(obs=SINGLE.double())) == []
    assert told(lambda: model.bind(obs=[NEAR + one for one in range(4)])) == []


def test_fine_data_are_taken_without_a_word():
    """Where the spacing is small beside the scale, nothing is said: of counts, of wide scales, of data near zero."""
    wide = Level(FAMILIES["normal"], dist.Normal(0.0, 100.0))
    wide.scale = 30.0
    assert told(lambda: ck.PyroModel(wide.seen).bind(obs=torch.tensor([100.0, -40000.0]))) == []

    class Counts(ck.Module):
        def __init__(self):
            super().__init__()
            self.rate = ck.Param("rate", prior=dist.Gamma(2.0, 0.1))

        @ck.forward
        def seen(self, rate):
            return dist.Poisson(rate)

    assert told(lambda: ck.PyroModel(Counts().seen).bind(obs=torch.tensor([1e6, 2e6]))) == []


def test_rounded_priors_are_told():
    """A ready-made prior that torch has rounded is named, with ck.prior as the mend; that one is taken."""
    data = np.array([NEAR, NEAR + 0.1])
    (message,) = told(lambda: ck.PyroModel(Level(FAMILIES["normal"], dist.Normal(NEAR, 1.0)).seen).bind(obs=data))
    assert "prior Normal(2.458e+06, 1) of param level" in message
    assert "ck.prior(dist.Normal" in message
    for prior in (
        ck.prior(dist.Normal, NEAR, 1.0),
        dist.Normal(torch.tensor(NEAR, dtype=DOUBLE), 1.0),
        dist.Normal(0.1, 1.0),
        dist.Uniform(0.0, 5e6),
    ):
        level = Level(FAMILIES["normal"], prior)
        assert told(lambda level=level: ck.PyroModel(level.seen).bind(obs=data)) == []
    narrow = Level(FAMILIES["normal"], dist.Uniform(NEAR - 1, NEAR + 1))
    assert len(told(lambda: ck.PyroModel(narrow.seen).bind(obs=data))) == 1


def test_a_model_all_in_single_precision_is_told():
    """Data and prior are named, and the whole model is asked to be double."""
    level = Level(FAMILIES["normal"], dist.Normal(NEAR, 1.0))
    messages = told(lambda: ck.PyroModel(level.seen).bind(obs=SINGLE))
    assert len(messages) == 2
    assert all("set_default_dtype(torch.float64)" in one for one in messages)


def test_what_cannot_be_seen_at_bind_is_told_after_sampling():
    """A scale that is to be found, and a posterior as wide as the steps; the advice on divergences names single precision."""
    level = Level(FAMILIES["normal"], dist.Normal(1e5, 1e5), scale_prior=dist.HalfNormal(1.0))
    data = torch.tensor(100_000.0 + np.random.default_rng(1).normal(0, 0.5, 40), dtype=torch.float32)
    bound = ck.PyroModel(level.seen).bind(obs=data)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        posterior = ck.sample(bound, 200, 300, 2, seed=1, progress=False)
    messages = [str(one.message) for one in found]
    assert posterior.posterior["level"].dtype == np.float32
    assert any("does not resolve the posterior of level" in one for one in messages)
    assert any("data of 'obs' are in single precision" in one for one in messages)
    assert not any("target_accept" in one for one in messages)


@pytest.mark.filterwarnings("ignore::caskade_pyro.errors.ConvergenceWarning")
@pytest.mark.parametrize("unit", [1e-17, 1e19])
def test_small_and_large_units_are_right_in_single_precision(unit):
    """The posterior of a conjugate mean is the same in any unit that single precision holds with its squares."""
    data = torch.tensor(unit * (3.0 + np.random.default_rng(0).normal(0, 0.1, 6)), dtype=torch.float32)
    level = Level(dist.Normal, dist.Normal(3.0 * unit, 2.0 * unit))
    level.scale = 0.1 * unit
    bound = ck.PyroModel(level.seen).bind(obs=data)
    posterior = ck.sample(bound, 500, 300, 2, seed=1, progress=False).posterior["level"].astype(float) / unit
    precision = 1 / 4 + 600
    expected = (3 / 4 + float(data.double().sum()) / unit * 100) / precision
    assert abs(float(posterior.mean()) - expected) < 0.2 * precision**-0.5
    assert abs(float(posterior.std()) * precision**0.5 - 1) < 0.15


@pytest.mark.parametrize("unit", [1e-25, 1e30])
def test_units_beyond_single_precision_are_told(unit):
    """The error of the start search names single precision."""
    level = Level(dist.Normal, dist.Normal(3.0 * unit, 2.0 * unit))
    level.scale = 0.1 * unit
    bound = ck.PyroModel(level.seen).bind(obs=torch.full((6,), 3.0 * unit))
    with pytest.raises(ck.SamplingError, match=r"single precision \(float32\)"):
        ck.LogDensity(bound)


class Referred(ck.Module):
    """A level relative to a reference that is a constant or an input."""

    def __init__(self, constant):
        super().__init__()
        self.level = ck.Param("level", prior=dist.Normal(0.0, 1.0))
        self.constant = ck.Param("constant", constant)

    @ck.forward
    def seen(self, reference, level, constant):
        return dist.Normal(reference + constant + level, 1e-3)


def test_coarse_constants_and_inputs_of_a_double_model_are_told():
    """A constant or an input in single precision that moves predictions by its rounding is named; small ones are not."""
    data, zero = SINGLE.double(), torch.zeros(4, dtype=DOUBLE)
    (message,) = told(lambda: ck.PyroModel(Referred(SINGLE).seen).bind(zero, obs=data))
    assert "constant constant is in single precision" in message
    assert "0.25 apart" in message
    (message,) = told(lambda: ck.PyroModel(Referred(zero).seen).bind(SINGLE, obs=data))
    assert "The input reference is in single precision" in message
    for constant, reference in (
        (SINGLE.double(), zero),
        (zero, SINGLE.double()),
        (SINGLE.tolist(), zero),
        (zero, SINGLE.tolist()),
    ):
        model = ck.PyroModel(Referred(constant).seen)
        assert told(lambda model=model, reference=reference: model.bind(reference, obs=data)) == []
    small = torch.linspace(0, 1, 4)
    assert told(lambda: ck.PyroModel(Referred(small).seen).bind(small, obs=np.zeros(4))) == []
