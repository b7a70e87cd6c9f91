"""The traced form of a density: one graph of tensor operations for value and gradient, and the tensors that it reads.

Tracing runs the Pyro model once, through all its effect handlers, and keeps the tensor operations. What they compute from
constants alone is computed at once. Constant tensors, the data above all, become inputs, so that the same model with other
data of the same shapes is the same graph.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.passes.dialect.common.cse_pass import CSEPass

__all__ = ["INDEXING", "Program", "trace_program"]

aten = torch.ops.aten

ZEROS = (aten.zeros_like.default, aten.new_zeros.default)
ONES = (aten.ones_like.default, aten.new_ones.default)
INDEXING = (aten.index.Tensor, aten.index_put.default, aten._unsafe_index.Tensor, aten._unsafe_index_put.default)

FILLED = {aten.full_like.default: 1, aten.new_full.default: 2}
"""Operations whose result depends on the shape of their input alone; of the last, which argument they fill it with."""


@dataclass(frozen=True)
class Program:
    """Value and gradient of a density as a graph.

    Attributes:
        graph: From the flat vector and the constants, ``(gradient, value)``.
        constants: The tensors that the graph reads beside the vector.
        point: A vector to run it at.
    """

    graph: fx.GraphModule
    constants: tuple[Tensor, ...]
    point: Tensor

    def run(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The value and the gradient at a vector."""
        gradient, value = self.graph(z, *self.constants)
        return value, gradient

    def key(self) -> str:
        """A hash of the graph and of the kinds of its inputs, but not of what is in them."""
        inputs = [(tuple(one.shape), one.stride(), str(one.dtype), str(one.device)) for one in self.inputs]
        return hashlib.sha256(f"{self.graph.code}{inputs}".encode()).hexdigest()

    @property
    def inputs(self) -> list[Tensor]:
        """All that the graph takes."""
        return [self.point, *self.constants]


def trace_program(log_density: Callable[[Tensor], Tensor], point: Tensor) -> Program:
    """Trace the value and gradient of a density.

    Args:
        log_density: From a flat vector to a scalar.
        point: A vector of its domain.

    Raises:
        RuntimeError: Or one of `NotImplementedError`, `TypeError`, `ValueError`: the density branches on a value, or holds
            what is no tensor operation.
    """

    def of_vector(z: Tensor) -> Tensor:  # the tracer counts the arguments of a method wrongly
        return log_density(z)

    try:
        graph = make_fx(torch.func.functionalize(torch.func.grad_and_value(of_vector)))(point)
    except RuntimeError:
        # Functions with a backward pass of their own, as Pyro's sums over discrete sites have, need the older autograd.
        plain = make_fx(_by_autograd(log_density))(point)
        graph = make_fx(torch.func.functionalize(plain))(point)
    for node in graph.graph.nodes:
        if node.target == aten.view.default:  # which an operation written out in another memory layout would break
            node.target = aten.reshape.default
    _fill_by_mask(graph)
    graph.graph.eliminate_dead_code()
    constants = _lift_constants(graph)
    graph.recompile()
    reduced = CSEPass()(graph)
    graph = graph if reduced is None else reduced.graph_module
    graph.graph.lint()
    graph.recompile()
    return Program(graph, constants, point)


def _fill_by_mask(graph: fx.GraphModule) -> None:
    """One number put where a mask is true becomes a choice for each entry, which has a form for many vectors."""
    for node in list(graph.graph.nodes):
        if node.target != aten.index_put.default or (len(node.args) > 3 and node.args[3]):
            continue
        filled, indices, number = node.args[:3]
        if len(indices) != 1 or indices[0] is None:
            continue
        mask, before, value = (one.meta.get("val") for one in (indices[0], filled, number))
        tensors = all(isinstance(one, Tensor) for one in (mask, before, value))
        if not tensors or mask.dtype != torch.bool or mask.shape != before.shape or value.ndim > 0:
            continue
        with graph.graph.inserting_before(node):
            chosen = graph.graph.call_function(aten.where.self, (indices[0], number, filled))
        chosen.meta = dict(node.meta)
        node.replace_all_uses_with(chosen)
        graph.graph.erase_node(node)


