"""C code for small densities: every number a variable, every operation a line.

A model of a few hundred numbers, or a simulator that takes many small steps, needs no loops and no fusion: written out in
scalars it compiles without torch's headers, in a fraction of the time, and runs as fast. Tensors are arrays of names of
variables, so views cost nothing, and what is computed twice is one line. Models beyond `MOST_LINES` are for Inductor.
"""

from __future__ import annotations

import functools
import math
import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx
from torch._decomp import core_aten_decompositions, global_decomposition_table
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from .decompositions import small_decompositions
from .lowered import Lowered
from .program import Program
from .recorder import INDEXING
from .scalar_operations import (
    CHECKS,
    COMPARING,
    FLOATING,
    HEADER,
    KINDS,
    OF_WHOLE,
    PLAIN,
    SAME,
    WRITTEN,
)  # fmt: skip
from .scalar_views import VIEWS, Array, NotSmallError, UnknownOperationError, as_array

__all__ = ["MOST_INPUTS", "Writer", "as_kind", "baked", "ending", "literal", "simpler", "write_scalars"]

MOST_INPUTS = 2_000
"""The most numbers that a density may read to be written out."""

MOST_LOOKED_UP = 50_000
"""The most indices that stand in the code."""

FEW_LINES, MOST_LINES = 10_000, 40_000
"""The most lines of a density that is written out: where its tensors are large, and where its operations are many."""


def baked(program: Program) -> dict[int, Tensor]:
    """The inputs whose values are part of the code, by number: those that say what is looked up where."""
    nodes = [node for node in program.graph.graph.nodes if node.op == "placeholder"]
    used = {index for node in program.graph.graph.nodes if node.target in INDEXING for index in node.args[1]}
    found = {number: program.inputs[number] for number, node in enumerate(nodes) if node in used}
    return found if sum(one.numel() for one in found.values()) <= MOST_LOOKED_UP else {}


def simpler(program: Program) -> Program:
    """The same program in fewer kinds of operations."""
    fake = FakeTensorMode()
    inputs = [fake.from_tensor(one) for one in program.inputs]

    def run(*args: Tensor) -> Any:
        return fx.Interpreter(program.graph).run(*args)

    table = {**_of_torch(), **small_decompositions()}
    try:
        with torch.no_grad(), fake, warnings.catch_warnings(action="ignore"):
            graph = make_fx(run, decomposition_table=table)(*inputs)
    except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
        raise NotSmallError(f"it cannot be written in simpler operations: {error}") from error
    graph.graph.eliminate_dead_code()
    return Program(graph, program.constants, program.point)


@functools.cache
def _of_torch() -> dict[Any, Callable[..., Any]]:
    """What torch itself can say in simpler operations, of those that are not known here; its core set besides."""
    known = {*PLAIN, *WRITTEN, *SAME, *VIEWS}
    of_all = {
        operation: written
        for operation, written in global_decomposition_table["post_autograd"].items()
        if isinstance(operation, OpOverload) and operation.__name__.partition(".")[0] not in known
    }
    return {**of_all, **core_aten_decompositions()}


def _is_small(program: Program) -> bool:
    return sum(one.numel() for one in program.inputs) <= MOST_INPUTS and len(program.graph.graph.nodes) <= MOST_LINES


def write_scalars(program: Program) -> Lowered:
    """Write a program out in scalars.

    Raises:
        NotSmallError: It is too large, or has an operation that is not known here.
    """
    if not _is_small(program):
        raise NotSmallError("it is too large to be written out in scalars")
    try:
        writer = Writer(program)
        gradient, value = writer.run()
    except UnknownOperationError:
        writer = Writer(simpler(program))
        gradient, value = writer.run()
    read = [number for number in range(len(program.inputs)) if number not in writer.baked]
    arguments = [f"const {KINDS[program.inputs[number].dtype]}* in{number}" for number in read]
    arguments += [f"{writer.scalar}* gradient", f"{writer.scalar}* value"]
    results = [f"gradient[{i}] = {writer.use(one)};" for i, one in enumerate(gradient.reshape(-1))]
    results.append(f"*value = {writer.use(value.reshape(-1)[0])};")
    body = "\n    ".join([*writer.lines, *results, *ending(writer.lines)])
    source = f'{HEADER}\nextern "C" void kernel({", ".join(arguments)}) {{\n    {body}\n}}\n'
    sizes = [one.numel() * one.element_size() for one in program.inputs]
    first = len(sizes)
    width = program.point.element_size()
    call = (*((number, 0) for number in read), (first, 0), (first + 1, 0))
    return Lowered(
        (source,), (*sizes, program.point.numel() * width, width), ((0, call),), (first, 0), (first + 1, 0), FLAGS
    )


