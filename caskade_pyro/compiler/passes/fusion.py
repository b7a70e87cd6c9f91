"""Which steps share loops, in which order the loops run, and what has to be in memory between them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ..ir import Access, Code, Step, contiguous

__all__ = ["Nest", "Order", "is_whole"]


@dataclass
class Nest:
    """Steps that share loops.

    Attributes:
        size: The number of turns.
        serial: Whether turns may write to the same element, in an order that nobody knows.
        steps: Their numbers.
        bounds: The sizes of the loops, outermost first, as the products of those within.
    """

    size: int
    serial: bool
    steps: list[int] = field(default_factory=list)
    bounds: set[int] = field(default_factory=lambda: {1})

    def takes(self, shape: Sequence[int]) -> bool:
        """Whether loops over this shape are a refinement of those here, or the other way round; they are from now on."""
        both = sorted(self.bounds | _bounds(shape))
        if any(large % small for small, large in itertools.pairwise(both)):
            return False
        self.bounds = set(both)
        return True

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the loops."""
        bounds = sorted(self.bounds | {self.size}, reverse=True)
        return tuple(large // small for large, small in itertools.pairwise(bounds))


def _is_serial(step: Step) -> bool:
    return step.combine is not None and (step.out.table is not None or not step.combine.is_sum)


def is_whole(access: Access, shape: Sequence[int]) -> bool:
    """Whether turns of loops over a shape meet the elements of a buffer one after the other."""
    return access.start == 0 and access.table is None and access.strides == contiguous(shape)


def _bounds(shape: Sequence[int]) -> set[int]:
    return {math.prod(shape[dim:]) for dim in range(len(shape) + 1)}


class Order:
    """The order of the steps of some code.

    Attributes:
        nests: The steps in nests, in the order in which they run.
        members: Of each nest its steps, and cheap ones of other nests that are computed again.
        home: By step, its own nest.
        kept: The buffers that are read from memory.
    """

    def __init__(self, code: Code) -> None:
        self.steps, self.buffers = code.steps, code.buffers
        self.nests = self._nests()
        self.home = {number: nest for nest in self.nests for number in nest.steps}
        self.members = [self._members(nest) for nest in self.nests]
        self.kept = {one.buffer for members in self.members for one in self._read_from_memory(members)}

    def is_variable(self, number: int) -> bool:
        """Whether a buffer is a variable of the function."""
        buffer = self.buffers[number]
        return buffer.size == 1 and buffer.name is None and len(buffer.writers) == 1

    def local_producer(self, step: Step, access: Access) -> int | None:
        """The step whose result this step reads in the same turn, if it is so."""
        buffer = self.buffers[access.buffer]
        if len(buffer.writers) != 1 or buffer.size != step.size or not is_whole(access, step.shape):
            return None
        other = self.steps[buffer.writers[0]]
        return None if other.combine or not is_whole(other.out, other.shape) else buffer.writers[0]

    def _nests(self) -> list[Nest]:
        """The steps in nests, in the order in which they run."""
        waiting, done, nests = list(range(len(self.steps))), set[int](), list[Nest]()
        needs = [self._needs(step) for step in self.steps]
        while waiting:
            ready = [number for number in waiting if needs[number][0] | needs[number][1] <= done]
            first = min(ready, key=lambda number: (self.steps[number].size, _is_serial(self.steps[number])))
            nest = Nest(self.steps[first].size, _is_serial(self.steps[first]))
            with_these = set(done)
            for number in waiting:
                step, (before, beside) = self.steps[number], needs[number]
                fits = step.size == nest.size and _is_serial(step) == nest.serial
                over = with_these if nest.size == 1 else done
                if fits and before <= over and beside <= with_these and nest.takes(step.shape):
                    nest.steps.append(number)
                    with_these.add(number)
            done = with_these
            waiting = [number for number in waiting if number not in done]
            nests.append(nest)
        return nests

    def _needs(self, step: Step) -> tuple[set[int], set[int]]:
        """The steps that must be over before a step runs, and those that may run in the same turn."""
        before: set[int] = set()
        beside: set[int] = set()
        for access in (read.access for read in step.reads):
            local = self.local_producer(step, access)
            if local is None:
                before |= set(self.buffers[access.buffer].writers)
            else:
                beside.add(local)
        if step.combine:  # what is added to comes first
            before |= {one for one in self.buffers[step.out.buffer].writers if not self.steps[one].combine}
        return before, beside

    def _members(self, nest: Nest) -> list[int]:
        """The steps of a nest, and cheap ones of others that are computed again."""
        found: dict[int, None] = {}

        def visit(number: int) -> None:
            for access in (read.access for read in self.steps[number].reads):
                local = self.local_producer(self.steps[number], access)
                if local is not None and local not in found and self._is_computed_again(local, nest):
                    visit(local)
            found[number] = None

        for number in nest.steps:
            visit(number)
        return list(found)

    def _is_computed_again(self, number: int, nest: Nest) -> bool:
        """Whether a nest computes the result of a step of another nest itself: it is cheap, and its loops fit."""
        step = self.steps[number]
        return step.op.is_cheap and nest.size > 1 and self.home[number] is not nest and nest.takes(step.shape)

    def _read_from_memory(self, members: Sequence[int]) -> Iterator[Access]:
        there = set(members)
        for number in members:
            for access in (read.access for read in self.steps[number].reads):
                if self.local_producer(self.steps[number], access) not in there:
                    yield access
