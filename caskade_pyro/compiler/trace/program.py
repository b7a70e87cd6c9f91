"""The traced form of a density: one graph of tensor operations for value and gradient, and the tensors that it reads.

Tracing runs the Pyro model once, through all its effect handlers, and keeps the tensor operations that depend on the vector.
Constant tensors, the data above all, become inputs, so that the same model with other data of the same shapes is the same
graph.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from ..failures import or_impossible
from ..torch_internals import make_fx
from .constants import Constants
from .recorder import UntraceableError, depends_on_argument, record

__all__ = ["Program", "trace_program"]


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
        return or_impossible(self._run, z)

    def _run(self, z: Tensor) -> tuple[Tensor, Tensor]:
        gradient, value = self.graph(z, *self.constants)
        return value, gradient

    def key(self) -> str:
        """A hash of the graph and of the kinds of its inputs, but not of what is in them."""
        inputs = [(tuple(one.shape), one.stride(), str(one.dtype), str(one.device)) for one in self.inputs]
        return hashlib.sha256(f"{self.graph.code}{inputs}".encode()).hexdigest()

    @property
    def single(self) -> bool:
        """Whether something is computed in single precision."""
        values = (node.meta.get("val") for node in self.graph.graph.nodes if node.op == "call_function")
        return any(isinstance(value, Tensor) and value.dtype == torch.float32 for value in values)

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
        with Constants(depends_on_argument):
            return log_density(z)

    try:
        return Program(*record(torch.func.functionalize(torch.func.grad_and_value(of_vector)), point), point)
    except UntraceableError:
        raise
    except RuntimeError:
        # Functions with a backward pass of their own, as Pyro's sums over discrete sites have, need the older autograd.
        older = _by_autograd(log_density)
    try:
        plain = make_fx(older)(point)
    except RuntimeError as error:
        if "tracing tensor" not in str(error):
            raise
        because = "a number is taken out of a tensor, which cannot be followed where discrete params are summed out"
        raise UntraceableError(because).with_traceback(error.__traceback__) from error
    return Program(*record(torch.func.functionalize(plain), point), point)


def _by_autograd(log_density: Callable[[Tensor], Tensor]) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """The gradient and value of a density, in the order of ``torch.func.grad_and_value``."""

    def gradient_and_value(z: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            leaf = z.detach().requires_grad_()
            value = log_density(leaf)
            (gradient,) = torch.autograd.grad(value, leaf)
        return gradient.detach(), value.detach()

    return gradient_and_value
