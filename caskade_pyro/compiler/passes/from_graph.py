"""From the graph of a trace to typed code: every node by its row in the table of operations."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from ..failures import TooLargeError, UnknownOperationError
from ..ir import Code, Places, by_owner
from ..ops import CAST, OPERATIONS, Combine, Composite, Pointwise, Reduction, View
from ..trace import INDEXING, Program

__all__ = ["Array", "CodeBuilder", "baked", "build"]

MOST_LOOKED_UP = 50_000
"""The most indices that stand in the code."""

FEW_PIECES, MOST_PIECES = 64, 20_000
"""Of an array that lies in few buffers each piece is computed with alone; one of more is brought together before."""

MOST_STEPS = 100_000

IGNORED = {
    "dtype",
    "layout",
    "device",
    "pin_memory",
    "memory_format",
    "non_blocking",
    "implicit",
    "unsafe",
    "generator",
}
"""Arguments that say what the type of the result says, or where it lies in torch's memory."""

CHECKS = {"_linalg_check_errors"}
"""Those of a factorisation that fails: ours gives NaN, which a sampler takes for a divergence."""


def baked(program: Program) -> dict[int, Tensor]:
    """The inputs whose values are part of the code, by number: those that say what is looked up where."""
    nodes = [node for node in program.graph.graph.nodes if node.op == "placeholder"]
    used = {index for node in program.graph.graph.nodes if node.target in INDEXING for index in node.args[1]}
    found = {number: program.inputs[number] for number, node in enumerate(nodes) if node in used}
    return found if sum(one.numel() for one in found.values()) <= MOST_LOOKED_UP else {}


def build(program: Program) -> Code:
    """The code of a program: from its inputs ``in0``, ``in1``, ... to ``gradient`` and ``value``.

    Raises:
        TooLargeError: It is too large.
        UnknownOperationError: It has an operation that the table does not have.
        NotWrittenError: It computes with types that C++ does not have.
    """
    return CodeBuilder(program).run().verify()


@dataclass(frozen=True)
class Array:
    """A tensor as the places of its elements.

    Attributes:
        places: Where they lie.
        dtype: Their type.
    """

    places: Places
    dtype: torch.dtype


