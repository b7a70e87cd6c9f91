"""Operations that only rearrange: what torch's views do to the places of elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

__all__ = ["VIEWS"]

Places = np.ndarray[Any, Any]


def _same(a: Places, *_: Any) -> Places:
    return a


def _reshape(a: Places, shape: Sequence[int], *_: Any) -> Places:
    return a.reshape(tuple(shape))


def _expand(a: Places, sizes: Sequence[int], *_: Any) -> Places:
    own = (1,) * (len(sizes) - a.ndim) + a.shape
    return np.broadcast_to(a.reshape(own), [o if s == -1 else s for s, o in zip(sizes, own, strict=True)])


def along(a: Places, dim: int, index: Any) -> tuple[Any, ...]:
    """The index of what is at a place along a dim."""
    return (*(slice(None),) * (dim % max(a.ndim, 1)), index)


def bounded(a: Places, dim: int, start: int | None, end: int | None, step: int) -> slice:
    """A slice along a dim; torch's ends may lie far beyond it."""
    return slice(start, None if end is None else min(end, a.shape[dim]), step)


def _slice(a: Places, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Places:
    found: Places = a[along(a, dim, bounded(a, dim, start, end, step))]
    return found


def _squeeze(a: Places, dim: Any = None) -> Places:
    dims = range(a.ndim) if dim is None else [dim] if isinstance(dim, int) else dim
    axes = {one % max(a.ndim, 1) for one in dims}
    return a.reshape([s for d, s in enumerate(a.shape) if not (s == 1 and d in axes)])


def _unbind(a: Places, dim: int = 0) -> list[Places]:
    return [np.asarray(one) for one in np.moveaxis(a, dim, 0)]


VIEWS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("detach", "alias", "clone", "contiguous", "lift_fresh", "lift_fresh_copy"), _same),
    **dict.fromkeys(("reshape", "view", "_unsafe_view"), _reshape),
    "expand": _expand,
    "permute": lambda a, dims: a.transpose(tuple(dims)),
    "transpose": lambda a, one, other: a.swapaxes(one, other) if a.ndim else a,
    "t": lambda a: a.T,
    "unsqueeze": np.expand_dims,
    "squeeze": _squeeze,
    "select": lambda a, dim, index: np.asarray(a[along(a, dim, index)]),
    "slice": _slice,
    "diagonal": lambda a, offset=0, one=0, other=1: np.diagonal(a, offset, one, other),
    "flip": lambda a, dims: np.flip(a, tuple(dims)),
    "unbind": _unbind,
    "split": lambda a, size, dim=0: np.split(a, range(size, a.shape[dim], size), axis=dim),
    "split_with_sizes": lambda a, sizes, dim=0: np.split(a, np.cumsum(sizes)[:-1], axis=dim),
}
"""By the name of an operation, the same for places."""
