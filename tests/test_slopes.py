"""A gradient that is not the slope of the density is found out; what is only rough is not."""

import arviz as az
import numpy as np
import pyro.distributions as dist
import pytest
import torch

import caskade_pyro as ck


class Cubed(torch.autograd.Function):
    """A third power whose author forgot a factor."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x**3

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, slope):
        (x,) = ctx.saved_tensors
        return slope * x**2


def detached(x):
    return x.detach().sin()


def by_numpy(x):
    return torch.as_tensor(np.sin(x.detach().numpy()))


def in_part(x):
    return x.exp() + x.detach().sin()


def as_number(x):
    return torch.tensor(x.detach().item()) * 2


def threshold(x):
    return torch.where(torch.linspace(-1.0, 1.0, 10) > x, 1.0, 0.0)


def kinks(x):
    return (x - torch.linspace(-1.0, 1.0, 10)).abs() + x.remainder(0.3)


def steps(x):
    return x.round() + (x > 0)


class Curve(ck.Module):
    def __init__(self, function, noise):
        super().__init__()
        self.a = ck.Param("a", prior=dist.Normal(0.3, 1.0))
        self.b = ck.Param("b", prior=dist.Laplace(0.0, 1.0))
        self.function, self.noise = function, noise

    @ck.forward
    def seen(self, a, b):
        return dist.Normal(self.function(a) + b, self.noise)


def bound(function, noise=0.1):
    return ck.PyroModel(Curve(function, noise).seen).bind(obs=torch.full((10,), 0.5))


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::caskade_pyro.PerformanceWarning")
@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
@pytest.mark.parametrize("function", [detached, by_numpy, in_part, as_number, Cubed.apply])
def test_a_wrong_gradient_is_an_error(function, precision, request):
    """Leaving torch, wholly or in part, and a wrong backward pass are errors that name the param."""
    if precision is torch.float64:
        request.getfixturevalue("float64")
    with pytest.raises(ck.SamplingError, match="The gradient of the log density is wrong by a: "):
        ck.LogDensity(bound(function))


@pytest.mark.parametrize("infer", [ck.sample, ck.fit])
def test_inference_stops_at_a_wrong_gradient(infer):
    """Neither samplers nor fits begin."""
    with pytest.raises(ck.SamplingError, match=r"leave torch on the way from there \(numpy, scipy, \.item\(\)"):
        infer(bound(in_part), progress=False)


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
@pytest.mark.parametrize("function", [torch.sin, threshold, kinks, steps])
def test_edges_and_steps_are_no_wrong_gradients(function, precision, request):
    """Densities with kinks and jumps have gradients almost everywhere, and these are right."""
    if precision is torch.float64:
        request.getfixturevalue("float64")
    assert ck.LogDensity(bound(function)).dim == 2


@pytest.mark.parametrize("engine", ["auto", "pyro"])
@pytest.mark.parametrize("function", [threshold, detached])
def test_a_fit_refuses_what_it_cannot_see(function, engine):
    """Where a param enters through comparisons or detached alone, a fit would stay at its prior and is refused."""
    with pytest.raises(ck.SamplingError, match=r"obs depends on a through a comparison.*Sample with ck\.sample"):
        ck.fit(bound(function), engine=engine, progress=False)


@pytest.mark.filterwarnings("ignore::caskade_pyro.ConvergenceWarning")
def test_nuts_is_right_across_steps():
    """A threshold, by which the density jumps, has the posterior that a sum over a fine grid gives."""
    posterior = ck.sample(bound(threshold, 1.0), draws=4000, tune=1000, chains=2, seed=1, progress=False).posterior["a"]
    a, b = torch.meshgrid(torch.linspace(-4, 4.6, 861), torch.linspace(-3, 3, 601), indexing="ij")
    prior = dist.Normal(0.3, 1.0).log_prob(a) + dist.Laplace(0.0, 1.0).log_prob(b)
    raised = torch.where(torch.linspace(-1.0, 1.0, 10) > a[..., None], 1.0, 0.0)
    weight = (prior + dist.Normal(raised + b[..., None], 1.0).log_prob(torch.tensor(0.5)).sum(-1)).flatten().softmax(0)
    mean = (weight * a.flatten()).sum().item()
    sd = (weight * (a.flatten() - mean) ** 2).sum().sqrt().item()
    error = 4.5 * az.mcse(posterior.to_dataset(), var_names="a")["a"].item()
    assert abs(posterior.mean().item() - mean) < error
    assert posterior.std().item() == pytest.approx(sd, rel=0.15)
