"""A density over large arrays as a list of steps, each one operation in a nest of loops.

An array here is an array of places: for each element, where it lies in the memory of the density. Views, slices and stacks
rearrange places and cost nothing at run time, as in `scalar_code`; what computes becomes a `Step`, whose operands are read at
places that are regular in the indices of its loops, or looked up in a table. `loop_code` writes steps as C++.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor, fx

from .program import Program
from .scalar_code import Writer, as_kind
from .scalar_operations import WRITTEN
from .scalar_views import VIEWS, Array, NotSmallError, UnknownOperationError, numbers, triangle

__all__ = ["Access", "Buffer", "Step", "StepWriter", "contiguous"]

MOST_ELEMENTS = 20_000_000
"""The most elements of one array: places of more cost memory while they are written, and Inductor needs none."""

MOST_STEPS = 20_000
MOST_TABLED = 50_000
"""The most entries of tables, which stand in the code."""

MOST_PIECES = 64
"""The most pieces, each from another buffer, of an array that an operation reads."""


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


@dataclass(frozen=True)
class Step:
    """One operation for each turn of the loops over a shape.

    Attributes:
        template: The operation in C++, with a place for each operand.
        operands: What it reads.
        operand_kinds: The type in which it works with each.
        kind: The type of its result.
        shape: The loops, without those of one turn.
        out: Where the result goes.
        adds: Whether it is added to what is there.
    """

    template: str
    operands: tuple[Access, ...]
    operand_kinds: tuple[str, ...]
    kind: str
    shape: tuple[int, ...]
    out: Access
    adds: bool = False

    @property
    def size(self) -> int:
        """The number of turns."""
        return math.prod(self.shape)


@dataclass
class Buffer:
    """Some memory.

    Attributes:
        kind: The type of its elements in C++.
        size: How many they are.
        base: The place of the first.
        name: Of inputs and results, the argument of the function.
        literal: The number, where it is one.
    """

    kind: str
    size: int
    base: int
    name: str | None = None
    literal: Any = None
    writers: list[int] = field(default_factory=list)


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of a shape whose elements lie one after the other."""
    return tuple(math.prod(shape[dim + 1 :]) for dim in range(len(shape)))


