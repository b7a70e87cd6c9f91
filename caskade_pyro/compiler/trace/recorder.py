"""Writes down the tensor operations of a function while it runs.

Only what depends on the function's argument is written: everything else is known when it is met, and is a constant. An
operation that was met before with the same operands is not written again. torch's own tracer, `make_fx`, writes all, with a
stack trace for each operation, and takes many times as long.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from ..torch_internals import TorchDispatchMode
from .constants import tensors_in
from .lookups import as_indexing

__all__ = ["INDEXING", "UntraceableError", "depends_on_argument", "record"]

aten = torch.ops.aten

INDEXING = (aten.index.Tensor, aten.index_put.default, aten._unsafe_index.Tensor, aten._unsafe_index_put.default)
PUTTING = (aten.index_put.default, aten._unsafe_index_put.default)
SAME = (aten.detach.default, aten.alias.default, aten.lift_fresh.default)
FILLING = (
    aten.zeros_like.default,
    aten.ones_like.default,
    aten.full_like.default,
    aten.empty_like.default,
    aten.new_zeros.default,
    aten.new_ones.default,
    aten.new_full.default,
    aten.new_empty.default,
    aten.new_empty_strided.default,
)
"""Operations that take the shape of a tensor, but nothing of what is in it."""

LARGEST: dict[Any, Any] = {aten.max.dim: aten.amax.default, aten.min.dim: aten.amin.default}

STRUCTURE = object()
"""Marks tensors that come from no tensor of the model: the same for all data of the same shapes."""


class UntraceableError(RuntimeError):
    """The function does what is no fixed sequence of tensor operations."""


def record(function: Callable[[Tensor], Sequence[Tensor]], point: Tensor) -> tuple[fx.GraphModule, tuple[Tensor, ...]]:
    """The operations of a function at a point.

    Args:
        function: From a tensor to tensors. It writes into no tensor.
        point: Its argument.

    Returns:
        A graph of the argument and of constants, which returns what the function does, and the constants.

    Raises:
        UntraceableError: It asks for the value of a tensor that depends on its argument.
    """
    recorder = Recorder()
    argument = point.detach().clone()
    recorder.mark(argument, recorder.argument)
    recorder.argument.meta["val"] = _described(argument)
    with recorder:
        results = function(argument)
    return recorder.finished(results)


class Recorder(TorchDispatchMode):
    """Sees each operation below automatic differentiation and vectorisation, and writes it down."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no annotation there
        self.graph = fx.Graph()
        self.argument = self.last_input = self.graph.placeholder("z")
        self.constants: dict[fx.Node, Tensor] = {}
        self.of_tensor: dict[int, fx.Node] = {}
        self.known: dict[Any, fx.Node] = {}
        self.kept: list[Tensor] = []  # so that no other tensor gets the identity of one that is known

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and write it down if it depends on the argument."""
        kwargs = kwargs or {}
        if func._can_decompose():
            with self:
                found = func.decompose(*args, **kwargs)
            if found is not NotImplemented:
                return found
        tensors = list(tensors_in((args, kwargs)))
        if any(self._node(one) is not None for one in tensors) and func not in FILLING:
            _check(func, args, self)
            result = func(*args, **kwargs)
            if func in SAME:
                self.mark(result, self._node(args[0]))
            else:
                self._write(func, args, kwargs, result)
            return result
        result = func(*args, **kwargs)
        if func in FILLING or all(_mark(one) is STRUCTURE for one in tensors):
            for one in tensors_in(result):
                _set_mark(one, STRUCTURE)
        return result

    def mark(self, tensor: Tensor, node: fx.Node | None) -> None:
        """A tensor is what a node gives."""
        _set_mark(tensor, (self, node))

    def finished(self, results: Sequence[Tensor]) -> tuple[fx.GraphModule, tuple[Tensor, ...]]:
        """The graph, without what nothing depends on."""
        self.graph.output(tuple(self._operand(one) for one in results))
        self.graph.eliminate_dead_code()
        for node in list(self.constants):
            if not node.users:
                self.graph.erase_node(node)
                del self.constants[node]
        for node in self.graph.nodes:
            _only_the_largest(node)
        self.graph.lint()
        return fx.GraphModule(torch.nn.Module(), self.graph), tuple(self.constants.values())

    def _node(self, tensor: Tensor) -> fx.Node | None:
        mark = _mark(tensor)
        return mark[1] if isinstance(mark, tuple) and mark[0] is self else None

    def _write(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        """A new node, or the one of the same operation before."""
        func, args = as_indexing(func, args, kwargs, lambda one: self._node(one) is None) or (func, args)
        if func in INDEXING:
            func, args = self._by_numbers(func, args)
            kwargs = {}
        if func is aten.view.default:  # which an operation written out in another memory layout would break
            func = aten.reshape.default
        args, kwargs = self._operands(args), self._operands(kwargs)
        key = (func, _key(args), _key(kwargs))
        node = None if torch.Tag.nondeterministic_seeded in func.tags else self.known.get(key)
        if node is None:
            node = self.known[key] = self.graph.call_function(func, args, kwargs)
            node.meta["val"] = _described(result)
        if isinstance(result, Tensor):
            self.mark(result, node)
        elif isinstance(result, (tuple, list)):
            for number, one in enumerate(result):
                if isinstance(one, Tensor):
                    self._part(node, number, one)

    def _part(self, node: fx.Node, number: int, result: Tensor) -> None:
        """One of several results."""
        key = (operator.getitem, node, number)
        part = self.known.get(key)
        if part is None:
            part = self.known[key] = self.graph.call_function(operator.getitem, (node, number))
            part.meta["val"] = _described(result)
        self.mark(result, part)

    def _operands(self, value: Any) -> Any:
        """Arguments with nodes for their tensors."""
        if isinstance(value, Tensor):
            return self._operand(value)
        if isinstance(value, (tuple, list)):
            return type(value)(self._operands(one) for one in value)
        if isinstance(value, dict):
            return {name: self._operands(one) for name, one in value.items()}
        return value

    def _operand(self, tensor: Tensor) -> fx.Node:
        """The node of a tensor; constants are inputs, or written as numbers where data do not enter."""
        node = self._node(tensor) or self.of_tensor.get(id(tensor))
        if node is None:
            number = _number(tensor) if _mark(tensor) is STRUCTURE else None
            node = self._constant(tensor) if number is None else self._filled(tensor, number)
            self.of_tensor[id(tensor)] = node
            self.kept.append(tensor)
        return node

    def _constant(self, tensor: Tensor) -> fx.Node:
        # Dense in memory, so that views of the same data are seen to be the same.
        value = tensor.detach().contiguous()
        for node, other in self.constants.items():
            if _identical(other, value):
                return node
        with self.graph.inserting_after(self.last_input):
            self.last_input = self.graph.placeholder(f"constant_{len(self.constants)}")
        self.last_input.meta["val"] = _described(value)
        self.constants[self.last_input] = value
        return self.last_input

    def _filled(self, tensor: Tensor, number: Any) -> fx.Node:
        key = (aten.full.default, tuple(tensor.shape), _key(number), tensor.dtype, tensor.device)
        if key not in self.known:
            keywords: dict[str, Any] = {"dtype": tensor.dtype, "device": tensor.device}
            self.known[key] = self.graph.call_function(aten.full.default, (list(tensor.shape), number), keywords)
            self.known[key].meta["val"] = _described(tensor)
        return self.known[key]

    def _by_numbers(self, func: Any, args: Any) -> tuple[Any, Any]:
        """Without masks among indices: a mask chooses an unknown number of elements.

        A constant one becomes the numbers of what it chooses; putting one value where another one says is a choice.
        """
        indices: list[Any] = []
        for index in args[1]:
            if index is None or index.dtype != torch.bool:
                indices.append(index)
            elif self._node(index) is None:
                indices.extend(index.nonzero(as_tuple=True))
            else:
                mask = index.reshape(index.shape + (1,) * (args[0].ndim - index.ndim))
                self._write(aten.reshape.default, (index, list(mask.shape)), {}, mask)
                return aten.where.self, (mask, args[2], args[0])
        return func, (args[0], indices, *args[2:])


def _check(func: Any, args: Any, recorder: Recorder) -> None:
    """Operations that depend on the argument have a fixed place in a fixed sequence, and change nothing."""
    if torch.Tag.data_dependent_output in func.tags:
        raise UntraceableError("it branches on the value of a param, or takes it out of its tensor")
    if func._schema.is_mutable:
        raise UntraceableError(f"it writes into a tensor of its own ({func})")
    masks = func in INDEXING and any(
        one is not None and one.dtype == torch.bool and recorder._node(one) is not None for one in args[1]
    )
    if masks and func in PUTTING:
        accumulate = len(args) > 3 and args[3]
        masks = accumulate or args[2].numel() != 1 or args[1][0] is None or len(args[1]) != 1
    if masks or (torch.Tag.dynamic_output_shape in func.tags and func not in INDEXING):
        raise UntraceableError("the shape of a tensor depends on the value of a param")


def _mark(tensor: Tensor) -> Any:
    return getattr(tensor, "_recorded", None)


def depends_on_argument(tensor: Tensor) -> bool:
    """Whether a tensor was computed from the argument of what is recorded."""
    mark = _mark(tensor)
    return isinstance(mark, tuple) and mark[1] is not None


def _set_mark(tensor: Tensor, mark: Any) -> None:
    # The tensor carries it also where only torch's own code holds the tensor for a while.
    tensor._recorded = mark  # type: ignore[attr-defined]


def _described(result: Any) -> Any:
    """A tensor of the same kind that takes no memory."""
    return result.new_empty(()).expand(result.shape) if isinstance(result, Tensor) else None


def _key(value: Any) -> Any:
    """What tells arguments apart: 1, 1.0 and True differ."""
    if isinstance(value, (tuple, list)):
        return tuple(_key(one) for one in value)
    if isinstance(value, dict):
        return tuple((name, _key(one)) for name, one in value.items())
    return (type(value), repr(value)) if isinstance(value, (bool, int, float)) else value


def _number(tensor: Tensor) -> Any:
    """The number that all elements are, if there is one."""
    if tensor.numel() == 0 or not bool((tensor == tensor.reshape(-1)[0]).all()):
        return None
    return tensor.reshape(-1)[0].item()


def _identical(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.device == b.device and bool(torch.equal(a, b))


def _only_the_largest(node: fx.Node) -> None:
    """A maximum whose place nobody asks for is simpler than one with its place."""
    largest = LARGEST.get(node.target)
    if largest is None or any(user.args[1] != 0 for user in node.users):
        return
    node.target = largest
    node.args = (node.args[0], [node.args[1]], *node.args[2:])
    for user in list(node.users):
        node.meta["val"] = user.meta["val"]
        user.replace_all_uses_with(node)
        node.graph.erase_node(user)
