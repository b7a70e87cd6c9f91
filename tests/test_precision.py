"""Double precision in constants, inputs, priors or data of a model whose default is single."""

import numpy as np
import pyro.distributions as dist
import pytest
import torch

import caskade_pyro as ck
from caskade_pyro.compiler import load_native

MEMBERS = 5


class Star(ck.Module):
    """A star whose distance is measured with a known error."""

    def __init__(self, error):
        super().__init__()
        self.distance = ck.Param("distance", shape=())
        self.error = ck.Param("error", error, shape=())

    @ck.forward
    def measured(self, distance, error):
        return dist.Normal(distance, error)


class Cluster(ck.Module):
    """Stars about one distance, each with an input of its own, shifted by a function of the mean."""

    def __init__(self, error):
        super().__init__()
        star = Star(error)
        self.hierarchical_link("stars", star, size=MEMBERS)
        self.mean = ck.Param("mean", prior=dist.Normal(2.0, 1.0))
        star.distance.prior = ck.prior(dist.Normal, self.mean, 0.5)

    @ck.forward
    def distances(self, shift, mean):
        found = ck.vmap(self.stars.measured)()
        return dist.Normal(found.loc + mean * shift, found.scale)


def bound(error=torch.float32, shift=torch.float32, data=torch.float32, prior=torch.float32):
    """The cluster, with tensors of these precisions."""
    cluster = Cluster(torch.linspace(0.1, 0.4, MEMBERS, dtype=torch.float64).to(error))
    cluster.mean.prior = dist.Normal(torch.tensor(2.0, dtype=prior), 1.0)
    model = ck.PyroModel(cluster.distances, dims={"obs": ("stars",)})
    shifts = torch.linspace(-1.0, 1.0, MEMBERS, dtype=torch.float64).to(shift)
    return model.bind(shifts, obs=torch.linspace(1.5, 3.0, MEMBERS, dtype=torch.float64).to(data))


@pytest.fixture(params=["scalars", "loops"])
def form(request, monkeypatch, tmp_path):
    """Each way in which we write densities as code, with an empty cache."""
    monkeypatch.setenv("CASKADE_PYRO_CACHE", str(tmp_path))
    if request.param == "loops":
        monkeypatch.setattr("caskade_pyro.compiler.cpp.MOST_INPUTS", 0)


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("doubled", ["error", "shift", "data", "prior"])
def test_double_precision_anywhere_makes_the_density_double(doubled):
    """The vector, the value and the gradient are double, compiled as eager, and agree with all in double."""
    density = ck.LogDensity(bound(**{doubled: torch.float64})).compile()
    everywhere = ck.LogDensity(bound(*[torch.float64] * 4))
    z = torch.linspace(-0.5, 0.7, density.dim)
    assert (density.form, density.dtype) == ("compiled", torch.float64)
    value, gradient = density.value_and_grad(z)
    expected, slope = everywhere.value_and_grad(z.double())
    assert value.dtype == gradient.dtype == torch.float64
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient, slope, rtol=1e-5, atol=1e-4)


def test_single_precision_everywhere_stays_single():
    """Without anything in double precision the density is that of the default."""
    assert ck.LogDensity(bound()).dtype == torch.float32


@pytest.mark.usefixtures("float64")
def test_numbers_of_single_precision_are_read_into_double():
    """A constant in single precision in a model in double precision is compiled by our own code."""
    written = load_native(ck.LogDensity(bound(prior=torch.float64))._program)
    assert written.value.dtype == torch.float64


@pytest.mark.parametrize("options", [{"chains": 2}, {"chains": 1, "engine": "pyro"}, {"chains": 8, "vectorized": True}])
@pytest.mark.filterwarnings("ignore::caskade_pyro.errors.ConvergenceWarning")
def test_every_sampler_takes_data_of_numpy(options):
    """Constants and data from numpy, in double precision, are sampled in it."""
    cluster = Cluster(np.linspace(0.1, 0.4, MEMBERS))
    model = ck.PyroModel(cluster.distances, dims={"obs": ("stars",)})
    data = model.bind(torch.zeros(MEMBERS), obs=np.linspace(1.5, 3.0, MEMBERS))
    posterior = ck.sample(data, draws=300, tune=200, seed=1, progress=False, **options)
    assert posterior.posterior["mean"].dtype == np.float64
    assert abs(float(posterior.posterior["mean"].mean()) - 2.2) < 0.2


def test_fits_take_data_of_numpy():
    """A compiled fit in single precision to data in double has the losses of Pyro's own."""
    data = bound(data=torch.float64)
    compiled, pyros = (ck.fit(data, steps=50, seed=1, progress=False, engine=one) for one in ("compiled", "pyro"))
    np.testing.assert_allclose(compiled.losses, pyros.losses, rtol=1e-4)


class Correlated(ck.Module):
    """Pairs of measurements with one covariance."""

    def __init__(self):
        super().__init__()
        self.scale = ck.Param("scale", prior=dist.HalfNormal(1.0))

    @ck.forward
    def pairs(self, errors, scale):
        covariance = torch.diag_embed(errors**2) + scale**2 * torch.ones(2, 2, dtype=errors.dtype)
        return dist.MultivariateNormal(torch.zeros(2, dtype=errors.dtype), covariance)


def test_matrices_in_single_precision_meet_data_in_double():
    """The density of a joint distribution in single precision, given data of numpy, compiles to that of all in double."""
    errors, data = torch.linspace(0.5, 1.0, 6).reshape(3, 2), np.linspace(-1.0, 1.0, 6).reshape(3, 2)
    mixed, double = (
        ck.LogDensity(ck.PyroModel(Correlated().pairs).bind(one, obs=data)) for one in (errors, errors.double())
    )
    assert (mixed.compile().form, mixed.dtype) == ("compiled", torch.float64)
    for ours, expected in zip(mixed.value_and_grad(torch.ones(1)), double.value_and_grad(torch.ones(1)), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
