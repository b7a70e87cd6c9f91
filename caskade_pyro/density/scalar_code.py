"""C code for small densities: every number a variable, every operation a line.

A model of a few hundred numbers, or a simulator that takes many small steps, needs no loops and no fusion: written out in
scalars it compiles without torch's headers, in a fraction of the time, and runs as fast. Tensors are arrays of names of
variables, so views cost nothing, and what is computed twice is one line. Models beyond `MOST_LINES` are for Inductor.
"""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx
from torch._decomp import core_aten_decompositions
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from .decompositions import small_decompositions
from .lowered import Lowered
from .program import INDEXING, Program
from .scalar_views import VIEWS, Array, NotSmallError, UnknownOperationError, as_array, numbers

__all__ = ["MOST_INPUTS", "baked", "write_scalars"]

MOST_INPUTS = 2_000
"""The most numbers that a density may read to be written out."""

FEW_LINES, MOST_LINES = 10_000, 40_000
"""The most lines of a density that is written out: where its tensors are large, and where its operations are many."""


def baked(program: Program) -> dict[int, Tensor]:
    """The inputs whose values are part of the code, by number: those that say what is looked up where."""
    if not _is_small(program):
        return {}
    nodes = [node for node in program.graph.graph.nodes if node.op == "placeholder"]
    used = {index for node in program.graph.graph.nodes if node.target in INDEXING for index in node.args[1]}
    return {number: program.inputs[number] for number, node in enumerate(nodes) if node in used}


def _simpler(program: Program) -> Program:
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
        writer = Writer(_simpler(program))
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
        (source,), (*sizes, program.point.numel() * width, width), ((0, call),), (first, 0), (first + 1, 0), False
    )


HEADER = """
#include <cmath>
#include <cstdint>
template <typename T> static inline T sign_of(T x) { return T((x > 0) - (x < 0)); }
template <typename T> static inline T larger(T a, T b) { return a != a ? a : (a > b ? a : (b != b ? b : b)); }
template <typename T> static inline T smaller(T a, T b) { return a != a ? a : (a < b ? a : (b != b ? b : b)); }
template <typename T> static inline T softplus(T x, T beta, T bound) {
    return x * beta > bound ? x : std::log1p(std::exp(x * beta)) / beta;
}
template <typename T> static inline T softplus_slope(T g, T x, T beta, T bound) {
    const T e = std::exp(x * beta);
    return x * beta > bound ? g : g * e / (e + 1);
}
"""

PLAIN = {
    "neg": "-{0}", "exp": "std::exp({0})", "log": "std::log({0})", "log1p": "std::log1p({0})",
    "expm1": "std::expm1({0})", "sqrt": "std::sqrt({0})", "rsqrt": "(1 / std::sqrt({0}))",
    "sin": "std::sin({0})", "cos": "std::cos({0})", "tan": "std::tan({0})", "tanh": "std::tanh({0})",
    "atan": "std::atan({0})", "asin": "std::asin({0})", "acos": "std::acos({0})", "sinh": "std::sinh({0})",
    "cosh": "std::cosh({0})", "erf": "std::erf({0})", "erfc": "std::erfc({0})", "lgamma": "std::lgamma({0})",
    "abs": "std::fabs({0})", "sign": "sign_of({0})", "sgn": "sign_of({0})", "reciprocal": "(1 / {0})",
    "sigmoid": "(1 / (1 + std::exp(-{0})))", "floor": "std::floor({0})", "ceil": "std::ceil({0})",
    "mul": "{0} * {1}", "div": "{0} / {1}", "atan2": "std::atan2({0}, {1})",
    "maximum": "larger({0}, {1})", "minimum": "smaller({0}, {1})",
    "lt": "{0} < {1}", "le": "{0} <= {1}", "gt": "{0} > {1}", "ge": "{0} >= {1}", "eq": "{0} == {1}", "ne": "{0} != {1}",
    "logical_and": "{0} && {1}", "logical_or": "{0} || {1}", "logical_not": "!{0}", "bitwise_not": "!{0}",
    "bitwise_and": "{0} && {1}", "bitwise_or": "{0} || {1}", "isnan": "std::isnan({0})", "isinf": "std::isinf({0})",
    "isfinite": "std::isfinite({0})", "where": "{0} ? {1} : {2}", "masked_fill": "{1} ? {2} : {0}",
    "tanh_backward": "{0} * (1 - {1} * {1})", "sigmoid_backward": "{0} * (1 - {1}) * {1}",
    "softplus_backward": "softplus_slope({0}, {1}, {2}, {3})",
}  # fmt: skip
"""Operations on single numbers, by name, in C++; their arguments are brought to the type of the result or its operands."""

