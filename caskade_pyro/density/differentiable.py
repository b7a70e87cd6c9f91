"""A density as one operation of torch's automatic differentiation, for Pyro's samplers."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = ["Differentiable", "OfVector"]


class Differentiable(Protocol):
    """What has a gradient."""

    def value_and_grad(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The value and the gradient at a vector."""


class OfVector(torch.autograd.Function):
    """Value and gradient come from one run; the backward pass only hands the gradient out."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, density: Differentiable) -> Tensor:
        """The value."""
        value, gradient = density.value_and_grad(z.detach())
        ctx.save_for_backward(gradient)
        return value

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:
        """The gradient."""
        (gradient,) = ctx.saved_tensors
        return gradient * outer[0], None
