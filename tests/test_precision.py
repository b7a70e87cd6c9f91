"""Double precision in a model of single precision: data and constants as numpy has them."""

import numpy as np
import pyro.distributions as dist
import pytest
import torch

import caskade_pyro as ck
from caskade_pyro.density import native, scalar_code
from caskade_pyro.density.loop_code import loops_are_fast

FEW, MANY = 6, 300


class Detector(ck.Module):
    def __init__(self, mass):
        super().__init__()
        self.gain = ck.Param("gain", shape=())
        self.mass = ck.Param("mass", mass, shape=())

    @ck.forward
    def response(self, x, gain, mass):
        return gain * torch.log(mass) * torch.exp(-x * mass)


class Array(ck.Module):
    def __init__(self, detector, n):
        super().__init__()
        self.hierarchical_link("detectors", detector, size=n)
        self.mean = ck.Param("mean", prior=dist.Normal(1.0, 1.0))
        self.noise = ck.Param("noise", prior=dist.HalfNormal(1.0))
        detector.gain.prior = ck.prior(dist.Normal, self.mean, 0.3)

    @ck.forward
    def responses(self, x, noise):
        return dist.Normal(ck.vmap(self.detectors.response)(x), noise)


def measured(members, dtype):
    """Detectors whose known masses and readings are arrays of numpy; the inputs are torch's."""
    random = np.random.default_rng(0)
    mass = random.uniform(1.5, 2.5, members).astype(dtype)
    x = torch.linspace(0.0, 1.0, 12)
    readings = np.log(mass)[:, None] * np.exp(-mass[:, None] * x.numpy()) + random.normal(0, 0.1, (members, 12))
    model = ck.PyroModel(Array(Detector(mass), members).responses, dims={"obs": ("detectors",)})
    return model.bind(x, obs=readings.astype(dtype))


def agree(mixed):
    """The density is in double precision, and that of the same model in single precision but for rounding."""
    assert (mixed.form, mixed.eager_because, mixed.dtype) == ("compiled", None, torch.float64)
    single = ck.LogDensity(measured(mixed.dim - 2, "float32"))
    assert single.dtype == torch.float32
    for seed in range(3):
        z = 0.3 * torch.randn(mixed.dim, generator=torch.Generator().manual_seed(seed))
        for found, expected in zip(mixed.value_and_grad(z.double()), single.value_and_grad(z), strict=True):
            torch.testing.assert_close(found, expected.double(), rtol=1e-3, atol=1e-2)


def test_a_small_density_with_numpys_data_is_written_out(monkeypatch):
    """Data and constants in double precision make the density double, and it needs no Inductor."""
    monkeypatch.setattr(native, "lower", None)
    agree(ck.LogDensity(measured(FEW, "float64")).compile())


@pytest.mark.skipif(not loops_are_fast(), reason="Inductor writes the loops on this machine")
def test_a_large_density_with_numpys_data_is_written_in_loops(monkeypatch):
    """So it is where the density is written in loops."""
    monkeypatch.setattr(native, "lower", None)
    agree(ck.LogDensity(measured(MANY, "float64")).compile())


def test_inductor_compiles_mixed_precision(monkeypatch, tmp_path):
    """Where Inductor has to write the kernels, their results have the precision of the vector."""
    monkeypatch.setenv("CASKADE_PYRO_CACHE", str(tmp_path))
    monkeypatch.setattr(scalar_code, "MOST_INPUTS", 0)
    monkeypatch.setattr(native, "loops_are_fast", lambda: False)
    agree(ck.LogDensity(measured(FEW, "float64")).compile())


@pytest.mark.parametrize("settings", [{"chains": 2, "draws": 1500}, {"chains": 64, "draws": 60, "vectorized": True}])
def test_numpys_data_are_sampled(settings):
    """Posteriors of data in double precision are found, in double precision."""
    posterior = ck.sample(measured(FEW, "float64"), tune=500, seed=1, progress=False, **settings)
    assert posterior.posterior["mean"].dtype == np.float64
    expected = ck.sample(measured(FEW, "float32"), draws=1500, tune=500, chains=2, seed=2, progress=False)
    found, others = (one.posterior["detectors.gain"] for one in (posterior, expected))
    np.testing.assert_allclose(found.mean(("chain", "draw")), others.mean(("chain", "draw")), atol=0.02)


def test_fits_of_numpys_data_are_compiled():
    """The steps of a fit are compiled for data in double precision as well, and warn of nothing."""
    fit = ck.fit(measured(FEW, "float64"), steps=50, seed=1, engine="compiled", progress=False)
    assert np.isfinite(fit.losses).all()