class CodeBuilder:
    """Writes the nodes of a graph as steps, one after the other. What is known when it is met stays a tensor of torch's."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.code = Code()
        self.values: dict[fx.Node, Any] = {}

    def run(self) -> Code:
        """The code."""
        known = baked(self.program)
        inputs = iter(enumerate(self.program.inputs))
        for node in self.program.graph.graph.nodes:
            if node.op == "placeholder":
                number, tensor = next(inputs)
                self.values[node] = known[number] if number in known else self._input(number, tensor)
            elif node.op == "output":
                for name, one in zip(("gradient", "value"), node.args[0], strict=True):
                    self._result(name, self.values[one])
            else:
                self.values[node] = self._node(node)
            if len(self.code.steps) > MOST_STEPS:
                raise TooLargeError("it has too many operations for loops of our own")
        return self.code

    def _input(self, number: int, tensor: Tensor) -> Array:
        buffer = self.code.buffer(tensor.dtype, tensor.numel(), name=f"in{number}")
        return Array(self.code.whole(buffer).reshape(tuple(tensor.shape)), tensor.dtype)

    def _result(self, name: str, value: Any) -> None:
        dtype = self.program.point.dtype
        found = self.array(value, dtype).places.reshape(-1)
        self._copy(found, self.code.whole(self.code.buffer(dtype, found.size, name=name)), dtype)

    # Nodes

    def _node(self, node: fx.Node) -> Any:
        if node.target is operator.getitem:
            return self.values[node.args[0]][node.args[1]]  # type: ignore[index]
        args = fx.node.map_arg(node.args, self.values.__getitem__)
        kwargs = fx.node.map_arg(node.kwargs, self.values.__getitem__)
        if not _holds_arrays((args, kwargs)):
            return node.target(*args, **kwargs)  # type: ignore[operator]  # an operation of torch
        schema = node.target._schema  # type: ignore[union-attr]
        name = schema.name.partition("::")[2]
        if name in CHECKS:
            return None
        row = OPERATIONS.get(name)
        if row is None:
            raise UnknownOperationError(f"{name} is not known here")
        given = {one.name: value for one, value in zip(schema.arguments, args, strict=False)} | kwargs
        options = {one.name: one.default_value for one in schema.arguments} | given
        return self._of_row(row, name, [value for key, value in options.items() if key not in IGNORED], node)

    def _of_row(self, row: Any, name: str, args: list[Any], node: fx.Node) -> Any:
        if isinstance(row, View):
            if any(isinstance(one, torch.dtype) for one in node.args):
                raise UnknownOperationError(f"{name} to another type is not known here")
            found = row.of_places(args[0].places, *args[1:])
            whole = isinstance(found, list)
            return [Array(one, args[0].dtype) for one in found] if whole else Array(found, args[0].dtype)
        dtype = _dtype(node)
        if isinstance(row, Composite):
            return row.write(self, dtype, *args)
        if isinstance(row, Reduction):
            return self._reduction(row, dtype, *args)
        if any(args[len(row.operands) :]):
            raise UnknownOperationError(f"{name} with these options is not known here")
        return self.apply(name, dtype, *args[: len(row.operands)])

    # What composites are made with

    def of(self, places: Places, dtype: torch.dtype) -> Array:
        """Places as an array."""
        return Array(places, dtype)

    def array(self, value: Any, dtype: torch.dtype) -> Array:
        """An array, a tensor or a number as an array of this type."""
        if isinstance(value, Tensor):
            return Array(self.code.constant(value.to(dtype)), dtype)
        if not isinstance(value, Array):
            return Array(self.code.literal(value, dtype), dtype)
        return value if value.dtype == dtype else self._each(CAST, [(value.places, dtype)], dtype)

    def apply(self, name: str, dtype: torch.dtype, *operands: Any) -> Array:
        """An operation on each element of arrays, tensors and numbers, brought to one shape."""
        row: Any = OPERATIONS[name]
        wanted = [_wanted(letter, one, operands, dtype) for letter, one in zip(row.operands, operands, strict=True)]
        if not row.takes(tuple(wanted)):
            raise UnknownOperationError(f"{name} of {', '.join(map(str, wanted))} is not known here")
        arrays = [self._operand(one, to) for one, to in zip(operands, wanted, strict=True)]
        kept = _kept(name, operands, arrays, self.code)
        if kept is not None and arrays[kept].dtype == dtype:
            shape = np.broadcast_shapes(*(one.places.shape for one in arrays))
            return Array(np.broadcast_to(arrays[kept].places, shape), dtype)
        return self._each(row, [(one.places, to) for one, to in zip(arrays, wanted, strict=True)], dtype)

    def added_at(self, a: Array, at: Places, values: Array) -> Array:
        """An array with values added to the elements of these numbers."""
        target = self.code.whole(self.code.buffer(a.dtype, a.places.size))
        if not self._is_number(a.places, 0):
            self._copy(a.places.reshape(-1), target, a.dtype)
        given = self._together(values.places, a.dtype)
        self.code.step(CAST, [(given, a.dtype)], a.dtype, target[at], OPERATIONS["sum"].combine)  # type: ignore[union-attr]
        return Array(target.reshape(a.places.shape), a.dtype)

    # Steps

    def _operand(self, value: Any, dtype: torch.dtype) -> Array:
        """An operand, not yet brought to a type where it has one: the step that reads it does that."""
        return value if isinstance(value, Array) else self.array(value, dtype)

    def _each(self, op: Pointwise, operands: Sequence[tuple[Places, torch.dtype]], dtype: torch.dtype) -> Array:
        """An operation on each element of arrays, brought to one shape; what is repeated is computed once."""
        full = np.broadcast_arrays(*(places for places, _ in operands))
        shape, wanted = full[0].shape, [to for _, to in operands]
        if 0 in shape:
            return Array(np.empty(shape, np.int32), dtype)
        arrays = [self._in_few_pieces(one) for one in once(full)]
        found = np.empty(arrays[0].shape, np.int32)
        for where in by_owner(self.code, arrays, MOST_PIECES):
            parts = arrays if where is None else [one.reshape(-1)[where] for one in arrays]
            target = self.code.whole(self.code.buffer(dtype, parts[0].size)).reshape(parts[0].shape)
            self.code.step(op, list(zip(parts, wanted, strict=True)), dtype, target)
            if where is None:
                found = target
            else:
                found.reshape(-1)[where] = target
        return Array(np.broadcast_to(found, shape), dtype)

    def _reduction(
        self, row: Reduction, dtype: torch.dtype, a: Array, dims: Any = None, keepdim: bool = False
    ) -> Array:
        ndim = a.places.ndim
        axes = {dim % ndim for dim in ([dims] if isinstance(dims, int) else dims or range(ndim))} if ndim else set()
        sizes = a.places.shape
        shape = tuple(1 if axis in axes else size for axis, size in enumerate(sizes))
        final = shape if keepdim else tuple(size for axis, size in enumerate(sizes) if axis not in axes)
        (kept,) = once([a.places])
        count = math.prod(sizes[axis] for axis in axes)
        if a.places.size == 0:
            return self._of_nothing(row, final, dtype)
        into = tuple(1 if axis in axes else size for axis, size in enumerate(kept.shape))
        times = count * math.prod(into) // kept.size
        found = self._joined(row.combine, Array(kept, a.dtype), into, dtype)
        if row.is_mean:
            found = self.apply("mul", dtype, found, times) if times > 1 else found
            found = self.apply("quotient", dtype, found, count)
        elif times > 1 and row.combine.is_sum:
            found = self.apply("mul", dtype, found, times)
        elif times > 1 and row is OPERATIONS["prod"]:
            found = self.apply("power", dtype, found, times)
        return Array(np.broadcast_to(found.places, shape).reshape(final), dtype)

    def _of_nothing(self, row: Reduction, shape: tuple[int, ...], dtype: torch.dtype) -> Array:
        if math.prod(shape) == 0:
            return self.array(torch.zeros(shape, dtype=dtype), dtype)
        if row.of_nothing is None:
            raise UnknownOperationError("there is no largest of no elements")
        return self.array(torch.full(shape, row.of_nothing, dtype=dtype), dtype)

    def _joined(self, combine: Combine, a: Array, into: tuple[int, ...], dtype: torch.dtype) -> Array:
        """The elements of an array joined to a shape whose dims are its own, or one."""
        if a.places.size == math.prod(into):
            return self.array(a, dtype)
        target = self.code.whole(self.code.buffer(dtype, math.prod(into))).reshape(into)
        values = self._together(a.places, a.dtype)
        self.code.step(CAST, [(values, dtype)], dtype, np.broadcast_to(target, a.places.shape), combine)
        return Array(target, dtype)

    def _together(self, places: Places, dtype: torch.dtype) -> Places:
        """The same values in one buffer."""
        if places.size == 0 or self.code.owner(places) is not None:
            return places
        target = self.code.whole(self.code.buffer(dtype, places.size))
        self._copy(places.reshape(-1), target, dtype)
        return target.reshape(places.shape)

    def _in_few_pieces(self, places: Places) -> Places:
        if self.code.owner(places) is not None or len(np.unique(self.code.owners(places))) <= FEW_PIECES:
            return places
        return self._together(places, self.code.buffers[int(self.code.owners(places)[0])].dtype)

    def _copy(self, values: Places, out: Places, dtype: torch.dtype) -> None:
        """Copy values, from wherever they are, to places of one buffer."""
        if values.size:
            for where in by_owner(self.code, [values], MOST_PIECES):
                at = slice(None) if where is None else where
                self.code.step(CAST, [(values[at], dtype)], dtype, out[at])

    def _is_number(self, places: Places, number: float) -> bool:
        """Whether all of an array is one number of the code."""
        owner = self.code.owner(places) if places.size else None
        return owner is not None and self.code.buffers[owner].literal == number


def once(arrays: Sequence[Places]) -> list[Places]:
    """Without the repetitions that all of them have."""
    same = [all(one.strides[dim] == 0 for one in arrays) for dim in range(arrays[0].ndim)]
    index = tuple(slice(0, 1) if repeated else slice(None) for repeated in same)
    return [one[index] for one in arrays]


def _holds_arrays(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return any(_holds_arrays(one) for one in value)
    return any(_holds_arrays(one) for one in value.values()) if isinstance(value, dict) else isinstance(value, Array)


def _dtype(node: fx.Node) -> torch.dtype:
    value = node.meta.get("val")
    if not isinstance(value, Tensor):
        raise UnknownOperationError(f"{node.target} gives more than one tensor")
    return value.dtype


def _wanted(letter: str, operand: Any, operands: Sequence[Any], dtype: torch.dtype) -> torch.dtype:
    """To which type an operand is brought."""
    if letter == "b":
        return torch.bool
    if letter == "p":
        return _promoted(operands)
    return operand.dtype if letter == "o" else dtype


def _promoted(operands: Sequence[Any]) -> torch.dtype:
    """The type to which torch promotes two operands, which depends on which of them are numbers or have no dims."""
    first, second = (
        torch.empty((1,) * one.places.ndim, dtype=one.dtype) if isinstance(one, Array) else one for one in operands
    )
    return torch.result_type(first, second)


NEUTRAL = {"plus": (0, True), "mul": (1, True), "quotient": (1, False), "minus": (0, False)}


def _kept(name: str, operands: Sequence[Any], arrays: Sequence[Array], code: Code) -> int | None:
    """Which operand an operation leaves as it is, because the other is neutral.

    Nought that is added is neutral but for the sign of nought, so it has to be a tensor's, as where gradients of parts are
    joined, and not a number that the user adds.
    """
    if name not in NEUTRAL:
        return None
    number, commutes = NEUTRAL[name]
    for other, kept in ((1, 0), (0, 1)) if commutes else ((1, 0),):
        places = arrays[other].places
        owner = code.owner(places) if places.size else None
        if owner is not None and code.buffers[owner].literal == number:
            if name == "plus" and not isinstance(operands[other], (Array, Tensor)):
                continue
            return kept
    return None
