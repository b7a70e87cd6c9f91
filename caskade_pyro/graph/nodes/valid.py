"""Bijections between the valid range of a param and the real line, for optimisers and samplers that know no bounds.

=========  ==============================  =====================================
bounds     unconstrained ``x``             value
=========  ==============================  =====================================
none       ``value``                       ``x``
low        ``log(value - low)``            ``low + exp(x)``
high       ``log(high - value)``           ``high - exp(x)``
both       ``log((value - low) /           ``low + (high - low) * sigmoid(x)``
           (high - value))``
cyclic     ``value`` on the circle         ``x``, wrapped onto ``[low, high)``
=========  ==============================  =====================================

They are smooth and inverses of each other on the open interval. What rounding would put on a bound is moved to the
nearest number inside, with its gradient untouched, so that the way back never fails.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Bounds", "constrained", "outside", "unconstrained"]

Bounds = tuple[Tensor | None, Tensor | None]


def unconstrained(value: Tensor, bounds: Bounds, cyclic: bool = False) -> Tensor:
    """Map values inside of their bounds to the real line.

    A value on a bound becomes infinite, one outside of it NaN; a cyclic one is wrapped onto the circle.
    """
    low, high = _like(value, bounds)
    if low is not None and high is not None:
        if cyclic:
            return _wrapped(value, low, high)
        return torch.log(value - low) - torch.log(high - value)
    if low is not None:
        return torch.log(value - low)
    if high is not None:
        return torch.log(high - value)
    return value


def constrained(value: Tensor, bounds: Bounds, cyclic: bool = False) -> Tensor:
    """Map any real numbers to values inside of the bounds: the inverse of `unconstrained`."""
    low, high = _like(value, bounds)
    if low is not None and high is not None:
        if cyclic:
            return _wrapped(value, low, high)
        width = high - low
        # Measured from the nearer bound, so that small distances from either keep their digits.
        inside = torch.where(value > 0, high - width * torch.sigmoid(-value), low + width * torch.sigmoid(value))
        return _off_bounds(inside, low, high)
    if low is not None:
        return _off_bounds(low + torch.exp(value), low, None)
    if high is not None:
        return _off_bounds(high - torch.exp(value), None, high)
    return value


def outside(value: Tensor, bounds: Bounds) -> bool:
    """Whether some values lie on or outside of their bounds, so that they have no finite unconstrained form."""
    low, high = _like(value, bounds)
    return (low is not None and bool((value <= low).any())) or (high is not None and bool((value >= high).any()))


def _like(value: Tensor, bounds: Bounds) -> Bounds:
    """Bounds in the dtype and on the device of the values, so that neither changes on the way."""
    low, high = bounds
    return (None if low is None else low.to(value), None if high is None else high.to(value))


def _wrapped(value: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Values on the circle; those that lie on it already stay exactly as they are."""
    return torch.where((value >= low) & (value < high), value, low + torch.remainder(value - low, high - low))


def _off_bounds(value: Tensor, low: Tensor | None, high: Tensor | None) -> Tensor:
    """Move what was rounded onto a bound to the nearest number inside, with the gradient that it had."""
    if low is not None:
        nearest = torch.nextafter(low, torch.full_like(low, torch.inf))
        value = torch.where(value <= low, nearest + (value - value.detach()), value)
    if high is not None:
        nearest = torch.nextafter(high, torch.full_like(high, -torch.inf))
        value = torch.where(value >= high, nearest + (value - value.detach()), value)
    return value