COMPARING = {"lt", "le", "gt", "ge", "eq", "ne", "isnan", "isinf", "isfinite"}
CHECKS = {
    "_linalg_check_errors"
}  # of a factorisation that fails; ours gives NaN, which a sampler takes for a divergence
SAME = {"detach", "alias", "clone", "lift_fresh_copy", "contiguous", "lift_fresh"}
CAST = {torch.bool: "bool", torch.int64: "int64_t", torch.int32: "int32_t", torch.uint8: "uint8_t"}


class Writer:
    """Writes the nodes of a graph as lines of C++, one after the other."""

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
        if tensor.dtype not in CAST and tensor.dtype != self.program.point.dtype:
            raise NotSmallError("it mixes single and double precision")
        found = np.empty(tensor.numel(), dtype=object)
        found[:] = [f"in{number}[{i}]" for i in range(tensor.numel())]
        return found.reshape(tuple(tensor.shape))

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
        if name in VIEWS:
            return VIEWS[name](*args, **kwargs)
        if name not in PLAIN and name not in WRITTEN:
            raise UnknownOperationError(f"{name} is not known in scalars")
        kind = self._kind(node)
        if name in PLAIN and not kwargs:
            return self._each(PLAIN[name], args, kind if name not in COMPARING else self._operands(node), kind)
        if name in WRITTEN:
            return WRITTEN[name](self, node, kind, *args, **kwargs)
        raise UnknownOperationError(f"{name} is not known in scalars")

    def _kind(self, node: fx.Node) -> str:
        value = node.meta.get("val")
        if not isinstance(value, Tensor):
            raise NotSmallError(f"{node.target} gives more than one tensor")
        return self.scalar if value.is_floating_point() else CAST[value.dtype]

    def _operands(self, node: fx.Node) -> str:
        """The type in which a comparison is made."""
        tensors = [one.meta["val"] for one in node.all_input_nodes]
        return self.scalar if any(one.is_floating_point() for one in tensors) else "int64_t"

    def _each(self, template: str, args: Sequence[Any], operands: str, kind: str) -> Array:
        arrays = np.broadcast_arrays(*(as_array(one) for one in args))
        found = np.empty(arrays[0].shape, dtype=object)
        for index in np.ndindex(found.shape):
            shown = [self.use(one[index], operands) for one in arrays]
            found[index] = self.let(template.format(*shown), kind)
        return found

    def add(self, kind: str, a: Any, b: Any) -> Array:
        """The sum of two arrays."""
        return self._each("{0} + {1}", (a, b), kind, kind)

    def total(self, kind: str, terms: Sequence[Any]) -> Any:
        """The sum of elements, by halves, which loses least."""
        if not terms:
            return 0
        if len(terms) == 1:
            return terms[0]
        half = len(terms) // 2
        left, right = self.total(kind, terms[:half]), self.total(kind, terms[half:])
        return self.let(f"{self.use(left, kind)} + {self.use(right, kind)}", kind)


# Operations of more than one line


def _sum(writer: Writer, _: fx.Node, kind: str, a: Array, dims: Any = None, keepdim: bool = False, **__: Any) -> Array:
    axes = sorted({dim % max(a.ndim, 1) for dim in ([dims] if isinstance(dims, int) else dims or range(a.ndim))})
    if a.ndim == 0:
        return a
    kept = [axis for axis in range(a.ndim) if axis not in axes]
    rows = a.transpose([*kept, *axes]).reshape([a.shape[axis] for axis in kept] + [-1])
    found = np.empty(rows.shape[:-1], dtype=object)
    for index in np.ndindex(found.shape):
        found[index] = writer.total(kind, list(rows[index]))
    return found.reshape([1 if axis in axes else s for axis, s in enumerate(a.shape)]) if keepdim else found


def _plus(writer: Writer, _: fx.Node, kind: str, a: Any, b: Any, alpha: Any = 1) -> Array:
    if alpha == 1:
        return writer.add(kind, a, b)
    return writer.add(kind, a, writer._each("{0} * {1}", (b, alpha), kind, kind))


def _minus(writer: Writer, _: fx.Node, kind: str, a: Any, b: Any, alpha: Any = 1) -> Array:
    scaled = b if alpha == 1 else writer._each("{0} * {1}", (b, alpha), kind, kind)
    return writer._each("{0} - {1}", (a, scaled), kind, kind)


def _power(writer: Writer, _: fx.Node, kind: str, a: Any, b: Any) -> Array:
    known = {0: "{1}", 1: "{0}", 2: "{0} * {0}", 3: "{0} * {0} * {0}", 0.5: "std::sqrt({0})", -1: "1 / {0}"}
    if not isinstance(b, np.ndarray) and b in known:
        one = 1 if b == 0 else 0
        return writer._each(known[b], (a, one), kind, kind)
    return writer._each("std::pow({0}, {1})", (a, b), kind, kind)


