"""C++ for the steps of a density over arrays: few loops, each over all steps that can share it.

Steps of the same size whose operands are at hand share a nest of loops, small ones first, so that what a large loop needs is
there and it takes all that it can. Within a nest, results are variables; what another nest reads is written to memory, unless
it is cheap enough to be computed again. The innermost loop is for the processor's vectors: on Linux the C library has
exponentials and the like for them, which GNU's compiler calls.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator, Sequence

import numpy as np

from .loop_order import Nest, Order, is_whole
from .loop_shapes import Loops
from .loop_steps import Access, Buffer, Step, StepWriter
from .lowered import Lowered
from .program import Program
from .scalar_code import ending, literal, simpler
from .scalar_operations import HEADER, KINDS
from .scalar_views import UnknownOperationError

__all__ = ["loops_are_fast", "write_loops"]

FLAGS = (
    "-O3",
    "-march=native",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fopenmp-simd",
    "-ffp-contract=fast",
    "-fwrapv",
)

BYTES = {"float": 4, "double": 8, "bool": 1, "int64_t": 8, "int32_t": 4, "uint8_t": 1}

VECTORS = """
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__clang__)
#define FOR_VECTORS(name) \\
    extern "C" __attribute__((simd("notinbranch"))) double name(double) noexcept; \\
    extern "C" __attribute__((simd("notinbranch"))) float name##f(float) noexcept;
