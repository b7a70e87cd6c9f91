"""C++ of typed code: few loops, each over all steps that can share it; a step of one turn is a line without a loop.

Within a nest of loops results are variables; what another nest reads is written to memory, unless it is cheap enough to be
computed again. The innermost loop is for the processor's vectors.
"""

from __future__ import annotations

import contextlib
import math
import platform
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from .failures import TooLargeError, UnknownOperationError
from .ir import CTYPES, Access, Code, Read, Step
from .lowered import Lowered
from .ops import OPERATIONS, Combine
from .passes import Loops, Nest, Order, baked, build, is_whole, written_out
from .trace import Program, simpler

__all__ = ["entry_points", "loops_are_fast", "write", "write_loops", "write_scalars"]

LOOP_FLAGS = (
    "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd", "-ffp-contract=fast", "-fwrapv",
)  # fmt: skip
SCALAR_FLAGS = ("-O1", "-ffp-contract=off", "-fwrapv")
"""No loops are in it that more would speed up."""

MOST_INPUTS = 2_000
"""The most numbers that a program may read to be written out in scalars."""

FEW_LINES, MOST_LINES = 10_000, 40_000
"""The most lines of a program that is written out: where its tensors are large, and where its operations are many."""

MOST_STEPS = 20_000
"""The most steps that are put into loops."""


def loops_are_fast() -> bool:
    """Whether the compiler here can be relied on to make vector code of loops that call the C library."""
    return sys.platform == "linux" and platform.machine() == "x86_64" and platform.libc_ver()[0] == "glibc"


def write(program: Program, loops: bool = True) -> Lowered:
    """A program in C++.

    Args:
        program: The program.
        loops: Whether it may be written as loops, where it is not small.

    Raises:
        NotWrittenError: It is too large, or has an operation that the table does not have and that no others make.
    """
    try:
        code = build(program)
    except UnknownOperationError:
        code = build(simpler(program, OPERATIONS))
    with contextlib.suppress(TooLargeError):
        return write_scalars(program, code)
    if not loops:
        raise TooLargeError("it is too large for code without loops")
    return write_loops(program, code)


def write_scalars(program: Program, code: Code) -> Lowered:
    """A program as lines without loops.

    Raises:
        TooLargeError: It is too large for that.
    """
    if sum(one.numel() for one in program.inputs) > MOST_INPUTS:
        raise TooLargeError("it reads too many numbers to be written out in scalars")
    # Where lines come of large tensors and not of many operations, loops are compiled sooner.
    most = min(MOST_LINES, max(FEW_LINES, 4 * len(program.graph.graph.nodes)))
    return _lowered(program, written_out(code, most), SCALAR_FLAGS)


def write_loops(program: Program, code: Code) -> Lowered:
    """A program as loops.

    Raises:
        TooLargeError: It has too many steps.
    """
    if len(code.steps) > MOST_STEPS:
        raise TooLargeError("it has too many operations for loops of our own")
    return _lowered(program, code, LOOP_FLAGS)


def _lowered(program: Program, code: Code, flags: tuple[str, ...]) -> Lowered:
    inputs = program.inputs
    scalar = CTYPES[program.point.dtype]
    read = [number for number in range(len(inputs)) if number not in baked(program)]
    arguments = [f"const {CTYPES[inputs[number].dtype]}* in{number}" for number in read]
    arguments += [f"{scalar}* gradient", f"{scalar}* value", "char* work"]
    function = Function(code)
    body = "\n".join(function.lines())
    if "whole_" in body:  # where torch raises
        body += "\nif (divided_by_zero) { divided_by_zero = 0; throw 0; }"
    vectors = _text("vectors.h") if flags is LOOP_FLAGS else ""
    source = f'{_text("header.h")}{vectors}\nextern "C" void kernel({", ".join(arguments)}) {{\n{body}\n}}\n'
    sizes = [one.numel() * one.element_size() for one in inputs]
    first, width = len(sizes), program.point.element_size()
    call = tuple((number, 0) for number in (*read, first, first + 1, first + 2))
    written = (program.point.numel() * width, width, max(function.work, 1))
    return Lowered((source,), (*sizes, *written), ((0, call),), (first, 0), (first + 1, 0), flags)


def entry_points() -> str:
    """What stands after the kernels of a program: the functions that samplers call."""
    return _text("entry_points.h")


def _text(name: str) -> str:
    return (Path(__file__).parent / name).read_text()


