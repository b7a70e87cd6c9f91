"""Small matrix operations, and some others, written out in arithmetic, to become kernels instead of calls of a library.

Hierarchical models meet matrices of a few rows: covariances of a member's params, their Cholesky factors. A library call costs
more than their arithmetic, and breaks the list of kernels that a compiled density is.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Container, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from ..failures import UnknownOperationError
from ..torch_internals import FakeTensorMode, make_fx, simpler_operations
from .program import Program

__all__ = ["SMALL", "simpler", "small_decompositions"]

aten = torch.ops.aten

SMALL = 8
"""The largest matrix, or length of a running sum, that is written out."""

PRODUCTS = 100_000
"""The most multiplications of a product of matrices that are summed in a loop; from there on libraries are faster."""


def simpler(program: Program, known: Container[str]) -> Program:
    """The same program in fewer kinds of operations.

    Args:
        program: The program.
        known: The names of operations that may stay.

    Raises:
        UnknownOperationError: It cannot be said in simpler ones.
    """
    fake = FakeTensorMode()
    inputs = [fake.from_tensor(one) for one in program.inputs]

    def run(*args: Tensor) -> Any:
        return fx.Interpreter(program.graph).run(*args)

    of_torch = simpler_operations()
    unknown = {one: of for one, of in of_torch["all"].items() if one.__name__.partition(".")[0] not in known}
    table = {**unknown, **of_torch["core"], **small_decompositions()}
    try:
        with torch.no_grad(), fake, warnings.catch_warnings(action="ignore"):
            graph = make_fx(run, decomposition_table=table)(*inputs)
    except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
        raise UnknownOperationError(f"it cannot be written in simpler operations: {error}") from error
    graph.graph.eliminate_dead_code()
    return Program(graph, program.constants, program.point)


def small_decompositions() -> dict[Any, Callable[..., Any]]:
    """By operation, what it is in arithmetic; `NotImplemented` for what is not small."""
    return {
        aten.linalg_solve_triangular.default: _solve_triangular,
        aten.linalg_cholesky_ex.default: _cholesky,
        aten.mm.default: _matmul,
        aten.bmm.default: _matmul,
        aten.mv.default: _matrix_vector,
        aten.dot.default: _dot,
        aten.cumsum.default: _cumsum,
        aten.cumprod.default: _cumprod,
        aten.var.correction: _variance,
        aten.max.default: _largest,
        aten.min.default: _smallest,
        aten.roll.default: _roll,
    }


def _solve_triangular(a: Tensor, b: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Any:
    """Substitution, row after row."""
    if a.shape[-1] > SMALL:
        return NotImplemented
    if not left:
        return _solve_triangular(a.mT, b.mT, upper=not upper, unitriangular=unitriangular).mT
    size = a.shape[-1]
    rows: dict[int, Tensor] = {}
    for row in reversed(range(size)) if upper else range(size):
        rest = b[..., row, :]
        for column, solved in rows.items():
            rest = rest - a[..., row, column, None] * solved
        rows[row] = rest if unitriangular else rest / a[..., row, row, None]
    return torch.stack([rows[row] for row in range(size)], dim=-2)


def _cholesky(a: Tensor, *, upper: bool = False, check_errors: bool = False) -> Any:
    """The factor, column after column; what is not positive definite gives NaN."""
    if a.shape[-1] > SMALL or check_errors:
        return NotImplemented
    size = a.shape[-1]
    zero = torch.zeros_like(a[..., 0, 0])
    factor: list[list[Tensor]] = [[zero] * size for _ in range(size)]
    for column in range(size):
        for row in range(column, size):
            rest = a[..., row, column]
            for before in range(column):
                rest = rest - factor[row][before] * factor[column][before]
            factor[row][column] = rest.sqrt() if row == column else rest / factor[column][column]
    found = torch.stack([torch.stack(row, dim=-1) for row in factor], dim=-2)
    info = torch.zeros(a.shape[:-2], dtype=torch.int32, device=a.device)
    return (found.mT if upper else found), info


def _matmul(a: Tensor, b: Tensor) -> Any:
    if a.shape[-1] <= SMALL:
        return _added([a[..., :, index, None] * b[..., index, None, :] for index in range(a.shape[-1])])
    if a.numel() * b.shape[-1] > PRODUCTS:
        return NotImplemented
    return (a[..., :, :, None] * b[..., None, :, :]).sum(-2)


def _matrix_vector(a: Tensor, b: Tensor) -> Any:
    return (a * b).sum(-1)


def _dot(a: Tensor, b: Tensor) -> Any:
    return (a * b).sum()


def _cumsum(a: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Any:
    return _running(a, dim, dtype, torch.add)


def _cumprod(a: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Any:
    return _running(a, dim, dtype, torch.mul)


def _running(a: Tensor, dim: int, dtype: torch.dtype | None, combine: Callable[[Tensor, Tensor], Tensor]) -> Any:
    if a.ndim == 0 or not 0 < a.shape[dim] <= SMALL:
        return NotImplemented
    # Running sums of whole numbers and of truth values are counts.
    counts = a.dtype if a.is_floating_point() or a.is_complex() else torch.int64
    found: list[Tensor] = []
    for part in a.to(dtype or counts).unbind(dim):
        found.append(combine(found[-1], part) if found else part)
    return torch.stack(found, dim=dim)


def _variance(
    a: Tensor, dim: Sequence[int] | None = None, *, correction: float | None = None, keepdim: bool = False
) -> Any:
    dims = list(range(a.ndim)) if dim is None else list(dim)
    count = math.prod(a.shape[one] for one in dims) - (1 if correction is None else correction)
    if count <= 0:
        return NotImplemented
    return (a - a.mean(dims, keepdim=True)).square().sum(dims, keepdim=keepdim) / count


def _largest(a: Tensor) -> Any:
    return a.amax()


def _smallest(a: Tensor) -> Any:
    return a.amin()


def _roll(a: Tensor, shifts: Sequence[int], dims: Sequence[int] = ()) -> Any:
    if not dims:
        return _roll(a.reshape(-1), shifts, [0]).reshape(a.shape)
    for shift, dim in zip(shifts, dims, strict=True):
        size = a.shape[dim]
        at = size - shift % size if size else 0
        a = torch.cat([a.narrow(dim, at, size - at), a.narrow(dim, 0, at)], dim)
    return a


def _added(terms: list[Tensor]) -> Tensor:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
