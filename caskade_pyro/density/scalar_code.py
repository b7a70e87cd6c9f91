"""C code for small densities: every number a variable, every operation a line.

A model of a few hundred numbers, or a simulator that takes many small steps, needs no loops and no fusion: written out in
scalars it compiles without torch's headers, in a fraction of the time, and runs as fast. Tensors are arrays of names of
variables, so views cost nothing, and what is computed twice is one line. Models beyond `MOST_LINES` are for Inductor.
"""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx
from torch._decomp import core_aten_decompositions
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from .decompositions import small_decompositions
from .lowered import Lowered
from .program import Program
from .recorder import INDEXING
from .scalar_operations import CAST, CHECKS, COMPARING, HEADER, PLAIN, SAME, WRITTEN
from .scalar_views import VIEWS, Array, NotSmallError, UnknownOperationError, as_array

__all__ = ["MOST_INPUTS", "Writer", "baked", "simpler", "write_scalars"]

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

    table = {**core_aten_decompositions(), **small_decompositions()}
    try:
        with torch.no_grad(), fake, warnings.catch_warnings(action="ignore"):
            graph = make_fx(run, decomposition_table=table)(*inputs)
    except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
        raise NotSmallError(f"it cannot be written in simpler operations: {error}") from error
    graph.graph.eliminate_dead_code()
    return Program(graph, program.constants, program.point)


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
    kinds = {torch.float32: "float", torch.float64: "double", **CAST}
    read = [number for number in range(len(program.inputs)) if number not in writer.baked]
    arguments = [f"const {kinds[program.inputs[number].dtype]}* in{number}" for number in read]
    arguments += [f"{writer.scalar}* gradient", f"{writer.scalar}* value"]
    results = [f"gradient[{i}] = {writer.use(one)};" for i, one in enumerate(gradient.reshape(-1))]
    results.append(f"*value = {writer.use(value.reshape(-1)[0])};")
    body = "\n    ".join([*writer.lines, *results])
    source = f'{HEADER}\nextern "C" void kernel({", ".join(arguments)}) {{\n    {body}\n}}\n'
    sizes = [one.numel() * one.element_size() for one in program.inputs]
    first = len(sizes)
    width = program.point.element_size()
    call = (*((number, 0) for number in read), (first, 0), (first + 1, 0))
    return Lowered(
        (source,), (*sizes, program.point.numel() * width, width), ((0, call),), (first, 0), (first + 1, 0), FLAGS
    )


FLAGS = ("-O1", "-ffp-contract=off")
"""No loops are in it that more would speed up."""


class Writer:
    """Writes the nodes of a graph as lines of C++, one after the other."""

    views: Mapping[str, Callable[..., Any]] = VIEWS
    written: Mapping[str, Callable[..., Any]] = WRITTEN

    def __init__(self, program: Program) -> None:
        self.program = program
        self.scalar = {torch.float32: "float", torch.float64: "double"}[program.point.dtype]
        self.lines: list[str] = []
        self.names: dict[tuple[str, str], str] = {}
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
        """An element as it stands in C++."""
        if isinstance(element, str):
            return element
        kind = kind or self.scalar
        if isinstance(element, (bool, np.bool_)):
            return "true" if element else "false"
        number = float(element)
        if math.isnan(number) or math.isinf(number):
            shown = "NAN" if math.isnan(number) else "-INFINITY" if number < 0 else "INFINITY"
            return f"({kind})({shown})"
        shown = repr(int(element) if isinstance(element, (int, np.integer)) else number)
        return f"({kind})({shown})"

    def let(self, expression: str, kind: str) -> str:
        """The variable that holds an expression; a new one only if it has not been computed yet."""
        name = self.names.get((expression, kind))
        if name is None:
            name = self.names[expression, kind] = f"v{len(self.names)}"
            self.lines.append(f"const {kind} {name} = {expression};")
        return name

    def _input(self, number: int, tensor: Tensor) -> Array:
        if number in self.baked:
            return np.array(tensor.numpy(), dtype=object)
        wider = f"({self.scalar})" if self._is_narrow(tensor) else ""
        found = np.empty(tensor.numel(), dtype=object)
        found[:] = [f"{wider}in{number}[{i}]" for i in range(tensor.numel())]
        return found.reshape(tuple(tensor.shape))

    def _is_narrow(self, tensor: Tensor) -> bool:
        """Whether a tensor is in single precision and the vector in double.

        Raises:
            NotSmallError: It is the other way round.
        """
        if tensor.dtype in CAST or tensor.dtype == self.program.point.dtype:
            return False
        if tensor.dtype != torch.float32 or self.scalar != "double":
            raise NotSmallError("it mixes single and double precision")
        return True

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
            return self.views[name](*args, **kwargs)
        if name not in PLAIN and name not in self.written:
            raise UnknownOperationError(f"{name} is not known in scalars")
        kind = self._kind(node)
        if name in PLAIN and not kwargs:
            operands = kind if name not in COMPARING else self._operands(node)
            return self.each(PLAIN[name], [*args, *_defaults(node)], operands, kind)
        if name in self.written:
            return self.written[name](self, node, kind, *args, **kwargs)
        raise UnknownOperationError(f"{name} is not known in scalars")

    def _kind(self, node: fx.Node) -> str:
        value = node.meta.get("val")
        if not isinstance(value, Tensor):
            raise NotSmallError(f"{node.target} gives more than one tensor")
        if not value.is_floating_point():
            return CAST[value.dtype]
        self._is_narrow(value)  # what torch would round to single precision stays as it is
        return self.scalar

    def _operands(self, node: fx.Node) -> str:
        """The type in which a comparison is made."""
        tensors = [one.meta["val"] for one in node.all_input_nodes]
        return self.scalar if any(one.is_floating_point() for one in tensors) else "int64_t"

    def each(self, template: str, args: Sequence[Any], operands: str, kind: str) -> Array:
        """An operation on each element of arrays, brought to one shape."""
        arrays = np.broadcast_arrays(*(as_array(one) for one in args))
        found = np.empty(arrays[0].shape, dtype=object)
        for index in np.ndindex(found.shape):
            shown = [self.use(one[index], operands) for one in arrays]
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
