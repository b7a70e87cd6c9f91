"""A metric from draws and gradients, with the structure of the graph: few numbers to learn, so few steps to learn them from.

Values that lie in a plate are told by those outside of it: ``x_own = A x_parents + u``, where the ``u`` of different members
are independent. So the metric consists of small matrices, ``A`` and the covariance of ``u`` for each member.

The gradients of a normal density are linear in its params, ``g_own = -P (x_own - A x_parents)``, so that regression finds ``P``
and ``A`` from few draws, and for other densities their mean curvature. The covariance of ``u`` is the geometric mean of the
covariance of the draws and the inverse of that of the gradients, which minimises the Fisher divergence, as nutpie does for
variances (Seyboldt, Carlson and Carpenter 2024).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from ..density import Block, Metric
from ..density.blocks import Indices

__all__ = ["BlockMatrix", "metric_of_draws"]

Array = np.ndarray[Any, Any]

DOUBT = 0.5
"""Correlations count as if so many draws without any had been seen as well: few, for the gradients know them nearly exactly."""

LEAST_PRECISION = 0.1
"""In units of its variance among the draws; it is 1 for a normal value on its own, more if others tell about it."""

TOO_WIDE = 1.5
"""A variance of what parents do not tell, in units of the whole; it is below 1 for a normal density."""

EDGE = 1e-5


def metric_of_draws(
    slots: Mapping[str, Any], blocks: Sequence[Block], draws: Array, gradients: Array, source: str
) -> Metric | None:
    """The metric that draws suggest.

    Args:
        slots: By sampled site, its part of the vector.
        blocks: Those of the model, parents first.
        draws: Unconstrained, ``(draws, dim)``; they need not be independent.
        gradients: Those of the log density at the draws.
        source: Where the draws come from, for the metric to tell.

    Returns:
        The metric; None if some values did not move, so that nothing can be said.
    """
    known = np.concatenate([draws, gradients], axis=1)
    if len(draws) < 2 or not np.isfinite(known).all() or not (known.std(axis=0) > 0).all():
        return None
    centred = draws - draws.mean(axis=0)
    slopes = gradients - gradients.mean(axis=0)
    dim = draws.shape[1]
    outer, inner = BlockMatrix(dim), BlockMatrix(dim)
    for block in reversed(blocks):
        found = _regress(block, centred, slopes)
        outer.put(block.own, block.parents, found.coefficients)
        inner.put(block.own, block.own, np.linalg.cholesky(found.covariance))
        # The gradient by a parent along with which the members move as they do.
        pulled = _of_members(slopes, block.own) @ found.coefficients
        np.add.at(slopes.T, block.parents.reshape(-1), pulled.swapaxes(1, 2).reshape(-1, len(draws)))
    return Metric.from_factor(slots, _composed(outer.matrix(), inner.matrix()), source)


class BlockMatrix:
    """A sparse matrix, put together block by block.

    Args:
        dim: Its size.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.entries: list[tuple[Array, Array, Array]] = []

    def put(self, rows: Indices, columns: Indices, values: Array) -> None:
        """Enter a matrix ``(rows, columns)`` for each member."""
        places = np.broadcast_arrays(rows[:, :, None], columns[:, None, :], values)
        self.entries.append((places[0].reshape(-1), places[1].reshape(-1), places[2].reshape(-1)))

    def matrix(self) -> Any:
        """The matrix, without what is zero."""
        rows, columns, values = (np.concatenate(parts) for parts in zip(*self.entries, strict=True))
        kept = values != 0
        return sp.csr_array((values[kept], (rows[kept], columns[kept])), shape=(self.dim, self.dim))


def _composed(outer: Any, inner: Any) -> Any:
    """The factor ``(1 - outer)^-1 inner``, a sum of as many terms as plates are nested."""
    total = term = inner
    while term.nnz:
        term = outer @ term
        total = total + term
    return total


@dataclass(frozen=True)
class Regression:
    """How the values of each member hang together.

    Attributes:
        coefficients: ``(members, size, parents)``.
        covariance: Of what the parents do not tell, ``(members, size, size)``.
    """

    coefficients: Array
    covariance: Array


def _regress(block: Block, draws: Array, gradients: Array) -> Regression:
    x, parents = _of_members(draws, block.own), _of_members(draws, block.parents)
    scales, parent_scales = x.std(axis=1), parents.std(axis=1)
    x, parents = x / scales[:, None], parents / parent_scales[:, None]
    g = _of_members(gradients, block.own) * scales[:, None]
    told = _told_by_parents(x, parents, g)
    rest = x - parents @ told.swapaxes(1, 2)
    worse = (rest.var(axis=1) > TOO_WIDE).any(axis=1)  # the density is far from normal: better no coefficients
    told[worse], rest[worse] = 0.0, x[worse]
    covariance = _fisher(_covariance(rest), _covariance(g))
    return Regression(
        told * scales[:, :, None] / parent_scales[:, None, :], covariance * scales[:, :, None] * scales[:, None, :]
    )


def _of_members(rows: Array, places: Indices) -> Array:
    """What stands at the places of each member, ``(members, draws, size)``."""
    return np.ascontiguousarray(rows[:, places].swapaxes(0, 1))


def _ridge(x: Array, y: Array) -> Array:
    """The coefficients ``(members, columns of x, columns of y)`` of linear regressions, drawn towards zero."""
    seen = x.shape[1]
    gram = x.swapaxes(1, 2) @ x / seen + DOUBT / seen * np.eye(x.shape[2])
    return np.linalg.solve(gram, x.swapaxes(1, 2) @ y / seen)


def _told_by_parents(x: Array, parents: Array, gradients: Array) -> Array:
    size = x.shape[2]
    precision = -_ridge(np.concatenate([x, parents], axis=2), gradients).swapaxes(1, 2)
    own = precision[:, :, :size]
    values, vectors = np.linalg.eigh((own + own.swapaxes(1, 2)) / 2)
    inverse = (vectors / np.maximum(values, LEAST_PRECISION)[:, None]) @ vectors.swapaxes(1, 2)
    return np.asarray(-inverse @ precision[:, :, size:])


def _covariance(x: Array) -> Array:
    """Covariances with their correlations drawn towards zero, ``(members, size, size)``."""
    seen = x.shape[1]
    found = x.swapaxes(1, 2) @ x / seen
    diagonal = np.eye(x.shape[2], dtype=bool)
    return np.asarray(np.where(diagonal, found, found * seen / (seen + DOUBT)))


def _fisher(of_draws: Array, of_gradients: Array) -> Array:
    """The geometric mean of the covariance of draws and the inverse of that of gradients."""
    variances, slopes = (np.diagonal(one, axis1=1, axis2=2) for one in (of_draws, of_gradients))
    scales = (variances / slopes) ** 0.25
    edge = EDGE * np.eye(of_draws.shape[1])
    a = of_draws / scales[:, :, None] / scales[:, None, :] + edge
    b = of_gradients * scales[:, :, None] * scales[:, None, :] + edge
    root, inverse = _powers(b, 0.5), _powers(b, -0.5)
    mean = inverse @ _powers(root @ a @ root, 0.5) @ inverse
    return np.asarray(mean * scales[:, :, None] * scales[:, None, :])


def _powers(matrices: Array, power: float) -> Array:
    values, vectors = np.linalg.eigh(matrices)
    smallest = np.finfo(values.dtype).tiny
    return np.asarray((vectors * np.maximum(values, smallest)[:, None] ** power) @ vectors.swapaxes(1, 2))
