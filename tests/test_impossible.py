"""Places where a matrix cannot be factorised, as the covariance of a Gaussian process for some params."""

import math

import arviz as az
import pyro.distributions as dist
import pytest
import torch

import caskade_pyro as ck

SIZE = 12


class Process(ck.Module):
    """All pairs are equally correlated: positive definite above minus one over their number less one."""

    def __init__(self):
        super().__init__()
        self.correlation = ck.Param("correlation", prior=dist.Uniform(-0.3, 1.0))

    @ck.forward
    def data(self, correlation):
        covariance = correlation * torch.ones(SIZE, SIZE) + (1 - correlation) * torch.eye(SIZE)
        return dist.MultivariateNormal(torch.zeros(SIZE), covariance)


def bound():
    """Data that say that the correlation is small."""
    sign = torch.tensor([1.0, -1.0]).repeat(SIZE // 2)
    return ck.PyroModel(Process().data).bind(obs=0.9 * sign + 0.2)


def possible():
    """The mean of the correlation by quadrature, where the covariance is positive definite."""
    grid = torch.linspace(-1 / (SIZE - 1) + 1e-4, 1 - 1e-4, 20_000, dtype=torch.float64)
    data = (0.9 * torch.tensor([1.0, -1.0]).repeat(SIZE // 2) + 0.2).double()
    along = data.sum() ** 2 / SIZE
    rest = (data**2).sum() - along
    large, small = 1 + (SIZE - 1) * grid, 1 - grid
    log_density = -0.5 * (along / large + rest / small + large.log() + (SIZE - 1) * small.log())
    weights = (log_density - log_density.max()).exp()
    return float((weights * grid).sum() / weights.sum())


@pytest.mark.parametrize("compiled", [False, True])
def test_the_density_is_nan_where_a_matrix_cannot_be_factorised(compiled):
    """At one vector and at many, in the form as traced and as compiled, and the others are as they are."""
    density = ck.LogDensity(bound())
    density = density.compile() if compiled else density
    z = torch.tensor([[0.3], [-3.0]])
    assert math.isnan(density.value(z[1]))
    assert torch.isnan(density.value_and_grad(z[1])[1]).all()
    values, gradients = density.value_and_grad(z)
    expected, slope = density.value_and_grad(z[0])
    torch.testing.assert_close((values[0], gradients[0]), (expected, slope))
    assert values.isnan().tolist() == [False, True]
    assert gradients.isnan().flatten().tolist() == [False, True]


@pytest.mark.parametrize("settings", [{"chains": 4, "draws": 1000}, {"chains": 8, "draws": 100, "vectorized": True}])
@pytest.mark.filterwarnings("ignore::caskade_pyro.errors.ConvergenceWarning")
def test_a_chain_goes_on_past_what_cannot_be_factorised(settings):
    """Such places are divergences, and the posterior beside them is that of a quadrature."""
    posterior = ck.sample(bound(), tune=200, seed=1, progress=False, **settings)
    found = posterior.posterior["correlation"]
    error = float(az.mcse(found)["correlation"])
    assert error < 0.03
    assert abs(float(found.mean()) - possible()) < 4 * error
