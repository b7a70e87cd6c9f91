"""Code that is wrong by being impossible where the posterior is: no draw goes there, and the guard looks there all the same."""

import pyro.distributions as dist
import pytest
import torch

import caskade_pyro as ck
from caskade_pyro.compiler.ops import OPERATIONS, Pointwise
from caskade_pyro.density import compiled, log_density
from caskade_pyro.density.agreement import beyond

RIGHT = 3.396
"""About log(30), where three measurements of exp(x) are 30."""


class Growth(ck.Module):
    """A rate whose exponential is measured."""

    def __init__(self):
        super().__init__()
        self.x = ck.Param("x", shape=(), prior=dist.Normal(0.0, 0.7))

    @ck.forward
    def seen(self, x):
        return dist.Normal(torch.exp(x), 2.0)


@pytest.fixture(params=["NAN", "INFINITY", "-100."])
def wall(request, monkeypatch, tmp_path):
    """A wrong operation in our code, beyond where chains start and draws from the prior lie."""
    monkeypatch.setenv("CASKADE_PYRO_CACHE", str(tmp_path))
    monkeypatch.setattr(log_density, "BACKENDS", {"caskade_pyro wrote": compiled.load_native})
    wrong = f"({{0}} < 2.2 ? std::exp({{0}}) : {request.param})"
    monkeypatch.setitem(OPERATIONS, "exp", Pointwise((wrong, None, None), "r"))


@pytest.mark.usefixtures("wall", "float64")
@pytest.mark.filterwarnings("ignore::caskade_pyro.ConvergenceWarning")
@pytest.mark.parametrize("options", [{"chains": 2, "cores": 1}, {"chains": 4, "vectorized": True}])
def test_draws_that_press_against_a_wall_of_wrong_code_are_not_returned(options):
    """The run is done again on the traced density."""
    model = ck.PyroModel(Growth().seen).bind(obs=torch.full((3,), 30.0))
    with pytest.warns(
        ck.PerformanceWarning, match="done again on the traced density, because the code that caskade_pyro"
    ):
        found = ck.sample(model, draws=60, tune=80, seed=1, progress=False, **options)
    assert found.posterior.x.mean().item() == pytest.approx(RIGHT, abs=0.03)


@pytest.mark.usefixtures("wall", "float64")
@pytest.mark.filterwarnings("ignore::caskade_pyro.ConvergenceWarning")
def test_a_fit_that_wrong_code_ends_is_done_again():
    """A loss that is not finite because of wrong code is not blamed on the step."""
    model = ck.PyroModel(Growth().seen).bind(obs=torch.full((3,), 30.0))
    with pytest.warns(ck.PerformanceWarning, match="done again on the traced density"):
        fit = ck.fit(model, steps=600, lr=0.05, seed=1, progress=False)
    assert fit.sample(100, seed=1).posterior.x.mean().item() == pytest.approx(RIGHT, abs=0.05)


def test_points_beyond_draws_surround_them():
    """They lie on the lines from the centre of the draws through each, farther out."""
    draws = torch.randn(12, 3, dtype=torch.float64)
    found = beyond(draws)
    torch.testing.assert_close(found.mean(0), draws.mean(0))
    torch.testing.assert_close(found - found.mean(0), 3 * (draws - draws.mean(0)))
