"""The loops of a nest: the fewest in which all that its steps touch is regular."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..ir import Access

__all__ = ["Loops"]

BLOCK = 2_048
"""The most terms that are added one after the other: rounding grows with their number."""


@dataclass(frozen=True)
class Loops:
    """A nest of loops, and how accesses of steps go through it.

    Attributes:
        fine: A shape that refines those of all steps.
        runs: How many of its dims, each, are one loop.
        long: The size of the last loop, if it is cut into blocks.
    """

    fine: tuple[int, ...]
    runs: tuple[int, ...]
    long: int

    @classmethod
    def over(cls, fine: tuple[int, ...], touched: Sequence[tuple[Access, tuple[int, ...]]], sums: bool) -> Loops:
        """The fewest loops in which all that is touched is regular."""
        strides = [_refined(access.strides, shape, fine) for access, shape in touched]
        runs = [1]
        for dim in range(1, len(fine)):
            if all(one[dim - 1] == one[dim] * fine[dim] for one in strides):
                runs[-1] += 1
            else:
                runs.append(1)
        last = math.prod(fine[len(fine) - runs[-1] :])
        return cls(fine, tuple(runs), last if sums and last > BLOCK else 0)

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the loops; the last of the blocks of a long one may be shorter."""
        ends = np.cumsum(self.runs)
        sizes = [math.prod(self.fine[end - run : end]) for end, run in zip(ends, self.runs, strict=True)]
        return (*sizes[:-1], -(-self.long // BLOCK), BLOCK) if self.long else tuple(sizes)

    def strides(self, access: Access, shape: tuple[int, ...]) -> tuple[int, ...]:
        """By loop, how many elements further the next turn is."""
        refined = _refined(access.strides, shape, self.fine)
        found = tuple(refined[end - 1] for end in np.cumsum(self.runs))
        return (*found[:-1], found[-1] * BLOCK, found[-1]) if self.long else found

    def depth(self, access: Access, shape: tuple[int, ...]) -> int:
        """In how many loops an access is known."""
        return max((dim + 1 for dim, stride in enumerate(self.strides(access, shape)) if stride), default=0)


def _refined(strides: tuple[int, ...], shape: tuple[int, ...], fine: tuple[int, ...]) -> tuple[int, ...]:
    """Strides over a shape as strides over a finer one."""
    found: list[int] = []
    rest = list(fine)
    for stride, size in zip(reversed(strides), reversed(shape), strict=True):
        within = 1
        while within < size:
            found.append(stride * within)
            within *= rest.pop()
    return tuple(reversed(found))