def _by_autograd(log_density: Callable[[Tensor], Tensor]) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """The gradient and value of a density, in the order of ``torch.func.grad_and_value``."""

    def gradient_and_value(z: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            leaf = z.detach().requires_grad_()
            value = log_density(leaf)
            (gradient,) = torch.autograd.grad(value, leaf)
        return gradient.detach(), value.detach()

    return gradient_and_value


def _lift_constants(graph: fx.GraphModule) -> tuple[Tensor, ...]:
    """Compute what depends on constants alone, and make the results that are left inputs of the graph."""
    _fill(graph)
    known = _fold(graph)
    _index_by_numbers(graph, known)
    from_data = _from_data(known)
    last = next(node for node in graph.graph.nodes if node.op == "placeholder")
    constants: list[Tensor] = []
    inputs: list[fx.Node] = []
    for node, value in known.items():
        if all(user in known for user in node.users):
            continue
        if node not in from_data and _uniform(value):
            replacement = _full(graph, node, value)
        else:
            same = next((i for i, other in enumerate(constants) if _identical(other, value)), None)
            if same is None:
                with graph.graph.inserting_after(last):
                    last = graph.graph.placeholder(f"constant_{len(constants)}")
                last.meta = dict(node.meta)
                constants.append(value)
                inputs.append(last)
                same = len(constants) - 1
            replacement = inputs[same]
        node.replace_all_uses_with(replacement, delete_user_cb=lambda user: user not in known)
    for node in reversed(list(known)):
        if not node.users:
            graph.graph.erase_node(node)
    return tuple(constants)


def _fill(graph: fx.GraphModule) -> None:
    """Constant fills no longer wait for the tensor whose shape they take."""
    for node in graph.graph.nodes:
        number = _filled_with(node)
        if number is not None and "val" in node.meta:
            like = node.meta["val"]
            with graph.graph.inserting_before(node):
                filled = graph.graph.call_function(
                    aten.full.default, (list(like.shape), number), {"dtype": like.dtype, "device": like.device}
                )
            filled.meta = dict(node.meta)
            node.replace_all_uses_with(filled)
            graph.graph.erase_node(node)


def _filled_with(node: fx.Node) -> Any:
    if node.target in ZEROS:
        return 0
    if node.target in ONES:
        return 1
    return node.args[FILLED[node.target]] if node.target in FILLED else None


def _fold(graph: fx.GraphModule) -> dict[fx.Node, Tensor]:
    """The values of the nodes that depend on constants alone."""
    known: dict[fx.Node, Tensor] = {}
    for node in graph.graph.nodes:
        if node.op == "get_attr":
            known[node] = getattr(graph, node.target).detach()
        elif _is_pure(node) and all(one in known for one in node.all_input_nodes):
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda one: known[one])
            result = node.target(*args, **kwargs)
            if isinstance(result, Tensor):
                known[node] = result
    # Dense in memory, so that views of the same data are seen to be the same.
    return {node: value.contiguous() for node, value in known.items()}


def _index_by_numbers(graph: fx.GraphModule, known: dict[fx.Node, Tensor]) -> None:
    """Constant masks among indices become the numbers of what they choose, since a mask has an unknown number of them."""
    for node in list(graph.graph.nodes):
        if node.target not in INDEXING or node in known:
            continue
        indices: list[Any] = []
        for index in node.args[1]:
            value = known.get(index)
            if value is None or value.dtype != torch.bool:
                indices.append(index)
                continue
            for dim, numbers in enumerate(value.nonzero(as_tuple=True)):
                name = f"{index.name}_numbers_{dim}"
                graph.register_buffer(name, numbers)
                with graph.graph.inserting_before(node):
                    indices.append(graph.graph.get_attr(name))
                known[indices[-1]] = numbers
        node.args = (node.args[0], indices, *node.args[2:])


def _is_pure(node: fx.Node) -> bool:
    """Whether a node gives the same result each time."""
    tags = getattr(node.target, "tags", ())
    return node.op == "call_function" and torch.Tag.nondeterministic_seeded not in tags


def _from_data(known: dict[fx.Node, Tensor]) -> set[fx.Node]:
    """Those that depend on tensors of the model, and not on the structure of the graph alone."""
    found: set[fx.Node] = set()
    for node in known:
        if node.op == "get_attr" or any(one in found for one in node.all_input_nodes):
            found.add(node)
    return found


def _uniform(value: Tensor) -> bool:
    return value.numel() > 0 and bool((value == value.reshape(-1)[0]).all())


def _full(graph: fx.GraphModule, node: fx.Node, value: Tensor) -> fx.Node:
    with graph.graph.inserting_before(node):
        filled = graph.graph.call_function(
            aten.full.default,
            (list(value.shape), value.reshape(-1)[0].item()),
            {"dtype": value.dtype, "device": value.device},
        )
    filled.meta = dict(node.meta)
    return filled


def _identical(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.device == b.device and bool(torch.equal(a, b))
