"""Whether the gradient of a density is its slope.

It is not where a simulator leaves torch on the way from a param (numpy, `.item()`, `.detach()`), or has a backward pass of
its own with a mistake. Samplers then hardly move, and variational fits find another posterior, without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from .flat import Slot

__all__ = ["site_of_wrong_slope"]

MOST_SITES = 16
"""So many sites are looked at, evenly chosen of more."""

STEP, STEP_IN_SINGLE = 1e-4, 1e-2

ROUNDING, ROUNDING_IN_SINGLE = 1e-14, 1e-5
"""Of a sum of many terms, relative to its size; generously, since doubts must not stop anybody."""

SMOOTH = 0.01
"""Slopes over a step and over half of it differ by less where the density is smooth; elsewhere nothing can be told."""

WRONG = 0.05
"""A gradient that is further off, relative to the slope, is wrong."""


def site_of_wrong_slope(
    value_and_grad: Callable[[Tensor], tuple[Tensor, Tensor]], z: Tensor, slots: Mapping[str, Slot], single: bool
) -> str | None:
    """The first site in which the density rises otherwise than its gradient says; None if there is none.

    Central differences over two steps, along a random direction in each site, are compared with the gradient. Where the two
    do not agree with each other, because of an edge or of rounding, nothing is said.

    Args:
        value_and_grad: The density.
        z: A vector at which it is finite.
        slots: Where the sites are in it.
        single: Whether some of the density may be computed in single precision.
    """
    generator = torch.Generator().manual_seed(0)
    value, gradient = value_and_grad(z)
    names = list(slots)
    for name in names[:: -(-len(names) // MOST_SITES)]:
        part = slots[name].slice
        direction = torch.zeros_like(z)
        drawn = torch.randn(part.stop - part.start, generator=generator, dtype=z.dtype)
        direction[part] = (drawn / drawn.norm().clamp(min=1e-12)).to(z.device)
        step = (STEP_IN_SINGLE if single else STEP) * (1 + float(z[part].abs().max()))
        (far, largest), (near, _) = (
            _slope(value_and_grad, z, length * direction, length) for length in (step, step / 2)
        )
        rounding = (ROUNDING_IN_SINGLE if single else ROUNDING) * (1 + max(float(value.abs()), largest)) / step
        said = float(gradient @ direction)
        if abs(far - near) <= SMOOTH * abs(near) + rounding:
            off = abs(near - said)
            if off > WRONG * max(abs(near), abs(said)) + 3 * abs(far - near) + 4 * rounding:
                return name
    return None


def _slope(
    value_and_grad: Callable[[Tensor], tuple[Tensor, Tensor]], z: Tensor, shift: Tensor, length: float
) -> tuple[float, float]:
    """The central difference along a shift, and the larger of the two values, to whose rounding it is known.

    NaN, of which nothing follows, where the density is not finite.
    """
    above, below = float(value_and_grad(z + shift)[0]), float(value_and_grad(z - shift)[0])
    return (above - below) / (2 * length), max(abs(above), abs(below))
