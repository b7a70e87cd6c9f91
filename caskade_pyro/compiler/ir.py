"""The typed form between the trace of a function and its C++: buffers, and steps that write them.

A tensor is an array of *places*: for each element, where it lies in the memory of the function. Views, slices and stacks only
rearrange places and cost nothing at run time. What computes is a `Step`: one operation for each turn of the loops over a
shape, whose operands lie at places that are regular in the indices of the loops, or are looked up in a table.

Everything is typed: a buffer has a dtype, and a step says to which dtype each element that it reads is brought. Every buffer
is written before it is read, and never after. `Code.verify` checks this after each pass.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import CompilationError
from .failures import NotWrittenError, TooLargeError
from .ops import Combine, Pointwise

__all__ = ["CTYPES", "Access", "Buffer", "Code", "Places", "Read", "Step", "by_owner", "contiguous"]

Places = np.ndarray[Any, np.dtype[np.int32]]

CTYPES = {
    torch.float32: "float", torch.float64: "double", torch.bool: "bool", torch.uint8: "uint8_t", torch.int8: "int8_t",
    torch.int16: "int16_t", torch.int32: "int32_t", torch.int64: "int64_t",
}  # fmt: skip
"""The types of elements in C++. Of a tensor of another type, a complex one say, no code is written."""

MOST_ELEMENTS = 20_000_000
"""The most elements of one array: places of more cost memory while they are written, and Inductor needs none."""

MOST_TABLED = 50_000
"""The most entries of tables, which stand in the code."""


@dataclass(frozen=True)
class Access:
    """Elements of a buffer, one for each turn of the loops over a shape.

    Attributes:
        buffer: The number of the buffer.
        start: The first element.
        strides: By dim of the shape, how many elements further the next index is.
        table: Where the elements are not regular: for each turn, its element; the strides are then those of the table.
    """

    buffer: int
    start: int
    strides: tuple[int, ...]
    table: bytes | None = None

    def elements(self, shape: Sequence[int]) -> Places:
        """The element of each turn, of the shape of the loops."""
        if self.table is not None:
            return np.frombuffer(self.table, np.int32).reshape(tuple(shape))
        found: Any = np.int32(self.start)
        for size, stride in zip(shape, self.strides, strict=True):
            found = np.add.outer(found, np.arange(size, dtype=np.int32) * np.int32(stride))
        return np.asarray(found, np.int32)


@dataclass(frozen=True)
class Read:
    """What a step reads: elements, and the type to which they are brought."""

    access: Access
    dtype: torch.dtype


@dataclass(frozen=True)
class Step:
    """One operation for each turn of the loops over a shape.

    Attributes:
        op: The operation.
        reads: Its operands.
        dtype: The type of its result.
        shape: The loops, without those of one turn.
        out: Where the result goes.
        combine: How it is joined with what is there, as in a sum; None if it is stored.
    """

    op: Pointwise
    reads: tuple[Read, ...]
    dtype: torch.dtype
    shape: tuple[int, ...]
    out: Access
    combine: Combine | None = None

    @property
    def size(self) -> int:
        """The number of turns."""
        return math.prod(self.shape)


@dataclass
class Buffer:
    """Some memory.

    Attributes:
        dtype: The type of its elements.
        size: How many they are.
        base: The place of the first.
        name: Of inputs and results, the argument of the function.
        literal: The number, where it is one that stands in the code.
        table: The numbers, where they are several that stand in the code.
        writers: The steps that write it, in order.
    """

    dtype: torch.dtype
    size: int
    base: int
    name: str | None = None
    literal: bool | int | float | None = None
    table: Tensor | None = None
    writers: list[int] = field(default_factory=list)

    @property
    def is_constant(self) -> bool:
        """Whether it stands in the code."""
        return self.literal is not None or self.table is not None


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of a shape whose elements lie one after the other."""
    return tuple(math.prod(shape[dim + 1 :]) for dim in range(len(shape)))