class Function:
    """The body of the function that some code is."""

    def __init__(self, code: Code) -> None:
        self.code, self.order = code, Order(code)
        self.work = 0
        self.tables: dict[bytes, str] = {}

    def table(self, entries: bytes) -> str:
        """The name of a table."""
        return self.tables.setdefault(entries, f"t{len(self.tables)}")

    def lines(self) -> list[str]:
        """The lines."""
        found: list[str] = []
        for number in sorted(self.order.kept):
            buffer = self.code.buffers[number]
            if buffer.writers and buffer.name is None and not self.order.is_variable(number):
                kind = CTYPES[buffer.dtype]
                found.append(f"{kind}* const w{number} = ({kind}*)(work + {self.work});")
                self.work += -(-buffer.size * buffer.dtype.itemsize // 64) * 64
        for nest, members in zip(self.order.nests, self.order.members, strict=True):
            found += self._scalars(members) if nest.size == 1 else Loop(self, nest, members).lines()
        return [*self._constants(), *found]

    def _constants(self) -> Iterator[str]:
        for entries, name in self.tables.items():
            yield f"static const int32_t {name}[] = {{{','.join(map(str, np.frombuffer(entries, np.int32)))}}};"
        for number, buffer in enumerate(self.code.buffers):
            if buffer.table is not None and number in self.order.kept:
                numbers = ",".join(literal(one, buffer.dtype) for one in buffer.table.tolist())
                yield f"static const {CTYPES[buffer.dtype]} w{number}[] = {{{numbers}}};"

    def memory(self, access: Access, index: str) -> str:
        """An element."""
        if self.order.is_variable(access.buffer):
            return f"s{access.buffer}"
        return f"{self.code.buffers[access.buffer].name or f'w{access.buffer}'}[{index}]"

    def known(self, read: Read) -> str | None:
        """The literal that is read, if it is one."""
        buffer = self.code.buffers[read.access.buffer]
        return (
            None if buffer.literal is None else brought(literal(buffer.literal, buffer.dtype), buffer.dtype, read.dtype)
        )

    def brought(self, text: str, read: Read) -> str:
        """An element in the type in which it is computed with."""
        return brought(text, self.code.buffers[read.access.buffer].dtype, read.dtype)

    def zeroed(self, step: Step) -> list[str]:
        """What sets, at each call anew, what a step joins others to, where nothing was written there before."""
        buffer = self.code.buffers[step.out.buffer]
        if step.combine is None or self.order.is_variable(step.out.buffer):
            return []
        if not all(self.code.steps[one].combine for one in buffer.writers):
            return []
        return [f"for (int64_t i = 0; i < {buffer.size}; i++) w{step.out.buffer}[i] = {identity(step)};"]

    def _scalars(self, members: Sequence[int]) -> list[str]:
        """Steps of one turn."""
        found = []
        for number in members:
            step = self.code.steps[number]
            value = expression(step, [self._element(read) for read in step.reads])
            if step.combine is None and self.order.is_variable(step.out.buffer):
                found.append(f"const {CTYPES[step.dtype]} s{step.out.buffer} = {value};")
            else:
                found += self.zeroed(step)
                target = self.memory(step.out, str(step.out.start))
                found.append(f"{target} = {value if step.combine is None else joined(step.combine, target, value)};")
        return found

    def _element(self, read: Read) -> str:
        """The one element that is read."""
        return self.known(read) or self.brought(self.memory(read.access, str(read.access.start)), read)


def literal(value: bool | int | float, dtype: torch.dtype) -> str:
    """A number in C++."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"({CTYPES[dtype]})({value}LL)" if value > -(2**63) else "INT64_MIN"
    if math.isnan(value) or math.isinf(value):
        return f"({CTYPES[dtype]})({'NAN' if math.isnan(value) else '-INFINITY' if value < 0 else 'INFINITY'})"
    return f"({CTYPES[dtype]})({value!r})"


def brought(text: str, own: torch.dtype, wanted: torch.dtype) -> str:
    """An expression in another type."""
    if own == wanted:
        return text
    if wanted == torch.bool:
        return f"({text} != 0)"
    if own.is_floating_point and not wanted.is_floating_point:  # by way of a wider one, as torch does it
        text = f"whole<{'int32_t' if wanted == torch.int32 else 'int64_t'}>({text})"
    return f"({CTYPES[wanted]})({text})"


def expression(step: Step, operands: Sequence[str]) -> str:
    """What a step computes."""
    template = step.op.template(tuple(read.dtype for read in step.reads))
    return (template or "").format(*operands)


def joined(combine: Combine, one: str, other: str) -> str:
    """Two elements as one."""
    return (combine.op.code[0] or "").format(one, f"({other})")


def identity(step: Step) -> str:
    """What there is before anything is joined to it."""
    return "" if step.combine is None else step.combine.identity.replace("T", CTYPES[step.dtype])


class Loop:
    """One nest of loops in C++: what stands in front of it, in it by depth, and after it."""

    def __init__(self, function: Function, nest: Nest, members: Sequence[int]) -> None:
        self.function, self.nest, self.members = function, nest, members
        self.order, self.steps = function.order, function.code.steps
        self.loops = Loops.over(nest.shape, list(self._touched()), any(self.steps[one].combine for one in members))
        self.loaded: dict[Access, tuple[str, int]] = {}
        self.depths: dict[int, int] = {}
        self.before: list[str] = []
        self.after: list[str] = []
        self.sums: list[str] = []
        self.opening: list[list[str]] = [[] for _ in range(self.depth + 1)]
        self.closing: list[list[str]] = [[] for _ in range(self.depth)]

    @property
    def depth(self) -> int:
        """The number of loops."""
        return len(self.loops.shape)

    def lines(self) -> list[str]:
        """The loops."""
        for number in self.members:
            self._step(number, self.steps[number])
        found = [*self.before, "{", *self.opening[0]]
        for dim, size in enumerate(self.loops.shape):
            innermost = dim == self.depth - 1
            end = str(size)
            if innermost and self.loops.long:
                end = "end"
                left = f"{self.loops.long} - {size} * i{dim - 1}"
                found.append(f"const int64_t end = {left} < {size} ? {left} : {size};")
            if innermost and not self.nest.serial:
                found.append("#pragma omp simd" + (f" reduction(+:{','.join(self.sums)})" if self.sums else ""))
            found += [f"for (int64_t i{dim} = 0; i{dim} < {end}; i{dim}++) {{", *self.opening[dim + 1]]
        for dim in reversed(range(self.depth)):
            found += ["}", *self.closing[dim]]
        return [*found, "}", *self.after]

    def _touched(self) -> Iterator[tuple[Access, tuple[int, ...]]]:
        """What is read from memory or written to it, and over which shape."""
        there = set(self.members)
        for number in self.members:
            step = self.steps[number]
            for read in step.reads:
                if self.order.local_producer(step, read.access) not in there:
                    yield read.access, step.shape
            if self._is_written(number, step):
                yield step.out, step.shape

    def _is_written(self, number: int, step: Step) -> bool:
        own = is_whole(step.out, step.shape) and self.function.code.buffers[step.out.buffer].name is None
        here = self.order.home[number] is self.nest
        return here and (step.combine is not None or not own or step.out.buffer in self.order.kept)

    def _step(self, number: int, step: Step) -> None:
        shown = [self._operand(step, read) for read in step.reads]
        depth = max((one for _, one in shown), default=0)
        value = expression(step, [text for text, _ in shown])
        if step.combine is not None:
            self._join(number, step, step.combine, value)
            return
        self.opening[depth].append(f"const {CTYPES[step.dtype]} v{number} = {value};")
        self.depths[number] = depth
        if self._is_written(number, step):
            self.opening[-1].append(f"{self._element(step.out, step.shape)} = v{number};")

    def _operand(self, step: Step, read: Read) -> tuple[str, int]:
        """An operand, and the depth at which it is known."""
        known = self.function.known(read)
        if known is not None:
            return known, 0
        local = self.order.local_producer(step, read.access)
        if local in self.depths:
            return self.function.brought(f"v{local}", read), self.depths[local]
        access = read.access
        key = Access(access.buffer, access.start, self.loops.strides(access, step.shape), access.table)
        if key not in self.loaded:
            name, depth = f"l{len(self.loaded)}", self.loops.depth(access, step.shape)
            kind = CTYPES[self.function.code.buffers[access.buffer].dtype]
            self.opening[depth].append(f"const {kind} {name} = {self._element(access, step.shape)};")
            self.loaded[key] = name, depth
        name, depth = self.loaded[key]
        return self.function.brought(name, read), depth

    def _element(self, access: Access, shape: tuple[int, ...]) -> str:
        strides = self.loops.strides(access, shape)
        terms = [f"{stride} * i{dim}" for dim, stride in enumerate(strides) if stride]
        index = " + ".join([*([str(access.start)] if access.start or not terms else []), *terms])
        if access.table is None:
            return self.function.memory(access, index)
        return self.function.memory(access, f"{self.function.table(access.table)}[{index}]")

    def _join(self, number: int, step: Step, combine: Combine, value: str) -> None:
        """Results of a few terms each, then of these results, up to the loops that their target varies in."""
        is_variable = self.order.is_variable(step.out.buffer)
        target = self._element(step.out, step.shape)
        self.before += self.function.zeroed(step)
        outer = self.loops.depth(step.out, step.shape)
        if step.out.table is not None or outer == self.depth:
            self.opening[-1].append(f"{target} = {joined(combine, target, value)};")
            return
        kind = CTYPES[step.dtype]
        for depth in range(outer, self.depth):
            name = f"a{number}_{depth}"
            # Sums of sums are of more terms than single precision bears.
            double = combine.is_sum and step.dtype == torch.float32 and depth < self.depth - 1
            place = self.opening[depth] if depth else self.before
            place.append(f"{'double' if double else kind} {name} = {identity(step)};")
            if depth > outer:
                above = f"a{number}_{depth - 1}"
                self.closing[depth].append(f"{above} = {joined(combine, above, name)};")
        last = f"a{number}_{self.depth - 1}"
        self.opening[-1].append(f"{last} = {joined(combine, last, value)};")
        if combine.is_sum:
            self.sums.append(last)
        if is_variable:
            self.after.append(f"const {kind} s{step.out.buffer} = ({kind})a{number}_{outer};")
        else:
            self.closing[outer].append(f"{target} = {joined(combine, target, f'a{number}_{outer}')};")
