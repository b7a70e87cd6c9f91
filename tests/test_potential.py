"""The potential energy: the traced form is the model's own density, and what cannot be traced runs eagerly."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from bridged import PAIRS
from pyro import poutine
from pyro.infer.autoguide.initialization import init_to_sample, init_to_uniform, init_to_value

import caskade_pyro as ck
from caskade_pyro.density import make_potential


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", PAIRS)
def test_traced_potential_is_minus_the_log_density(name):
    """At random points the traced potential is minus the hand-written model's log density and its Jacobian."""
    pair = PAIRS[name]()
    potential = make_potential(pair.bound, init_to_sample())
    assert potential.eager_because is None
    for _ in range(5):
        point = {site: torch.randn_like(value) for site, value in potential.initial.items()}
        values = {site: potential.transforms[site].inv(value) for site, value in point.items()}
        expected = poutine.trace(poutine.condition(pair.by_hand, data=values)).get_trace().log_prob_sum()
        for site, value in point.items():
            jacobian = potential.transforms[site].inv.log_abs_det_jacobian(value, values[site])
            expected = expected + jacobian.sum()
        torch.testing.assert_close(potential.function(point), -expected, rtol=1e-10, atol=1e-10)


def test_gradient_of_the_traced_potential():
    """The gradient that the traced potential hands out is that of finite differences."""
    torch.set_default_dtype(torch.float64)
    try:
        potential = make_potential(PAIRS["two_nested"]().bound, init_to_sample())
        names = list(potential.initial)
        point = [value.clone().requires_grad_() for value in potential.initial.values()]
        assert torch.autograd.gradcheck(
            lambda *values: potential.function(dict(zip(names, values, strict=True))), point
        )
    finally:
        torch.set_default_dtype(torch.float32)


class Branching(ck.Module):
    """A simulator whose path depends on the value of a param."""

    def __init__(self):
        super().__init__()
        self.mu = ck.Param("mu", prior=dist.Normal(0.0, 1.0))

    @ck.forward
    def data(self, mu):
        return dist.Normal(mu if mu > 0 else 2 * mu, 1.0)


def test_what_branches_on_a_value_runs_eagerly():
    """A simulator with data-dependent control flow is not traced; the reason is kept, and the density is right."""
    bound = ck.PyroModel(Branching().data).bind(obs=torch.tensor([0.3, -0.2]))
    potential = make_potential(bound, init_to_sample())
    assert potential.eager_because
    for mu in (-0.7, 0.7):
        expected = poutine.trace(poutine.condition(bound, data={"mu": torch.tensor(mu)})).get_trace().log_prob_sum()
        torch.testing.assert_close(potential.function({"mu": torch.tensor(mu)}), -expected)


def test_a_simulator_with_a_memory_is_not_traced():
    """A density that changes from call to call is noticed, since the trace would freeze it."""
    calls = []

    class Forgetful(Branching):
        @ck.forward
        def data(self, mu):
            calls.append(1)
            return dist.Normal(mu + len(calls), 1.0)

    bound = ck.PyroModel(Forgetful().data).bind(obs=torch.tensor([0.3, -0.2]))
    pyro.set_rng_seed(0)
    assert "differs" in make_potential(bound, init_to_sample()).eager_because


class Variance(ck.Module):
    """Data whose variance has a prior that is hardly proper."""

    def __init__(self):
        super().__init__()
        self.variance = ck.Param("variance", prior=dist.InverseGamma(1e-3, 1e-3))

    @ck.forward
    def data(self, variance):
        return dist.Normal(0.0, variance.sqrt())


@pytest.mark.filterwarnings("ignore:Encountered:UserWarning")  # of infinite log densities, which are the point here
def test_another_start_is_tried_where_draws_from_the_priors_overflow():
    """Where no median of draws has a finite density, the next way to start is tried; where none has, that is said."""
    pyro.set_rng_seed(0)
    bound = ck.PyroModel(Variance().data).bind(obs=torch.tensor([0.3, -0.2]))
    overflowing = init_to_value(values={"variance": torch.tensor(torch.inf)})
    potential = make_potential(bound, overflowing, init_to_uniform())
    assert torch.isfinite(potential.function(potential.initial))
    with pytest.raises(ck.SamplingError, match="No starting point has a finite log density"):
        make_potential(bound, overflowing)