class Code:
    """Buffers and the steps that write them, in order."""

    def __init__(self) -> None:
        self.buffers: list[Buffer] = []
        self.steps: list[Step] = []
        self.bases: list[int] = []
        self.literals: dict[tuple[torch.dtype, str], int] = {}
        self.tabled = 0

    def buffer(self, dtype: torch.dtype, size: int, **kind: Any) -> int:
        """A new buffer, by its number.

        Raises:
            TooLargeError: There is too much memory.
            NotWrittenError: C++ has no such type.
        """
        if dtype not in CTYPES:
            raise NotWrittenError(f"it computes with {dtype}")
        base = self.buffers[-1].base + self.buffers[-1].size if self.buffers else 0
        if size > MOST_ELEMENTS or base + size >= 2**31:
            raise TooLargeError("its arrays are too large for loops of our own")
        self.buffers.append(Buffer(dtype, size, base, **kind))
        self.bases.append(base)
        return len(self.buffers) - 1

    def whole(self, number: int) -> Places:
        """The places of all elements of a buffer."""
        base = self.buffers[number].base
        return np.arange(base, base + self.buffers[number].size, dtype=np.int32)

    def literal(self, value: bool | int | float, dtype: torch.dtype) -> Places:
        """The place of a number, as it is in a type."""
        exact = torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else None).to(dtype).item()
        key = (dtype, repr(exact))
        if key not in self.literals:
            self.literals[key] = self.buffer(dtype, 1, literal=exact)
        return np.array(self.buffers[self.literals[key]].base, dtype=np.int32)

    def constant(self, tensor: Tensor) -> Places:
        """The places of a tensor that stands in the code."""
        flat = tensor.reshape(-1)
        if len(flat) and torch.allclose(flat, flat[:1], rtol=0, atol=0, equal_nan=True):
            return np.broadcast_to(self.literal(flat[0].item(), tensor.dtype), tuple(tensor.shape))
        self._count_table(len(flat))
        return self.whole(self.buffer(tensor.dtype, len(flat), table=flat.contiguous())).reshape(tuple(tensor.shape))

    def owner(self, places: Places) -> int | None:
        """The one buffer that places lie in; None if they are several."""
        low, high = (int(places), int(places)) if places.ndim == 0 else (int(places.min()), int(places.max()))
        found = bisect_right(self.bases, low) - 1
        return found if high < self.buffers[found].base + self.buffers[found].size else None

    def owners(self, places: Places) -> np.ndarray[Any, Any]:
        """Of each of many places its buffer."""
        return np.searchsorted(self.bases, places.reshape(-1), side="right") - 1

    def access(self, places: Places, owner: int) -> Access:
        """Places of one buffer as an access, for loops over the shape of the places without its dims of one."""
        shape = tuple(size for size in places.shape if size != 1)
        kept = places.reshape(shape)
        first, base = int(kept[(0,) * len(shape)]), self.buffers[owner].base
        strides = tuple(
            int(kept[(*(0,) * dim, 1, *(0,) * (len(shape) - dim - 1))]) - first for dim in range(len(shape))
        )
        regular = Access(owner, first - base, strides)
        if not shape or np.array_equal(regular.elements(shape), kept - base):
            return regular
        self._count_table(kept.size)
        return Access(owner, 0, contiguous(shape), np.ascontiguousarray(kept - base, np.int32).tobytes())

    def _count_table(self, entries: int) -> None:
        self.tabled += entries
        if self.tabled > MOST_TABLED:
            raise TooLargeError("it looks up too much")

    def step(
        self,
        op: Pointwise,
        operands: Sequence[tuple[Places, torch.dtype]],
        dtype: torch.dtype,
        out: Places,
        combine: Combine | None = None,
    ) -> None:
        """Add an operation on places that each lie in one buffer, brought to these types, of the shape of the result's."""
        reads = tuple(Read(self.access(places, self._one(places)), wanted) for places, wanted in operands)
        target = self.access(out, self._one(out))
        self.add(Step(op, reads, dtype, tuple(size for size in out.shape if size != 1), target, combine))

    def add(self, step: Step) -> None:
        """Add a step."""
        self.buffers[step.out.buffer].writers.append(len(self.steps))
        self.steps.append(step)

    def _one(self, places: Places) -> int:
        owner = self.owner(places)
        if owner is None:
            raise CompilationError("an operand lies in several buffers")
        return owner

    def verify(self) -> Code:
        """This code, checked.

        Raises:
            CompilationError: It is not well formed, which is a bug of this package.
        """
        for number, step in enumerate(self.steps):
            for problem in self._problems(number, step):
                raise CompilationError(f"step {number} ({step.op.code}) {problem}; please report this")
        return self

    def _problems(self, number: int, step: Step) -> Iterator[str]:
        if not step.op.takes(tuple(read.dtype for read in step.reads)):
            yield f"does not take {[read.dtype for read in step.reads]}"
        for access in (*(read.access for read in step.reads), step.out):
            if not _is_within(access, step.shape, self.buffers[access.buffer].size):
                yield "reads or writes outside of a buffer"
        for read in step.reads:
            buffer = self.buffers[read.access.buffer]
            is_input = buffer.name is not None and not buffer.writers
            if not (buffer.is_constant or is_input or (buffer.writers and buffer.writers[-1] < number)):
                yield "reads what is not written yet, or written again later"
        target = self.buffers[step.out.buffer]
        if target.dtype != step.dtype or target.is_constant:
            yield f"writes {step.dtype} into {target.dtype}"


def _is_within(access: Access, shape: tuple[int, ...], size: int) -> bool:
    if access.table is not None:
        entries = np.frombuffer(access.table, np.int32)
        return len(entries) == math.prod(shape) and int(entries.min()) >= 0 and int(entries.max()) < size
    steps = [stride * (turns - 1) for turns, stride in zip(shape, access.strides, strict=True)]
    low = access.start + sum(one for one in steps if one < 0)
    high = access.start + sum(one for one in steps if one > 0)
    return low >= 0 and high < size


def by_owner(code: Code, arrays: Sequence[Places], most: int) -> list[Any]:
    """Which elements of arrays of one shape lie in the same buffers; ``[None]`` if all do.

    Args:
        code: Their code.
        arrays: Places.
        most: The most groups.

    Raises:
        TooLargeError: There are more.
    """
    if all(code.owner(one) is not None for one in arrays):
        return [None]
    group = np.zeros(arrays[0].size, dtype=np.int64)
    for one in arrays:
        group = np.unique(group * (len(code.bases) + 1) + code.owners(one), return_inverse=True)[1]
    if group.max() >= most:
        raise TooLargeError("its arrays are of too many pieces")
    order = np.argsort(group, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