class StepWriter(Writer):
    """Writes the nodes of a graph as steps."""

    views: Mapping[str, Callable[..., Any]]
    written: Mapping[str, Callable[..., Any]]

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self.steps: list[Step] = []
        self.buffers: list[Buffer] = []
        self.bases: list[int] = []
        self.literals: dict[tuple[type, str], int] = {}
        self.tabled = 0

    def run(self) -> tuple[Any, Any]:
        """The places of the results, gradient and value, after they are written to the buffers of these names."""
        gradient, value = super().run()
        for name, found in (("gradient", gradient), ("value", value)):
            target = self.buffer(self.scalar, found.size, name)
            self.write(found.reshape(-1), self.whole(target), self.scalar)
        return gradient, value

    # Memory

    def buffer(self, kind: str, size: int, name: str | None = None, literal: Any = None) -> int:
        """A new buffer."""
        base = self.buffers[-1].base + self.buffers[-1].size if self.buffers else 0
        if size > MOST_ELEMENTS or base + size >= 2**31:
            raise NotSmallError("its arrays are too large for loops of our own")
        self.buffers.append(Buffer(kind, size, base, name, literal))
        self.bases.append(base)
        return len(self.buffers) - 1

    def whole(self, buffer: int) -> Array:
        """The places of all elements of a buffer."""
        base = self.buffers[buffer].base
        return np.arange(base, base + self.buffers[buffer].size, dtype=np.int32)

    def number(self, value: Any) -> Array:
        """The place of a number."""
        plain = value.item() if isinstance(value, np.generic) else value
        key = (type(plain), repr(plain))
        if key not in self.literals:
            self.literals[key] = self.buffer("", 1, literal=plain)
        return np.array(self.buffers[self.literals[key]].base, dtype=np.int32)

    def places(self, value: Any) -> Array:
        """An array of places; numbers have theirs."""
        if not isinstance(value, np.ndarray):
            return np.asarray(value) if isinstance(value, np.int32) else self.number(value)
        if value.dtype == np.int32:
            return value
        found = np.empty(value.shape, np.int32)
        seen: dict[tuple[type, str], Any] = {}
        for index in np.ndindex(value.shape):
            key = (type(value[index]), repr(value[index]))
            if key not in seen:
                seen[key] = self.number(value[index])[()]
                if len(seen) > MOST_PIECES:
                    raise NotSmallError("it computes with what it looks up")
            found[index] = seen[key]
        return found

    def conform(self, a: Array, kind: str) -> Array:
        """The places of the same values in one type."""
        a = self.places(a)
        if a.size == 0:
            return a
        found = a.copy()
        for where in self._pieces([a]):
            at = slice(None) if where is None else where
            part = a.reshape(-1)[at]
            owner = self.buffers[self._owner(part) or 0]
            if owner.literal is not None:
                found.reshape(-1)[at] = self.number(as_kind(owner.literal, kind))
            elif owner.kind != kind:
                found.reshape(-1)[at] = self.each("{0}", (part,), kind, kind)
        return found

    def zeros(self, shape: Sequence[int]) -> Array:
        """An array of zeros, to be written into."""
        return np.full(tuple(shape), self.number(0.0)[()], dtype=np.int32)

    def _input(self, number: int, tensor: Tensor) -> Array:
        if number in self.baked:
            return super()._input(number, tensor)
        return self.whole(self.buffer(self.input_kind(tensor), tensor.numel(), f"in{number}")).reshape(
            tuple(tensor.shape)
        )

    def _owner(self, places: Array) -> int | None:
        """The one buffer that places lie in."""
        low, high = int(places.min()), int(places.max())
        found = bisect_right(self.bases, low) - 1
        return found if high < self.bases[found] + self.buffers[found].size else None

    def access(self, places: Array, buffer: int) -> Access:
        """Places of one buffer as an access, for loops over the shape of the places without its dims of one."""
        shape = tuple(size for size in places.shape if size != 1)
        kept = places.reshape(shape)
        first = int(kept[(0,) * len(shape)])
        strides = [int(kept[(*(0,) * dim, 1, *(0,) * (len(shape) - dim - 1))]) - first for dim in range(len(shape))]
        regular: Any = first
        for size, stride in zip(shape, strides, strict=True):
            regular = np.add.outer(regular, np.arange(size, dtype=np.int32) * stride)
        base = self.buffers[buffer].base
        if np.array_equal(regular, kept):
            return Access(buffer, first - base, tuple(strides))
        self.tabled += kept.size
        if self.tabled > MOST_TABLED:
            raise NotSmallError("it looks up too much")
        return Access(buffer, 0, contiguous(shape), np.ascontiguousarray(kept - base, np.int32).tobytes())

    # Steps

    def step(
        self,
        template: str,
        arrays: Sequence[Array],
        kinds: tuple[str | Sequence[str], str],
        out: Array,
        adds: bool = False,
    ) -> None:
        """Add an operation on arrays that each lie in one buffer, with the kinds of its operands and its result."""
        operands, kind = kinds
        wanted = (operands,) * len(arrays) if isinstance(operands, str) else tuple(operands)
        owners = [self._owner(one) for one in (*arrays, out)]
        accesses = [
            self.access(one, owner) for one, owner in zip((*arrays, out), owners, strict=True) if owner is not None
        ]
        if len(accesses) < len(owners):
            raise NotSmallError("an operand lies in several buffers")
        shape = tuple(size for size in out.shape if size != 1)
        self.buffers[accesses[-1].buffer].writers.append(len(self.steps))
        self.steps.append(Step(template, tuple(accesses[:-1]), wanted, kind, shape, accesses[-1], adds))
        if len(self.steps) > MOST_STEPS:
            raise NotSmallError("it has too many operations for loops of our own")

    def each(self, template: str, args: Sequence[Any], operands: str | Sequence[str], kind: str) -> Array:
        """An operation on each element of arrays, brought to one shape; what is repeated is computed once."""
        full = np.broadcast_arrays(*(self.places(one) for one in args))
        shape = full[0].shape
        if 0 in shape:
            return np.empty(shape, np.int32)
        arrays = _once(full)
        found = np.empty(arrays[0].shape, np.int32)
        for where in self._pieces(arrays):
            parts = arrays if where is None else [one.reshape(-1)[where] for one in arrays]
            piece = self._same(template, parts, kind)
            if piece is None:
                target = self.whole(self.buffer(kind, parts[0].size)).reshape(parts[0].shape)
                self.step(template, parts, (operands, kind), target)
                piece = target
            if where is None:
                found = piece
            else:
                found.reshape(-1)[where] = piece
        return np.broadcast_to(found, shape)

    def _pieces(self, arrays: Sequence[Array]) -> list[Any]:
        """Which elements have the same buffers; None for all of them."""
        if all(self._owner(one) is not None for one in arrays):
            return [None]
        owners = [np.searchsorted(self.bases, one.reshape(-1), side="right") for one in arrays]
        code = np.zeros_like(owners[0])
        for one in owners:
            code = np.unique(code * (len(self.bases) + 1) + one, return_inverse=True)[1]
        if code.max() >= MOST_PIECES:
            raise NotSmallError("its arrays are of too many pieces")
        return [np.flatnonzero(code == piece) for piece in range(code.max() + 1)]

    def _same(self, template: str, parts: Sequence[Array], kind: str) -> Array | None:
        """The operand that a trivial operation leaves as it is."""
        owners = [self.buffers[self._owner(one) or 0] for one in parts]
        neutral = {"{0} + {1}": 0, "{0} * {1}": 1, "{0} / {1}": 1, "{0} - {1}": 0}.get(template)
        if template == "{0}" and owners[0].kind == kind:
            return parts[0]
        if neutral is None:
            return None
        if owners[1].literal == neutral and owners[0].kind == kind:
            return parts[0]
        commutes = template in {"{0} + {1}", "{0} * {1}"}
        return parts[1] if commutes and owners[0].literal == neutral and owners[1].kind == kind else None

    def write(self, values: Array, out: Array, kind: str) -> None:
        """Copy values, from wherever they are, to places of one buffer."""
        for where in self._pieces([values]):
            at = slice(None) if where is None else where
            self.step("{0}", [values.reshape(-1)[at]], (kind, kind), out.reshape(-1)[at])

    def together(self, values: Array, kind: str) -> Array:
        """The same values in one buffer."""
        if values.size == 0 or self._owner(values) is not None:
            return values
        target = self.whole(self.buffer(kind, values.size))
        self.write(values, target, kind)
        return target.reshape(values.shape)

    def reduced(self, a: Array, shape: Sequence[int], kind: str) -> Array:
        """The sums of an array to a shape whose dims are its own, or one."""
        target = self.whole(self.buffer(kind, math.prod(shape))).reshape(tuple(shape))
        self.step("{0}", [self.together(a, kind)], (kind, kind), np.broadcast_to(target, a.shape), adds=True)
        return target


