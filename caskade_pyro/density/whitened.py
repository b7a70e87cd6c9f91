"""A density in other coordinates, for samplers that call Python."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .differentiable import OfVector
from .log_density import LogDensity
from .metric import Metric

__all__ = ["Whitened"]


class Whitened:
    """The log density of ``w``, where ``z = T w`` are the unconstrained values and ``T T'`` is the metric.

    The Jacobian of a linear map is a constant and left out.

    Args:
        density: The density of the unconstrained values.
        metric: The metric; None leaves the density as it is.
    """

    def __init__(self, density: LogDensity, metric: Metric | None) -> None:
        self.density, self.metric = density, metric

    def value_and_grad(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """The log density and its gradient at ``(dim,)``; the gradient is in the precision of ``w``."""
        if self.metric is None:
            value, gradient = self.density.value_and_grad(w.to(self.density.dtype))
            return value, gradient.to(w.dtype)
        z = torch.as_tensor(self.metric.stretch(w.double().numpy()))
        value, gradient = self.density.value_and_grad(z.to(self.density.dtype))
        return value, torch.as_tensor(self.metric.pull(gradient.double().numpy())).to(w.dtype)

    def potential(self, params: Mapping[str, Tensor]) -> Tensor:
        """Minus the log density at ``w``, differentiable; for Pyro's samplers."""
        return -OfVector.apply(params["w"], self)  # type: ignore[no-any-return,no-untyped-call]
