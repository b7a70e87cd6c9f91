"""Whether two forms of a density agree, up to the rounding that its arithmetic cannot avoid at the point.

Where large terms cancel, two right forms differ by much more than the last digits of their results. How much that may be is
asked of the density itself: inputs that are changed in their last digits, as rounding changes what is computed of them, change
a result by about as much as another order of the same operations does.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..compiler import Program

__all__ = ["beyond", "disagreement", "spread_over"]

STRETCH = 3.0
"""How many times as far from their centre as draws a density is looked at, too."""

ValueAndGradient = tuple[Tensor, Tensor]

Form = Callable[[Tensor], ValueAndGradient]

RELATIVE, RELATIVE_IN_SINGLE = 1e-8, 1e-3
"""What results may differ by where nothing cancels, relative to their size or to one."""

DIGITS = 8
"""By how many units in the last place inputs are changed."""

CHANGES = 3
"""How often they are changed, each time at random."""

TIMES = 30
"""How many times as much as such changes do forms may differ: many operations, each with its rounding."""


def disagreement(faster: Form, slower: Form, points: Tensor, program: Program) -> int | None:
    """The first of some points at which a form of a density differs from a slower one; None if there is none.

    Args:
        faster: The form in doubt.
        slower: The one to compare with.
        points: Vectors, ``(n, dim)``. Nothing follows from those at which neither is finite.
        program: The density as traced, which tells how much rounding matters.
    """
    for number, z in enumerate(points):
        ours, theirs = faster(z), slower(z)
        if all(bool(torch.equal(a, b)) for a, b in zip(ours, theirs, strict=True)):
            continue
        if not (_finite(theirs) or _finite(ours)):
            continue
        if all(_near(a, b, program.single) for a, b in zip(ours, theirs, strict=True)):
            continue
        allowed = _rounding(program, z)
        pairs = zip(ours, theirs, allowed, strict=True)
        if not all(_near(a, b, program.single, wide) for a, b, wide in pairs):
            return number
    return None


def spread_over(draws: Tensor, count: int) -> Tensor:
    """Some vectors, spread evenly over draws ``(chains, draws, dim)`` of several chains: ``(count, dim)`` at most."""
    chains, length, _ = draws.shape
    total = min(count, chains * length)
    places = torch.arange(total)
    # Each comes of another chain than the one before, and later in it.
    at = (places.double() + 0.5) / total * length
    return draws[places % chains, at.long().clamp(max=length - 1)]


def beyond(draws: Tensor) -> Tensor:
    """Vectors ``(n, dim)`` outside of some draws, on the lines from their centre through each.

    Where a wrong form of a density is impossible, or nearly, no draw of it ever is: draws press against such a place from
    outside.
    """
    centre = draws.mean(0)
    return centre + STRETCH * (draws - centre)


def _finite(found: ValueAndGradient) -> bool:
    return all(bool(torch.isfinite(one).all()) for one in found)


def _near(a: Tensor, b: Tensor, single: bool, wide: Tensor | None = None) -> bool:
    relative = RELATIVE_IN_SINGLE if single or b.dtype == torch.float32 else RELATIVE
    if wide is None:
        return bool(torch.allclose(a, b, rtol=relative, atol=relative, equal_nan=True))
    # Where a result cannot be computed for inputs that hardly differ, it is on the edge of what can be computed at all.
    return bool(((a - b).abs() <= relative * (1 + b.abs()) + wide).logical_or(~torch.isfinite(wide)).all())


def _rounding(program: Program, z: Tensor) -> ValueAndGradient:
    """How much the value and the gradient may be off by rounding."""
    generator = torch.Generator().manual_seed(0)
    inputs = [z, *program.constants]

    def at(some: list[Tensor]) -> ValueAndGradient:
        changed = Program(program.graph, tuple(some[1:]), some[0])
        with torch.no_grad():
            return changed.run(some[0])

    value, gradient = at(inputs)
    of_value, of_gradient = torch.zeros_like(value), torch.zeros_like(gradient)
    for _ in range(CHANGES):
        one, other = at([_changed(each, program.single, generator) for each in inputs])
        of_value = torch.maximum(of_value, (one - value).abs())
        of_gradient = torch.maximum(of_gradient, (other - gradient).abs())
    return TIMES * of_value, TIMES * of_gradient


def _changed(tensor: Tensor, single: bool, generator: torch.Generator) -> Tensor:
    """A tensor with other last digits; whole numbers, which stand for choices, as they are."""
    if not tensor.is_floating_point():
        return tensor
    eps = torch.finfo(torch.float32 if single else tensor.dtype).eps
    signs = torch.randint(0, 2, tensor.shape, generator=generator).to(tensor) * 2 - 1
    kept = tensor == tensor.round()
    return torch.where(kept, tensor, tensor * (1 + DIGITS * eps * signs))