def _once(arrays: Sequence[Array]) -> list[Array]:
    """Without the repetitions that all of them have."""
    same = [all(one.strides[dim] == 0 for one in arrays) for dim in range(arrays[0].ndim)]
    index = tuple(slice(0, 1) if repeated else slice(None) for repeated in same)
    return [one[index] for one in arrays]


# Operations that are other than in scalars


def _sum(
    writer: StepWriter, _: fx.Node, kind: str, a: Any, dims: Any = None, keepdim: bool = False, **__: Any
) -> Array:
    a = writer.places(a)
    if a.ndim == 0:
        return writer.each("{0}", (a,), kind, kind)
    axes = {dim % a.ndim for dim in ([dims] if isinstance(dims, int) else dims or range(a.ndim))}
    shape = [1 if axis in axes else size for axis, size in enumerate(a.shape)]
    final = shape if keepdim else [size for axis, size in enumerate(a.shape) if axis not in axes]
    if a.size == 0:
        return writer.zeros(final)
    (once,) = _once([a])
    times = math.prod(size for axis, size in enumerate(a.shape) if axis in axes and once.shape[axis] < size)
    into = [1 if axis in axes else size for axis, size in enumerate(once.shape)]
    found = once if once.size == math.prod(into) else writer.reduced(once, into, kind)
    found = writer.each("{0} * {1}", (found, times), kind, kind)
    return np.broadcast_to(found, shape).reshape(final)