def _clamp(writer: Writer, _: fx.Node, kind: str, a: Any, low: Any = None, high: Any = None) -> Array:
    found = a if low is None else writer._each("{0} < {1} ? {1} : {0}", (a, low), kind, kind)
    return found if high is None else writer._each("{0} > {1} ? {1} : {0}", (found, high), kind, kind)


def _softplus(writer: Writer, _: fx.Node, kind: str, a: Array, beta: float = 1, threshold: float = 20) -> Array:
    return writer._each("softplus({0}, {1}, {2})", (a, beta, threshold), kind, kind)


def _copy(writer: Writer, node: fx.Node, kind: str, a: Array, **_: Any) -> Array:
    before = node.all_input_nodes[0].meta["val"].dtype
    if node.meta["val"].dtype == before:
        return a
    return writer._each(f"({kind}){{0}}", (a,), kind, kind)


def _scatter(shape: Sequence[int], at: Any, values: Array) -> Array:
    found = np.full(tuple(shape), 0, dtype=object)
    found[at] = values
    return found


def _replaced(a: Array, at: Any, values: Any) -> Array:
    found = a.copy()
    found[at] = values
    return found


def _diagonal_scatter(
    _: Writer, __: fx.Node, ___: str, a: Array, b: Array, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> Array:
    places = np.diagonal(np.arange(a.size).reshape(a.shape), offset, dim1, dim2)
    flat = a.reshape(-1).copy()
    flat[places.reshape(-1)] = b.reshape(-1)
    return flat.reshape(a.shape)


def _select_backward(_: Writer, __: fx.Node, ___: str, g: Array, sizes: Sequence[int], dim: int, index: int) -> Array:
    at = (slice(None),) * (dim % len(sizes)) + (index,)
    return _scatter(sizes, at, g if len(sizes) > 1 else g[()])


def _slice_backward(
    _: Writer, __: fx.Node, ___: str, g: Array, sizes: Sequence[int], dim: int, start: int, end: int, step: int
) -> Array:
    return _scatter(sizes, (slice(None),) * (dim % len(sizes)) + (slice(start, min(end, sizes[dim]), step),), g)


def _index_put(
    writer: Writer, _: fx.Node, kind: str, a: Array, indices: Sequence[Any], values: Array, accumulate: bool = False
) -> Array:
    found = a.copy()
    places = np.arange(a.size).reshape(a.shape)[numbers(indices)]
    flat, given = found.reshape(-1), np.broadcast_to(values, places.shape).reshape(-1)
    for place, value in zip(places.reshape(-1), given, strict=True):
        old = flat[place]
        kept = accumulate and not (isinstance(old, (int, float)) and old == 0)
        flat[place] = writer.let(f"{writer.use(old, kind)} + {writer.use(value, kind)}", kind) if kept else value
    return flat.reshape(a.shape)


def _mean(
    writer: Writer, node: fx.Node, kind: str, a: Array, dims: Any = None, keepdim: bool = False, **_: Any
) -> Array:
    total = _sum(writer, node, kind, a, dims, keepdim)
    return writer._each("{0} / {1}", (total, a.size // max(total.size, 1)), kind, kind)


def _prod(
    writer: Writer, _: fx.Node, kind: str, a: Array, dim: int | None = None, keepdim: bool = False, **__: Any
) -> Array:
    rows = a.reshape(1, -1) if dim is None else np.moveaxis(a, dim, -1)
    found = rows[..., 0]
    for index in range(1, rows.shape[-1]):
        found = writer._each("{0} * {1}", (found, rows[..., index]), kind, kind)
    return found.reshape(()) if dim is None else np.expand_dims(found, dim) if keepdim else found


WRITTEN: dict[str, Callable[..., Any]] = {
    "prod": _prod,
    "sum": _sum,
    "mean": _mean,
    "add": _plus,
    "sub": _minus,
    "rsub": lambda writer, node, kind, a, b, alpha=1: _minus(writer, node, kind, b, a, alpha),
    "pow": _power,
    "softplus": _softplus,
    "slice_scatter": lambda _, __, ___, a, b, dim=0, start=None, end=None, step=1: _replaced(
        a, (slice(None),) * (dim % a.ndim) + (slice(start, None if end is None else min(end, a.shape[dim]), step),), b
    ),
    "select_scatter": lambda _, __, ___, a, b, dim, index: _replaced(
        a, (slice(None),) * (dim % a.ndim) + (index,), b if b.ndim else b[()]
    ),
    "diagonal_scatter": _diagonal_scatter,
    "clamp": _clamp,
    "clamp_min": _clamp,
    "_to_copy": _copy,
    "select_backward": _select_backward,
    "slice_backward": _slice_backward,
    "index_put": _index_put,
}
