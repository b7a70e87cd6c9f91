"""Small code without loops: every element a variable, every turn of a step a line.

A density of a few hundred numbers, or a simulator that takes many small steps, needs no loops and no fusion: written out it
compiles in a fraction of the time and runs as fast. What is only copied is no line, and what is computed twice is one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..failures import TooLargeError
from ..ir import Access, Code, Read, Step
from ..ops import CAST, Combine, Pointwise

__all__ = ["written_out"]


def written_out(code: Code, most: int) -> Code:
    """The same code without loops.

    Args:
        code: The code.
        most: The most lines.

    Raises:
        TooLargeError: There would be more.
    """
    if sum(step.size for step in code.steps) > 4 * most:
        raise TooLargeError("it is too large to be written out in scalars")
    return _Lines(code, most).run().verify()


class _Lines:
    """Where each element of one code lies in another."""

    def __init__(self, code: Code, most: int) -> None:
        self.old, self.new, self.most = code, Code(), most
        self.known: dict[Any, int] = {}
        self.place = np.full(code.bases[-1] + code.buffers[-1].size, -1, dtype=np.int64)
        for number, buffer in enumerate(code.buffers):
            if buffer.name is not None:
                self.place[code.whole(number)] = self.new.whole(
                    self.new.buffer(buffer.dtype, buffer.size, name=buffer.name)
                )
            elif buffer.literal is not None:
                self.place[buffer.base] = self.new.literal(buffer.literal, buffer.dtype)
            elif buffer.table is not None:
                self.place[code.whole(number)] = [
                    int(self.new.literal(one, buffer.dtype)) for one in buffer.table.tolist()
                ]

    def run(self) -> Code:
        """The new code."""
        for step in self.old.steps:
            operands = [self.place[self._places(read.access, step)] for read in step.reads]
            outs = self._places(step.out, step)
            if step.combine is not None:
                self._join(step, operands, outs, step.combine)
                continue
            name = self.old.buffers[step.out.buffer].name
            wanted = [read.dtype for read in step.reads]
            for out, *places in zip(outs.tolist(), *(one.tolist() for one in operands), strict=True):
                if name is None:
                    self.place[out] = self._line(step.op, places, wanted, step.dtype)
                else:
                    self._store(places[0], int(self.place[out]), step.dtype)
            if len(self.new.steps) > self.most:
                raise TooLargeError("it is too large to be written out in scalars")
        return self.new

    def _places(self, access: Access, step: Step) -> Any:
        return access.elements(step.shape).reshape(-1) + self.old.buffers[access.buffer].base

    def _line(self, op: Pointwise, places: list[int], wanted: list[torch.dtype], dtype: torch.dtype) -> int:
        """The place of a result."""
        if op is CAST and self._dtype(places[0]) == dtype:
            return places[0]
        key = (id(op), *places, *wanted, dtype)
        found = self.known.get(key)
        if found is None:
            buffer = self.new.buffer(dtype, 1)
            reads = tuple(Read(self._access(place), to) for place, to in zip(places, wanted, strict=True))
            self.new.add(Step(op, reads, dtype, (), Access(buffer, 0, ())))
            found = self.known[key] = self.new.buffers[buffer].base
        return found

    def _store(self, place: int, out: int, dtype: torch.dtype) -> None:
        self.new.add(Step(CAST, (Read(self._access(place), dtype),), dtype, (), self._access(out)))

    def _join(self, step: Step, operands: list[Any], outs: Any, combine: Combine) -> None:
        terms: dict[int, list[int]] = {}
        wanted = [read.dtype for read in step.reads]
        for out, *places in zip(outs.tolist(), *(one.tolist() for one in operands), strict=True):
            before = [] if self.place[out] < 0 or out in terms else [int(self.place[out])]
            terms.setdefault(out, before).append(self._line(step.op, places, wanted, step.dtype))
        for out, all_of_them in terms.items():
            self.place[out] = self._total(combine.op, all_of_them, step.dtype)
        # What nothing was added to is as it began.
        for out in self.old.whole(step.out.buffer).tolist():
            if self.place[out] < 0 and combine.is_sum:
                self.place[out] = self.new.literal(0, step.dtype)

    def _total(self, op: Pointwise, terms: list[int], dtype: torch.dtype) -> int:
        """All terms joined, by halves, which loses least."""
        if len(terms) == 1:
            return terms[0]
        half = len(terms) // 2
        sides = [self._total(op, terms[:half], dtype), self._total(op, terms[half:], dtype)]
        return self._line(op, sides, [dtype, dtype], dtype)

    def _dtype(self, place: int) -> torch.dtype:
        return self.new.buffers[self._owner(place)].dtype

    def _owner(self, place: int) -> int:
        return int(np.searchsorted(self.new.bases, place, side="right")) - 1

    def _access(self, place: int) -> Access:
        owner = self._owner(place)
        return Access(owner, place - self.new.buffers[owner].base, ())
