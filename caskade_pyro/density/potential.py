"""The potential energy of a model: minus its log density over unconstrained params, with gradients.

Pyro's own potential runs the model with all its effect handlers at every step. Tracing it once leaves a plain graph of
tensor operations for value and gradient, made from the Pyro model itself, so that there is one definition of the density.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro.infer.mcmc.util import initialize_model
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from ..errors import SamplingError

__all__ = ["Potential", "make_potential"]

Params = dict[str, Tensor]


@dataclass(frozen=True)
class Potential:
    """A potential energy and what a sampler needs with it.

    Attributes:
        function: From unconstrained params by sampled site, the potential energy; differentiable.
        transforms: By sampled site, from its own values to unconstrained ones.
        initial: A starting point, unconstrained.
        eager_because: Why it is not traced; None if it is.
    """

    function: Callable[[Params], Tensor]
    transforms: dict[str, Any]
    initial: Params
    eager_because: str | None


def make_potential(model: Callable[[], Any], *init_strategies: Callable[..., Any]) -> Potential:
    """The potential energy of a model, traced where it can be.

    Args:
        model: A Pyro model of no arguments.
        init_strategies: Pyro's ways to choose the starting point; each is tried where the ones before it find no point of
            finite density, as happens with priors that are hardly proper.

    Returns:
        The potential, which agrees with Pyro's at the starting point in value and gradient.

    Raises:
        SamplingError: No starting point has a finite density.
    """
    initial, eager, transforms = _initialise(model, init_strategies)
    initial = {name: value.detach() for name, value in initial.items()}
    try:
        traced = _trace(eager, initial)
        reason = _disagreement(eager, traced, initial)
    except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
        # make_fx raises these where the model branches on a value, or holds what has no tensor operations.
        reason = str(error).splitlines()[0]
    return Potential(eager if reason else traced, transforms, initial, reason)


def _initialise(
    model: Callable[[], Any], init_strategies: tuple[Callable[..., Any], ...]
) -> tuple[Params, Callable[[Params], Tensor], dict[str, Any]]:
    for strategy in init_strategies:
        try:
            initial, eager, transforms, _ = initialize_model(model, (), init_strategy=strategy)
        except ValueError as error:
            if "cannot find valid initial params" not in str(error):
                raise
        else:
            return initial, eager, transforms
    raise SamplingError(
        "No starting point has a finite log density: the data are impossible under the params that the priors allow, or "
        "the simulator returns NaN. Look at ck.prior_predictive(bound)."
    )


def _trace(eager: Callable[[Params], Tensor], initial: Params) -> Callable[[Params], Tensor]:
    names = list(initial)

    def of_list(values: list[Tensor]) -> Tensor:
        with pyro.validation_enabled(False):
            return eager(dict(zip(names, values, strict=True)))

    start = [initial[name] for name in names]
    graph = make_fx(torch.func.grad_and_value(of_list))(start)
    graph.graph.eliminate_dead_code()
    graph.recompile()

    class Traced(torch.autograd.Function):
        """Value and gradient come from one run of the graph; the backward pass only hands the gradient out."""

        @staticmethod
        def forward(ctx: Any, *values: Tensor) -> Tensor:
            gradients, value = graph(list(values))
            ctx.save_for_backward(*gradients)
            return value  # type: ignore[no-any-return]

        @staticmethod
        def backward(ctx: Any, *outer: Tensor) -> Any:
            return tuple(gradient * outer[0] for gradient in ctx.saved_tensors)

    def traced(params: Params) -> Tensor:
        return Traced.apply(*(params[name] for name in names))  # type: ignore[no-any-return,no-untyped-call]

    return traced


def _disagreement(eager: Callable[[Params], Tensor], traced: Callable[[Params], Tensor], initial: Params) -> str | None:
    """Why a traced potential cannot be used: it differs from the eager one at the starting point or beside it."""
    for shift in (0.0, 0.1):
        point = {name: value + shift for name, value in initial.items()}
        ours, theirs = _value_and_gradient(traced, point), _value_and_gradient(eager, point)
        if not all(
            torch.allclose(a, b, rtol=1e-4, atol=1e-6, equal_nan=True) for a, b in zip(ours, theirs, strict=True)
        ):
            return "the traced density differs from the model's own: does the simulator keep state, or draw random numbers?"
    return None


def _value_and_gradient(function: Callable[[Params], Tensor], point: Params) -> list[Tensor]:
    leaves = {name: value.clone().requires_grad_() for name, value in point.items()}
    with pyro.validation_enabled(False):
        value = function(leaves)
    return [value.detach(), *torch.autograd.grad(value, list(leaves.values()))]