FOR_VECTORS(exp) FOR_VECTORS(log) FOR_VECTORS(sin) FOR_VECTORS(cos)
extern "C" __attribute__((simd("notinbranch"))) double pow(double, double) noexcept;
extern "C" __attribute__((simd("notinbranch"))) float powf(float, float) noexcept;
#if __GLIBC_PREREQ(2, 35)
FOR_VECTORS(expm1) FOR_VECTORS(log1p) FOR_VECTORS(tanh) FOR_VECTORS(erf) FOR_VECTORS(erfc) FOR_VECTORS(atan)
FOR_VECTORS(log2) FOR_VECTORS(log10) FOR_VECTORS(exp2) FOR_VECTORS(asinh) FOR_VECTORS(acosh) FOR_VECTORS(atanh)
FOR_VECTORS(tan) FOR_VECTORS(asin) FOR_VECTORS(acos) FOR_VECTORS(sinh) FOR_VECTORS(cosh)
#endif
#endif
"""


def loops_are_fast() -> bool:
    """Whether the compiler here can be relied on to make vector code of loops that call the C library."""
    return sys.platform == "linux" and platform.machine() == "x86_64" and platform.libc_ver()[0] == "glibc"


def write_loops(program: Program) -> Lowered:
    """Write a program as loops.

    Raises:
        NotSmallError: It is too large, or has an operation that is not known here.
    """
    try:
        writer = StepWriter(program)
        writer.run()
    except UnknownOperationError:
        writer = StepWriter(simpler(program))
        writer.run()
    code = LoopCode(writer.steps, writer.buffers)
    inputs = program.inputs
    read = [number for number in range(len(inputs)) if number not in writer.baked]
    arguments = [f"const {KINDS[inputs[number].dtype]}* in{number}" for number in read]
    arguments += [f"{writer.scalar}* gradient", f"{writer.scalar}* value", "char* work"]
    lines = code.lines()
    body = "\n".join([*lines, *ending(lines)])
    source = f'{HEADER}{VECTORS}\nextern "C" void kernel({", ".join(arguments)}) {{\n{body}\n}}\n'
    sizes = [one.numel() * one.element_size() for one in inputs]
    first, width = len(sizes), program.point.element_size()
    call = tuple((number, 0) for number in (*read, first, first + 1, first + 2))
    written = (program.point.numel() * width, width, max(code.work, 1))
    return Lowered((source,), (*sizes, *written), ((0, call),), (first, 0), (first + 1, 0), FLAGS)


class LoopCode:
    """The loops of some steps."""

    def __init__(self, steps: Sequence[Step], buffers: Sequence[Buffer]) -> None:
        self.order = Order(steps, buffers)
        self.steps, self.buffers = steps, buffers
        self.work = 0
        self.tables: dict[bytes, str] = {}

    def table(self, entries: bytes) -> str:
        """The name of a table."""
        return self.tables.setdefault(entries, f"t{len(self.tables)}")

    def lines(self) -> list[str]:
        """The body of the function."""
        found: list[str] = []
        for number in sorted(self.order.kept):
            buffer = self.buffers[number]
            if buffer.writers and buffer.name is None and not self.order.is_variable(number):
                found.append(f"{buffer.kind}* const w{number} = ({buffer.kind}*)(work + {self.work});")
                self.work += -(-buffer.size * BYTES[buffer.kind] // 64) * 64
        for nest, members in zip(self.order.nests, self.order.members, strict=True):
            found += self._scalars(members) if nest.size == 1 else NestCode(self, nest, members).lines()
        tables = [
            f"static const int32_t {name}[] = {{{','.join(map(str, np.frombuffer(entries, np.int32)))}}};"
            for entries, name in self.tables.items()
        ]
        return tables + found

    def memory(self, access: Access, index: str) -> str:
        """An element in C++."""
        if self.order.is_variable(access.buffer):
            return f"s{access.buffer}"
        return f"{self.buffers[access.buffer].name or f'w{access.buffer}'}[{index}]"

    def kind(self, access: Access) -> str:
        """The type of an element."""
        return self.buffers[access.buffer].kind

    def number(self, access: Access, kind: str) -> str | None:
        """The literal that an access reads, in C++."""
        value = self.buffers[access.buffer].literal
        return None if value is None else literal(value, kind)

    def cast(self, text: str, access: Access, kind: str) -> str:
        """An element in the type in which it is computed with."""
        return text if self.kind(access) == kind else f"({kind}){text}"

    def _read(self, access: Access, kind: str) -> str:
        """The one element of an access, in the type in which it is computed with."""
        return self.cast(self.memory(access, str(access.start)), access, kind)

    def _scalars(self, members: Sequence[int]) -> list[str]:
        """Steps of one turn."""
        found = []
        for number in members:
            step = self.steps[number]
            kinds = zip(step.operands, step.operand_kinds, strict=True)
            shown = [self.number(one, kind) or self._read(one, kind) for one, kind in kinds]
            result = step.template.format(*shown)
            if self.order.is_variable(step.out.buffer):
                found.append(f"const {step.kind} s{step.out.buffer} = {result};")
            else:
                found += self.zeroed(step)
                sign = "+=" if step.adds else "="
                found.append(f"{self.memory(step.out, str(step.out.start))} {sign} {result};")
        return found

    def zeroed(self, step: Step) -> list[str]:
        """What sets to zero, at each call anew, the memory that a step adds to, where nothing was written to it before."""
        buffer = self.buffers[step.out.buffer]
        if not step.adds or self.order.is_variable(step.out.buffer):
            return []
        if not all(self.steps[one].adds for one in buffer.writers):
            return []
        return [f"for (int64_t i = 0; i < {buffer.size}; i++) w{step.out.buffer}[i] = 0;"]


class NestCode:
    """One nest of loops in C++: what stands in front of it, in it by depth, and after it."""

    def __init__(self, code: LoopCode, nest: Nest, members: Sequence[int]) -> None:
        self.code, self.nest, self.members = code, nest, members
        self.loops = Loops.over(nest.shape, list(self._touched()), any(code.steps[one].adds for one in members))
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
            self._step(number, self.code.steps[number])
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
            step = self.code.steps[number]
            for access in step.operands:
                if self.code.order.local_producer(step, access) not in there:
                    yield access, step.shape
            if self._is_written(number, step):
                yield step.out, step.shape

    def _is_written(self, number: int, step: Step) -> bool:
        own = is_whole(step.out, step.shape) and self.code.buffers[step.out.buffer].name is None
        here = self.code.order.home[number] is self.nest
        return here and (step.adds or not own or step.out.buffer in self.code.order.kept)

    def _step(self, number: int, step: Step) -> None:
        kinds = zip(step.operands, step.operand_kinds, strict=True)
        shown = [self._operand(step, access, kind) for access, kind in kinds]
        depth = max((one for _, one in shown), default=0)
        value = step.template.format(*(text for text, _ in shown))
        if step.adds:
            self._add(number, step, value)
            return
        self.opening[depth].append(f"const {step.kind} v{number} = {value};")
        self.depths[number] = depth
        if self._is_written(number, step):
            self.opening[-1].append(f"{self._element(step.out, step.shape)} = v{number};")

    def _operand(self, step: Step, access: Access, kind: str) -> tuple[str, int]:
        """An operand in C++, in the type in which it is computed with, and the depth at which it is known."""
        number = self.code.number(access, kind)
        if number is not None:
            return number, 0
        local = self.code.order.local_producer(step, access)
        if local in self.depths:
            return self.code.cast(f"v{local}", access, kind), self.depths[local]
        name = f"l{len(self.loaded)}"
        depth = self.loops.depth(access, step.shape)
        key = Access(access.buffer, access.start, self.loops.strides(access, step.shape), access.table)
        if key not in self.loaded:
            self.loaded[key] = name, depth
            self.opening[depth].append(f"const {self.code.kind(access)} {name} = {self._element(access, step.shape)};")
        name, depth = self.loaded[key]
        return self.code.cast(name, access, kind), depth

    def _element(self, access: Access, shape: tuple[int, ...]) -> str:
        strides = self.loops.strides(access, shape)
        terms = [f"{stride} * i{dim}" for dim, stride in enumerate(strides) if stride]
        index = " + ".join([*([str(access.start)] if access.start or not terms else []), *terms])
        if access.table is None:
            return self.code.memory(access, index)
        return self.code.memory(access, f"{self.code.table(access.table)}[{index}]")

    def _add(self, number: int, step: Step, value: str) -> None:
        """Sums, of a few terms each and then of these sums, up to the loops that their target varies in."""
        is_variable = self.code.order.is_variable(step.out.buffer)
        target = self._element(step.out, step.shape)
        self.before += self.code.zeroed(step)
        outer = self.loops.depth(step.out, step.shape)
        if step.out.table is not None or outer == self.depth:
            self.opening[-1].append(f"{target} += {value};")
            return
        for depth in range(outer, self.depth):
            exact = step.kind != "float" or depth == self.depth - 1
            place = self.opening[depth] if depth else self.before
            place.append(f"{step.kind if exact else 'double'} a{number}_{depth} = 0;")
            if depth > outer:
                self.closing[depth].append(f"a{number}_{depth - 1} += a{number}_{depth};")
        self.opening[-1].append(f"a{number}_{self.depth - 1} += {value};")
        self.sums.append(f"a{number}_{self.depth - 1}")
        if is_variable:
            self.after.append(f"const {step.kind} s{step.out.buffer} = ({step.kind})a{number}_{outer};")
        else:
            self.closing[outer].append(f"{target} += a{number}_{outer};")
