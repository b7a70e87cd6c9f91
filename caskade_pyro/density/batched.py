"""A density at many vectors in one call.

Compiled for the processor, it runs over the rows without Python between them, which needs the memory of one row. In every
other form its graph is mapped over the rows: by ``torch.vmap`` as it is, or, for a sampler that calls it thousands of times,
written down once for a fixed number of rows, and compiled on devices that are not the processor.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from ..compiler import Native, NotFactorisedError, Program
from .closeness import close, first_line

__all__ = ["Batched", "FixedRows", "Looped", "NativeRows", "Vmapped", "map_disagreement"]

ValuesAndGradients = tuple[Tensor, Tensor]


class Batched(Protocol):
    """A density at many vectors."""

    by_row: bool
    """Whether the cost grows with the number of rows, so that leaving rows out saves time."""

    def run(self, z: Tensor) -> ValuesAndGradients:
        """The values ``(n,)`` and the gradients ``(n, dim)`` at ``(n, dim)``."""


class Looped:
    """One row after the other."""

    by_row = True

    def __init__(self, of_one: Callable[[Tensor], ValuesAndGradients]) -> None:
        self.of_one = of_one

    def run(self, z: Tensor) -> ValuesAndGradients:
        """The values and the gradients at the rows."""
        if len(z) == 0:
            return z.new_zeros(0), torch.zeros_like(z)
        values, gradients = zip(*(self.of_one(row) for row in z), strict=True)
        return torch.stack(values), torch.stack(gradients)


class NativeRows:
    """Compiled code that runs over the rows by itself."""

    by_row = True

    def __init__(self, native: Native) -> None:
        self.native = native

    def run(self, z: Tensor) -> ValuesAndGradients:
        """The values and the gradients at the rows."""
        return self.native.run_rows(z)


class Vmapped:
    """A traced density, mapped over rows at each call.

    Args:
        program: The traced density.
        chunk_size: How many rows at once, which bounds the memory; all by default.
    """

    by_row = False

    def __init__(self, program: Program, chunk_size: int | None = None) -> None:
        self.program, self.constants = program, program.constants
        self.mapped = _mapped(program, chunk_size)

    def run(self, z: Tensor) -> ValuesAndGradients:
        """The values and the gradients at the rows."""
        if len(z) == 0:
            return z.new_zeros(0), torch.zeros_like(z)
        # What has no rule for many runs one by one inside, which costs time and not correctness.
        with torch.no_grad(), warnings.catch_warnings(action="ignore"):
            try:
                gradients, values = self.mapped(z, *self.constants)
            except NotFactorisedError:  # at one of them, which spoils the batch
                return Looped(self.program.run).run(z)
        return values, gradients


class FixedRows:
    """A traced density, mapped once and for all over a fixed number of rows.

    Args:
        program: The traced density.
        rows: How many at once; a call with more runs in chunks, and the last one is filled up.
        compiled: Whether torch's compiler makes code of it; where it fails, the graph runs as it is.
    """

    by_row = False

    def __init__(self, program: Program, rows: int, compiled: bool = False) -> None:
        self.program, self.rows, self.constants = program, rows, program.constants
        example = program.point.expand(rows, -1).contiguous()
        with torch.no_grad(), warnings.catch_warnings(action="ignore"):
            graph = make_fx(torch.func.functionalize(_mapped(program)))(example, *program.constants)
        graph.graph.eliminate_dead_code()
        graph.recompile()
        self.graph = _compiled(graph, example, program.constants) if compiled else graph

    def run(self, z: Tensor) -> ValuesAndGradients:
        """The values and the gradients at the rows."""
        if len(z) == 0:
            return z.new_zeros(0), torch.zeros_like(z)
        parts = [self._run_chunk(part) for part in z.split(self.rows)]
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])

    def _run_chunk(self, z: Tensor) -> ValuesAndGradients:
        count = len(z)
        if count < self.rows:
            z = torch.cat([z, z[:1].expand(self.rows - count, -1)])
        with torch.no_grad():
            try:
                gradients, values = self.graph(z.contiguous(), *self.constants)
            except NotFactorisedError:  # at one of them, which spoils the batch
                values, gradients = Looped(self.program.run).run(z)
        return values[:count], gradients[:count]


def _compiled(graph: fx.GraphModule, example: Tensor, constants: tuple[Tensor, ...]) -> Callable[..., Any]:
    code: Callable[..., Any] = torch.compile(graph, dynamic=False)
    try:
        with torch.no_grad(), warnings.catch_warnings(action="ignore"):
            code(example, *constants)
    except (RuntimeError, NotImplementedError, TypeError, ValueError):  # what torch raises where its compiler fails
        return graph
    return code


def map_disagreement(program: Program, points: Tensor) -> str | None:
    """Why a traced density cannot be mapped over rows, in one line; None if it can.

    Args:
        program: The traced density.
        points: Where to compare it with itself, ``(n, dim)``.
    """
    try:
        together = Vmapped(program).run(points)
    except (RuntimeError, NotImplementedError, TypeError, ValueError, IndexError) as error:
        # What torch raises where an operation has no form for many.
        return f"it cannot be mapped over rows: {first_line(error)}"
    with torch.no_grad():
        alone = Looped(program.run).run(points)
    if all(close(a, b) for a, b in zip(together, alone, strict=True)):
        return None
    return "its value at one of many vectors differs from that at the vector alone"


def _mapped(program: Program, chunk_size: int | None = None) -> Callable[..., Any]:
    def of_one(*inputs: Tensor) -> Any:
        return program.graph(*inputs)

    return torch.vmap(of_one, in_dims=(0, *(None for _ in program.constants)), chunk_size=chunk_size)