FLAGS = ("-O1", "-ffp-contract=off", "-fwrapv")
"""No loops are in it that more would speed up; whole numbers wrap around, as torch's do."""


def ending(lines: Sequence[str]) -> list[str]:
    """What stands at the end of the function: whole numbers that were divided by zero are an error."""
    divides = any("quotient_" in line or "modulo(" in line or "rest_trunc(" in line for line in lines)
    return ["if (divided_by_zero) { divided_by_zero = false; throw 1; }"] if divides else []


def as_kind(number: Any, kind: str) -> Any:
    """A number of Python as a type of C++ holds it."""
    plain = number.item() if isinstance(number, np.generic) else number
    if kind == "bool":
        return bool(plain)
    if kind in FLOATING:
        return float(np.float32(plain)) if kind == "float" else float(plain)
    bits = {"uint8_t": 8, "int32_t": 32}.get(kind, 64)
    wrapped = int(plain) % 2**bits
    return wrapped - 2**bits if kind != "uint8_t" and wrapped >= 2 ** (bits - 1) else wrapped


def literal(number: Any, kind: str) -> str:
    """A number of Python in C++."""
    value = as_kind(number, kind)
    if kind == "bool":
        return "true" if value else "false"
    if kind not in FLOATING:
        return f"({kind})({value + 1}LL - 1)" if value == -(2**63) else f"({kind})({value}LL)"
    if math.isnan(value) or math.isinf(value):
        return f"({kind})({'NAN' if math.isnan(value) else '-INFINITY' if value < 0 else 'INFINITY'})"
    return f"({kind})({value!r})"


