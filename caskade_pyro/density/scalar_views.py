"""Views of arrays of names: what torch's operations that only rearrange do to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import CompilationError

__all__ = ["VIEWS", "Array", "NotSmallError", "UnknownOperationError", "as_array", "numbers"]

Array = np.ndarray[Any, Any]


class NotSmallError(CompilationError):
    """A density is too large to be written out, or does what is not known here."""


class UnknownOperationError(NotSmallError):
    """An operation is not known here; written in others, it may be."""


def as_array(value: Any) -> Array:
    """An array of one element, if it is none yet."""
    if isinstance(value, np.ndarray):
        return value
    found = np.empty((), dtype=object)
    found[()] = value
    return found


def _stack(parts: Sequence[Array], dim: int = 0) -> Array:
    return np.stack(parts, axis=dim)


def _cat(parts: Sequence[Array], dim: int = 0) -> Array:
    return np.concatenate(parts, axis=dim)


def _expand(a: Array, sizes: Sequence[int], **_: Any) -> Array:
    own = (1,) * (len(sizes) - a.ndim) + a.shape
    return np.broadcast_to(a.reshape(own), [o if s == -1 else s for s, o in zip(sizes, own, strict=True)])


def _slice(a: Array, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Array:
    return a[(slice(None),) * (dim % a.ndim) + (slice(start, None if end is None else min(end, a.shape[dim]), step),)]


def _squeeze(a: Array, dim: Any = None) -> Array:
    dims = range(a.ndim) if dim is None else [dim] if isinstance(dim, int) else dim
    return a.reshape([s for d, s in enumerate(a.shape) if not (s == 1 and d in {one % a.ndim for one in dims})])


def _diagonal(a: Array, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Array:
    return np.diagonal(a, offset, dim1, dim2)


def _pad(a: Array, pad: Sequence[int], value: Any = 0) -> Array:
    found = a
    for number in range(len(pad) // 2):
        before, after = pad[2 * number], pad[2 * number + 1]
        axis = a.ndim - 1 - number
        found = found[(slice(None),) * axis + (slice(max(-before, 0), found.shape[axis] - max(-after, 0)),)]
        widths = [(0, 0)] * a.ndim
        widths[axis] = (max(before, 0), max(after, 0))
        padded = np.full(
            [before + size + after for (before, after), size in zip(widths, found.shape, strict=True)],
            value,
            found.dtype,
        )
        padded[tuple(slice(before, before + size) for (before, _), size in zip(widths, found.shape, strict=True))] = (
            found
        )
        found = padded
    return found


def triangle(a: Array, diagonal: int, of_ones: Callable[[Array, int], Array], zero: Any = 0) -> Array:
    """A triangle of a matrix, and zeros elsewhere; numpy's own would write the number of its first variable there."""
    kept = of_ones(np.ones(a.shape[-2:], dtype=bool), diagonal)
    return np.where(kept, a, np.asarray(zero, dtype=a.dtype))


def _full(sizes: Sequence[int], value: Any, **_: Any) -> Array:
    return np.full(tuple(sizes), value, dtype=object)


def _index(a: Array, indices: Sequence[Any]) -> Array:
    found: Array = a[(*numbers(indices), ...)]  # an array also where it is of one element
    return found


def numbers(indices: Sequence[Any]) -> tuple[Any, ...]:
    """Constant indices as numpy takes them.

    Raises:
        NotSmallError: They are not constant.
    """
    arrays = [one for one in indices if isinstance(one, np.ndarray)]
    if any(one.dtype != object or any(isinstance(i, str) for i in one.reshape(-1)) for one in arrays):
        raise NotSmallError("it looks up what a param says")
    return tuple(slice(None) if one is None else np.array(one, dtype=np.int64) for one in indices)


VIEWS: dict[str, Callable[..., Any]] = {
    "reshape": lambda a, shape: a.reshape(tuple(shape)),
    "view": lambda a, shape: a.reshape(tuple(shape)),
    "_unsafe_view": lambda a, shape: a.reshape(tuple(shape)),
    "expand": _expand,
    "permute": lambda a, dims: a.transpose(tuple(dims)),
    "transpose": lambda a, one, other: a.swapaxes(one, other) if a.ndim else a,
    "t": lambda a: a.T,
    "unsqueeze": np.expand_dims,
    "squeeze": _squeeze,
    "select": lambda a, dim, index: a[(slice(None),) * (dim % a.ndim) + (index,)] if a.ndim > 1 else as_array(a[index]),
    "slice": _slice,
    "diagonal": _diagonal,
    "flip": lambda a, dims: np.flip(a, tuple(dims)),
    "tril": lambda a, diagonal=0: triangle(a, diagonal, np.tril),
    "triu": lambda a, diagonal=0: triangle(a, diagonal, np.triu),
    "stack": _stack,
    "cat": _cat,
    "unbind": lambda a, dim=0: [as_array(one) for one in np.moveaxis(a, dim, 0)],
    "constant_pad_nd": _pad,
    "full": _full,
    "zeros": lambda sizes, **_: _full(sizes, 0),
    "ones": lambda sizes, **_: _full(sizes, 1),
    "full_like": lambda a, value, **_: _full(a.shape, value),
    "zeros_like": lambda a, **_: _full(a.shape, 0),
    "ones_like": lambda a, **_: _full(a.shape, 1),
    "scalar_tensor": lambda value, **_: as_array(value),
    "arange": lambda *ends, **_: np.array(np.arange(*ends).tolist(), dtype=object),
    "index": _index,
    "copy": lambda a, values, *_: np.broadcast_to(values, a.shape),
    "split_with_sizes": lambda a, sizes, dim=0: np.split(a, np.cumsum(sizes)[:-1], axis=dim),
    "split": lambda a, size, dim=0: np.split(a, range(size, a.shape[dim], size), axis=dim),
}