def _mean(
    writer: StepWriter, node: fx.Node, kind: str, a: Any, dims: Any = None, keepdim: bool = False, **_: Any
) -> Array:
    total = _sum(writer, node, kind, a, dims, keepdim)
    return writer.each("{0} / {1}", (total, a.size // max(total.size, 1)), kind, kind)


def _index_put(
    writer: StepWriter, _: fx.Node, kind: str, a: Array, indices: Sequence[Any], values: Any, accumulate: bool = False
) -> Array:
    at = np.arange(a.size, dtype=np.int32).reshape(a.shape)[numbers(indices)]
    given = np.broadcast_to(writer.places(values), at.shape)
    if not accumulate or a.size == 0 or at.size == 0:
        found = a.copy()
        found.reshape(-1)[at.reshape(-1)] = given.reshape(-1)
        return found
    buffer = writer.buffer(kind, a.size)
    target = writer.whole(buffer)
    if not bool((a == writer.number(0.0)).all()):
        writer.write(a.reshape(-1), target, kind)
    writer.step("{0}", [writer.together(given, kind)], (kind, kind), target[at], adds=True)
    return target.reshape(a.shape)


def _short(name: str) -> Callable[..., Any]:
    """An operation along a dim, one operation after the other, where these are few."""

    def found(
        writer: StepWriter, node: fx.Node, kind: str, a: Array, dims: Any = None, *rest: Any, **others: Any
    ) -> Any:
        axes = [] if a.ndim == 0 else [dims] if isinstance(dims, int) else dims or range(a.ndim)
        if math.prod(a.shape[axis] for axis in axes) > MOST_PIECES:
            raise UnknownOperationError(f"{name} of many elements is not known in loops")
        return WRITTEN[name](writer, node, kind, a, dims, *rest, **others)

    return found


OWN: dict[str, Callable[..., Any]] = {
    "sum": _sum,
    "mean": _mean,
    **{name: _short(name) for name in ("prod", "amax", "amin")},
    "index_put": _index_put,
    "full": lambda writer, _, __, sizes, value, **___: np.broadcast_to(writer.number(value), tuple(sizes)),
    "zeros": lambda writer, _, __, sizes, **___: np.broadcast_to(writer.number(0.0), tuple(sizes)),
    "ones": lambda writer, _, __, sizes, **___: np.broadcast_to(writer.number(1.0), tuple(sizes)),
    "full_like": lambda writer, _, __, a, value, **___: np.broadcast_to(writer.number(value), a.shape),
    "zeros_like": lambda writer, _, __, a, **___: np.broadcast_to(writer.number(0.0), a.shape),
    "ones_like": lambda writer, _, __, a, **___: np.broadcast_to(writer.number(1.0), a.shape),
    "scalar_tensor": lambda writer, _, __, value, **___: writer.number(value),
    "constant_pad_nd": lambda writer, _, __, a, pad, value=0: VIEWS["constant_pad_nd"](
        a, pad, writer.number(value)[()]
    ),
    "tril": lambda writer, _, __, a, diagonal=0: triangle(a, diagonal, np.tril, writer.number(0)[()]),
    "triu": lambda writer, _, __, a, diagonal=0: triangle(a, diagonal, np.triu, writer.number(0)[()]),
}
ARRANGING: dict[str, Callable[..., Any]] = {
    "select": lambda a, dim, index: np.asarray(a[(slice(None),) * (dim % a.ndim) + (index,)]),
    "unbind": lambda a, dim=0: [np.asarray(one) for one in np.moveaxis(a, dim, 0)],
}
StepWriter.views = {**{name: view for name, view in VIEWS.items() if name not in OWN}, **ARRANGING}
StepWriter.written = {**WRITTEN, **OWN}