class Writer:
    """Writes the nodes of a graph as lines of C++, one after the other."""

    views: Mapping[str, Callable[..., Any]] = VIEWS
    written: Mapping[str, Callable[..., Any]] = WRITTEN

    def __init__(self, program: Program) -> None:
        self.program = program
        self.scalar = KINDS[program.point.dtype]
        self.lines: list[str] = []
        self.names: dict[tuple[str, str], str] = {}
        self.kinds: dict[str, str] = {}
        self.values: dict[fx.Node, Any] = {}
        self.baked = baked(program)
        # Where lines come of large tensors and not of many operations, loops are compiled sooner.
        self.most = min(MOST_LINES, max(FEW_LINES, 4 * len(program.graph.graph.nodes)))

    def run(self) -> tuple[Array, Array]:
        """The names of the results, gradient and value."""
        inputs = iter(enumerate(self.program.inputs))
        for node in self.program.graph.graph.nodes:
            if node.op == "placeholder":
                self.values[node] = self._input(*next(inputs))
            elif node.op == "output":
                gradient, value = node.args[0]
                return self.values[gradient], self.values[value]
            else:
                self.values[node] = self._node(node)
            if len(self.lines) > self.most:
                raise NotSmallError("it is too large to be written out in scalars")
        raise NotSmallError("it has no results")

    def use(self, element: Any, kind: str | None = None) -> str:
        """An element as it stands in C++, in a type."""
        kind = kind or self.scalar
        if not isinstance(element, str):
            return literal(element, kind)
        return element if self.kinds[element] == kind else f"({kind}){element}"

    def let(self, expression: str, kind: str) -> str:
        """The variable that holds an expression; a new one only if it has not been computed yet."""
        name = self.names.get((expression, kind))
        if name is None:
            name = self.names[expression, kind] = f"v{len(self.names)}"
            self.kinds[name] = kind
            self.lines.append(f"const {kind} {name} = {expression};")
        return name

    def _input(self, number: int, tensor: Tensor) -> Array:
        if number in self.baked:
            return np.array(tensor.numpy(), dtype=object)
        kind = self.input_kind(tensor)
        found = np.empty(tensor.numel(), dtype=object)
        found[:] = [f"in{number}[{i}]" for i in range(tensor.numel())]
        self.kinds.update(dict.fromkeys(found, kind))
        return found.reshape(tuple(tensor.shape))

    def input_kind(self, tensor: Tensor) -> str:
        """The type of an input in C++."""
        if tensor.dtype not in KINDS:
            raise NotSmallError(f"it reads {tensor.dtype}")
        return KINDS[tensor.dtype]

    def _node(self, node: fx.Node) -> Any:
        if node.target is operator.getitem:
            return self.values[node.args[0]][node.args[1]]  # type: ignore[index]
        name = node.target.__name__.partition(".")[0] if hasattr(node.target, "__name__") else str(node.target)
        args = fx.node.map_arg(node.args, self.values.__getitem__)
        kwargs = fx.node.map_arg(node.kwargs, self.values.__getitem__)
        if name in SAME:
            return args[0]
        if name in CHECKS:
            return None
        if name in self.views:
            return self._viewed(node, self.views[name](*args, **kwargs))
        if name not in PLAIN and name not in self.written:
            raise UnknownOperationError(f"{name} is not known in scalars")
        kind = self._kind(node)
        if name in PLAIN and not kwargs:
            operands = self._operands(node, name, kind)
            whole = operands not in FLOATING and name in OF_WHOLE
            template = OF_WHOLE[name] if whole else "!{0}" if (name, kind) == ("bitwise_not", "bool") else PLAIN[name]
            return self.each(template, [*args, *_defaults(node)], operands, kind)
        if name in self.written:
            return self.conform(self.written[name](self, node, kind, *args, **kwargs), kind)
        raise UnknownOperationError(f"{name} is not known in scalars")

    def _kind(self, node: fx.Node) -> str:
        value = node.meta.get("val")
        if not isinstance(value, Tensor):
            raise NotSmallError(f"{node.target} gives more than one tensor")
        if value.dtype not in KINDS:
            raise NotSmallError(f"it computes with {value.dtype}")
        return KINDS[value.dtype]

    def _operands(self, node: fx.Node, name: str, kind: str) -> str | tuple[str, ...]:
        """The types in which an operation works, by torch's rules of promotion."""
        if name == "where":
            return "bool", kind, kind
        if name == "masked_fill":
            return kind, "bool", kind
        if name not in COMPARING:
            return kind
        found: Any = fx.node.map_arg(node.args, lambda one: one.meta["val"])
        dtype = found[0].dtype if len(found) == 1 else torch.result_type(*found)
        if dtype not in KINDS:
            raise NotSmallError(f"it compares {dtype}")
        return KINDS[dtype]

    def _viewed(self, node: fx.Node, found: Any) -> Any:
        """Views as they are; what puts tensors or numbers of several kinds together brings them to one."""
        value = node.meta.get("val")
        if not isinstance(value, Tensor) or not isinstance(found, np.ndarray):
            return found
        dtypes = {one.meta["val"].dtype for one in node.all_input_nodes if isinstance(one.meta.get("val"), Tensor)}
        rearranges = dtypes == {value.dtype} and "pad" not in str(node.target)
        return found if rearranges else self.conform(found, self._kind(node))

    def conform(self, a: Array, kind: str) -> Array:
        """An array all of whose elements are of one type."""
        found = np.empty(a.shape, dtype=object)
        for index in np.ndindex(a.shape):
            one = a[index]
            if not isinstance(one, str):
                found[index] = as_kind(one, kind)
            else:
                found[index] = one if self.kinds[one] == kind else self.let(f"({kind}){one}", kind)
        return found

    def number(self, value: Any) -> Array:
        """A number as an array."""
        return as_array(value)

    def each(self, template: str, args: Sequence[Any], operands: str | Sequence[str], kind: str) -> Array:
        """An operation on each element of arrays, brought to one shape and to the kinds of operands."""
        arrays = np.broadcast_arrays(*(as_array(one) for one in args))
        kinds = [operands] * len(arrays) if isinstance(operands, str) else operands
        found = np.empty(arrays[0].shape, dtype=object)
        for index in np.ndindex(found.shape):
            shown = [self.use(one[index], wanted) for one, wanted in zip(arrays, kinds, strict=True)]
            found[index] = self.let(template.format(*shown), kind)
        return found

    def zeros(self, shape: Sequence[int]) -> Array:
        """An array of zeros, to be written into."""
        return np.full(tuple(shape), 0, dtype=object)

    def total(self, kind: str, terms: Sequence[Any]) -> Any:
        """The sum of elements, by halves, which loses least."""
        if not terms:
            return 0
        if len(terms) == 1:
            return terms[0]
        half = len(terms) // 2
        left, right = self.total(kind, terms[:half]), self.total(kind, terms[half:])
        return self.let(f"{self.use(left, kind)} + {self.use(right, kind)}", kind)


def _defaults(node: fx.Node) -> list[Any]:
    """The arguments that an operation takes where none are given."""
    schema = getattr(node.target, "_schema", None)
    left = [] if schema is None else schema.arguments[len(node.args) :]
    return [one.default_value for one in left if not one.kwarg_only and one.default_value is not None]
