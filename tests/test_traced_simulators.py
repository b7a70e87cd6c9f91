"""What simulators may do and still be traced, and what is said where they may not."""

import pyro.distributions as dist
import pytest
import torch

import caskade_pyro as ck

HERE = torch.tensor([True, False, True, False])


class Line(ck.Module):
    """A line whose predictors are completed by params."""

    def __init__(self, complete):
        super().__init__()
        self.a = ck.Param("a", shape=(2,), prior=dist.Normal(0.0, 1.0))
        self.complete = complete

    @ck.forward
    def seen(self, x, a):
        return dist.Normal(self.complete(x, a), 0.5)


def filled_clone(x, a):
    f = x.clone()
    f[HERE] = a
    return f


def filled_sum(x, a):
    f = x + 1
    f[torch.tensor([0, 3])] = a
    f[1] += a[0]
    return f


def filled_stack(x, a):
    f = torch.stack([x, x])
    f[0, :2] = a
    f[1] *= a[1]
    return f.sum(0)


def as_lists(x, a):
    weights = torch.cat([x, x + 1]).tolist()
    return x * (a[0] * weights[5] + float(x.sum()) + int((x > 0).sum())) + a[1] * (x + 1).numpy().sum()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("complete", [filled_clone, filled_sum, filled_stack, as_lists])
def test_copies_are_filled_and_constants_leave_torch(complete):
    """Simulators that fill copies of their inputs, or take constants out of torch, are traced, and inputs stay as they were."""
    x = torch.linspace(-1.0, 1.0, 4)
    density = ck.LogDensity(ck.PyroModel(Line(complete).seen).bind(x, obs=torch.ones(4)))
    assert (density.form, density.eager_because) == ("traced", None)
    assert torch.equal(x, torch.linspace(-1.0, 1.0, 4))
    for seed in range(3):
        z = torch.randn(2, generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(density.value_and_grad(z), density._eager(z))


def branching(x, a):
    if a[0] > 0:
        return x * a[1]
    return x


@pytest.mark.parametrize("complete", [branching])
def test_the_line_that_keeps_a_simulator_from_being_traced_is_named(complete):
    """The reason has the file, the number and the text of the line."""
    density = ck.LogDensity(ck.PyroModel(Line(complete).seen).bind(torch.ones(4), obs=torch.ones(4)))
    assert density.form == "eager"
    number = complete.__code__.co_firstlineno + 1
    assert f"test_traced_simulators.py:{number}: `if a[0] > 0:`" in density.eager_because


@pytest.mark.usefixtures("float64")
def test_a_gradient_that_is_nan_is_said_to_be_that():
    """A density that is finite, with a slope that is not, names the param and the mend."""
    bound = ck.PyroModel(Line(lambda x, a: torch.where(x < 9, a[1] * x, torch.sqrt(x - 9 + 0 * a[1]))).seen).bind(
        torch.ones(4), obs=torch.ones(4)
    )
    with pytest.raises(
        ck.SamplingError, match=r"density is finite, but its gradient by a is NaN.*torch\.where"
    ) as caught:
        ck.LogDensity(bound)
    assert "finite log density" not in str(caught.value)


SHARES = dist.Categorical(torch.tensor([0.2, 0.3, 0.5]))


class Regime(ck.Module):
    """A regime that is summed out, with a prior that lives on."""

    def __init__(self):
        super().__init__()
        self.regime = ck.Param("regime", shape=(), prior=SHARES)
        self.level = ck.Param("level", prior=dist.Normal(0.0, 1.0))

    @ck.forward
    def seen(self, regime, level):
        return dist.Normal(level, 0.5 + regime)


def test_what_a_prior_computes_while_it_is_traced_is_not_kept():
    """A distribution keeps what it has computed, but nothing that means something in a trace alone."""
    bound = ck.PyroModel(Regime().seen).bind(obs=torch.tensor(0.3))
    density = ck.LogDensity(bound)
    assert density.form == "traced"
    kept = [one for one in vars(SHARES).values() if isinstance(one, torch.Tensor)]
    assert kept
    assert not any(torch._is_functional_tensor(one) for one in kept)
    by_regime = torch.tensor([0.2, 0.3, 0.5]).log() + dist.Normal(0.1, torch.tensor([0.5, 1.5, 2.5])).log_prob(
        torch.tensor(0.3)
    )
    expected = by_regime.logsumexp(0) + dist.Normal(0.0, 1.0).log_prob(torch.tensor(0.1))
    torch.testing.assert_close(density.value(torch.tensor([0.1])), expected)
