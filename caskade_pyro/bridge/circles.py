"""Which params lie on circles: cyclic ones, whose two bounds are one point, and what has a von Mises prior."""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import VonMises, constraints

from ..errors import PriorError
from .distributions import base_of
from .sites import Source
from .supports import describe_support, limits

__all__ = ["Ends", "check_circle", "circle_bounds", "circle_of", "on_circle"]

Ends = tuple[float, float]

ROUNDING = 1e-5
"""Ends of a circle are the same where they differ by no more of its length: pi may come in single precision."""


Bounds = tuple[Tensor | None, Tensor | None]


def circle_bounds(param: Any, bounds: Bounds | None = None) -> Ends | None:
    """The bounds of a cyclic param, which are one point, where all its entries have the same; None for other params.

    Args:
        param: The param.
        bounds: Its bounds in the precision of the model; as they are by default.
    """
    low, high = param.valid if bounds is None else bounds
    if not getattr(param, "cyclic", False) or low is None or high is None or low.numel() != 1 or high.numel() != 1:
        return None
    return float(low), float(high)


def circle_of(param: Any, template: Any, within: Bounds | None = None) -> Ends | None:
    """The two ends of the circle on which a param lies, which are one point; None for a param on a line.

    A cyclic param lies on one if its prior covers the range between its bounds, and what has a von Mises prior does in any
    case.
    """
    bounds = circle_bounds(param, within)
    if isinstance(base_of(template), VonMises):
        return bounds or (-math.pi, math.pi)
    found = limits(template.support)
    if bounds is None or found is None:
        return None
    low, high = bounds
    near = ROUNDING * (high - low)
    covers = bool(((found[0] - low).abs() < near).all() and ((found[1] - high).abs() < near).all())
    return bounds if covers else None


def check_circle(source: Source, template: Any) -> None:
    """Check that the prior of a cyclic param lies on its circle.

    Raises:
        PriorError: It reaches beyond it, or it lies on a circle of another length.
    """
    bounds = circle_bounds(source.placement.param)
    if bounds is None:
        return
    low, high = bounds
    length = high - low
    if isinstance(base_of(template), VonMises):
        fits = math.isclose(length, 2 * math.pi, rel_tol=ROUNDING)
        seen = "has a circle of the length 2 pi"
    else:
        found, near = limits(template.support), ROUNDING * length
        fits = found is None or bool((found[0] > low - near).all() and (found[1] < high + near).all())
        seen = f"has the support {describe_support(template.support)}, which reaches beyond it"
    if not fits:
        raise PriorError(
            f"Param {source.name} is cyclic: it lies on a circle from {low:.4g} to {high:.4g}, but its prior {source.prior} "
            f"{seen}. Take ck.WrappedNormal(loc, scale, {low:.4g}, {high:.4g}); or no prior, for a uniform one; or on a "
            "circle of the length 2 pi dist.VonMises(loc, concentration). Without cyclic and bounds it would lie on a line."
        )


def on_circle(distribution: Any, ends: Ends | None) -> Any:
    """The distribution, drawing between the ends of a circle; a von Mises distribution by itself has its own."""
    if ends is None or ends[0] == -math.pi or not isinstance(base_of(distribution), VonMises):
        return distribution
    return BetweenEnds(distribution, *ends)


class BetweenEnds(dist.TorchDistribution):
    """A periodic distribution whose draws are brought between the ends of a circle.

    Args:
        base_dist: The distribution.
        low: The lower end.
        high: The upper end.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 - torch.distributions has it so

    def __init__(self, base_dist: Any, low: float, high: float) -> None:
        self.base_dist, self.low, self.high = base_dist, low, high
        super().__init__(base_dist.batch_shape, base_dist.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        """Where values lie."""
        return constraints.independent(constraints.interval(self.low, self.high), len(self.event_shape))

    @property
    def mean(self) -> Tensor:
        """The mean direction."""
        return self._between_ends(self.base_dist.mean)

    def expand(self, batch_shape: Any, _instance: Any = None) -> BetweenEnds:
        """The same with further batch dims."""
        return BetweenEnds(self.base_dist.expand(batch_shape), self.low, self.high)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws between the ends."""
        return self._between_ends(self.base_dist.sample(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """The log density."""
        found: Tensor = self.base_dist.log_prob(value)
        return found

    def _between_ends(self, value: Tensor) -> Tensor:
        return self.low + torch.remainder(value - self.low, self.high - self.low)
