"""Operations that are made of others: each a function of the builder, the type of the result, and torch's arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from .failures import UnknownOperationError
from .views import along, bounded

__all__ = ["COMPOSITES", "Array", "Builder"]

Places = np.ndarray[Any, Any]


class Array(Protocol):
    """A tensor as the places of its elements."""

    @property
    def places(self) -> Places:
        """Where its elements lie."""

    @property
    def dtype(self) -> torch.dtype:
        """Their type."""


class Builder(Protocol):
    """What composites are made with."""

    def apply(self, name: str, dtype: torch.dtype, *operands: Any) -> Array:
        """An operation on each element of arrays, tensors and numbers, brought to one shape."""

    def array(self, value: Any, dtype: torch.dtype) -> Array:
        """An array, a tensor or a number as an array of this type."""

    def of(self, places: Places, dtype: torch.dtype) -> Array:
        """Places as an array."""

    def added_at(self, a: Array, at: Places, values: Array) -> Array:
        """An array with values added to the elements of these numbers."""


# Arithmetic


def _add(build: Builder, dtype: torch.dtype, a: Any, b: Any, alpha: Any = 1) -> Array:
    return build.apply("plus", dtype, a, b if alpha == 1 else build.apply("mul", dtype, b, alpha))


def _sub(build: Builder, dtype: torch.dtype, a: Any, b: Any, alpha: Any = 1) -> Array:
    return build.apply("minus", dtype, a, b if alpha == 1 else build.apply("mul", dtype, b, alpha))


def _rsub(build: Builder, dtype: torch.dtype, a: Any, b: Any, alpha: Any = 1) -> Array:
    return _sub(build, dtype, b, a, alpha)


def _quotient(build: Builder, dtype: torch.dtype, a: Any, b: Any, rounding_mode: str | None = None) -> Array:
    return build.apply("quotient" if rounding_mode is None else f"{rounding_mode}_quotient", dtype, a, b)


def _round(build: Builder, dtype: torch.dtype, a: Any, decimals: int = 0) -> Array:
    if decimals == 0:
        return build.apply("to_even", dtype, a)
    if not dtype.is_floating_point:
        raise UnknownOperationError("whole numbers are not rounded to decimals here")
    up, down = ("mul", "quotient") if decimals > 0 else ("quotient", "mul")
    scale = float(10 ** abs(decimals))
    return build.apply(down, dtype, build.apply("to_even", dtype, build.apply(up, dtype, a, scale)), scale)


def _pow(build: Builder, dtype: torch.dtype, a: Any, b: Any) -> Array:
    if isinstance(b, int | float) and dtype.is_floating_point:
        a = build.array(a, dtype)
        if b == 1:
            return build.of(a.places, dtype)
        if b in {2, 3}:
            square = build.apply("mul", dtype, a, a)
            return square if b == 2 else build.apply("mul", dtype, square, a)
        if b == 0.5:
            return build.apply("sqrt", dtype, a)
        if b in {-1, -2}:
            return build.apply("reciprocal", dtype, a if b == -1 else build.apply("mul", dtype, a, a))
        if b == -0.5:
            return build.apply("rsqrt", dtype, a)
    return build.apply("power", dtype, a, b)


def _clamp(build: Builder, dtype: torch.dtype, a: Any, low: Any = None, high: Any = None) -> Array:
    found = build.array(a, dtype)
    if low is not None:
        found = build.apply("maximum", dtype, found, low)
    return found if high is None else build.apply("minimum", dtype, found, high)


def _clamp_max(build: Builder, dtype: torch.dtype, a: Any, high: Any) -> Array:
    return _clamp(build, dtype, a, None, high)


def _to(build: Builder, dtype: torch.dtype, a: Any, *_: Any) -> Array:
    return build.array(a, dtype)


def _copy(build: Builder, dtype: torch.dtype, a: Any, values: Any, *_: Any) -> Array:
    return build.of(np.broadcast_to(build.array(values, dtype).places, _shape(a)), dtype)


def _joined(join: Callable[..., Places]) -> Callable[..., Array]:
    def write(build: Builder, dtype: torch.dtype, parts: Sequence[Any], dim: int = 0) -> Array:
        # torch passes over empty vectors among arrays of more dims.
        kept = [one for one in parts if join is np.stack or tuple(_shape(one)) != (0,)] or parts[:1]
        return build.of(join([build.array(one, dtype).places for one in kept], axis=dim), dtype)

    return write


def _filled(value: float | None) -> Callable[..., Array]:
    """An array of the shape of another, or of a given one, that is one number."""

    def write(build: Builder, dtype: torch.dtype, a: Any, *given: Any) -> Array:
        number = given[0] if value is None else value
        return build.of(np.broadcast_to(build.array(number, dtype).places, _shape(a)), dtype)

    return write


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(value.shape) if isinstance(value, Tensor) else value.places.shape


def _triangle(pick: Callable[..., Any]) -> Callable[..., Array]:
    def write(build: Builder, dtype: torch.dtype, a: Array, diagonal: int = 0) -> Array:
        inside = pick(np.ones(a.places.shape[-2:], dtype=bool), diagonal)
        return build.of(np.where(inside, a.places, build.array(0, dtype).places), dtype)

    return write


def _pad(build: Builder, dtype: torch.dtype, a: Array, pad: Sequence[int], value: Any = 0) -> Array:
    found = a.places
    filling = build.array(value, dtype).places
    for number in range(len(pad) // 2):
        before, after = pad[2 * number], pad[2 * number + 1]
        axis = found.ndim - 1 - number
        found = found[along(found, axis, slice(max(-before, 0), found.shape[axis] - max(-after, 0)))]
        widths = [(0, 0)] * found.ndim
        widths[axis] = (max(before, 0), max(after, 0))
        found = np.pad(found, widths, constant_values=int(filling))
    return build.of(found, dtype)


# Looking up, and putting where


def _numbers(indices: Sequence[Any]) -> tuple[Any, ...]:
    """Constant indices as numpy takes them."""
    if not all(one is None or isinstance(one, Tensor) for one in indices):
        raise UnknownOperationError("it looks up what a param says")
    return (*(slice(None) if one is None else one.numpy() for one in indices), ...)


def _index(build: Builder, dtype: torch.dtype, a: Any, indices: Sequence[Any]) -> Array:
    return build.of(np.asarray(build.array(a, dtype).places[_numbers(indices)]), dtype)


def _index_put(
    build: Builder, dtype: torch.dtype, a: Any, indices: Sequence[Any], values: Any, accumulate: bool = False, *_: Any
) -> Array:
    into = build.array(a, dtype)
    at = np.arange(into.places.size, dtype=np.int32).reshape(into.places.shape)[_numbers(indices)]
    given = np.broadcast_to(build.array(values, dtype).places, at.shape)
    if accumulate and at.size:
        return build.added_at(into, at, build.of(given, dtype))
    return _put(build, into, at, given)


def _put(build: Builder, into: Array, at: Places, values: Places) -> Array:
    found = into.places.copy()
    found.reshape(-1)[at.reshape(-1)] = values.reshape(-1)
    return build.of(found, into.dtype)


def _replaced(build: Builder, dtype: torch.dtype, a: Any, at: Any, values: Any) -> Array:
    found = build.array(a, dtype).places.copy()
    found[at] = build.array(values, dtype).places
    return build.of(found, dtype)


def _slice_scatter(
    build: Builder,
    dtype: torch.dtype,
    a: Any,
    values: Any,
    dim: int = 0,
    start: Any = None,
    end: Any = None,
    step: int = 1,
) -> Array:
    places = build.array(a, dtype).places
    return _replaced(build, dtype, a, along(places, dim, bounded(places, dim, start, end, step)), values)


def _select_scatter(build: Builder, dtype: torch.dtype, a: Any, values: Any, dim: int, index: int) -> Array:
    return _replaced(build, dtype, a, along(build.array(a, dtype).places, dim, index), values)


def _diagonal_scatter(
    build: Builder, dtype: torch.dtype, a: Any, values: Any, offset: int = 0, one: int = 0, other: int = 1
) -> Array:
    into = build.array(a, dtype)
    numbers = np.diagonal(np.arange(into.places.size).reshape(into.places.shape), offset, one, other)
    return _put(build, into, numbers, build.array(values, dtype).places)


def _select_backward(build: Builder, dtype: torch.dtype, g: Any, sizes: Sequence[int], dim: int, index: int) -> Array:
    return _select_scatter(build, dtype, torch.zeros(list(sizes), dtype=dtype), g, dim, index)


def _slice_backward(
    build: Builder, dtype: torch.dtype, g: Any, sizes: Sequence[int], dim: int, start: int, end: int, step: int
) -> Array:
    return _slice_scatter(build, dtype, torch.zeros(list(sizes), dtype=dtype), g, dim, start, end, step)


COMPOSITES: dict[str, Callable[..., Any]] = {
    "add": _add,
    "sub": _sub,
    "rsub": _rsub,
    "div": _quotient,
    "floor_divide": lambda build, dtype, a, b: _quotient(build, dtype, a, b, "floor"),
    "pow": _pow,
    "round": _round,
    "clamp": _clamp,
    "clamp_min": _clamp,
    "clamp_max": _clamp_max,
    "_to_copy": _to,
    "copy": _copy,
    "cat": _joined(np.concatenate),
    "stack": _joined(np.stack),
    "full_like": _filled(None),
    "zeros_like": _filled(0),
    "ones_like": _filled(1),
    "tril": _triangle(np.tril),
    "triu": _triangle(np.triu),
    "constant_pad_nd": _pad,
    "index": _index,
    "_unsafe_index": _index,
    "index_put": _index_put,
    "_unsafe_index_put": _index_put,
    "slice_scatter": _slice_scatter,
    "select_scatter": _select_scatter,
    "diagonal_scatter": _diagonal_scatter,
    "select_backward": _select_backward,
    "slice_backward": _slice_backward,
}
"""By the name of an operation."""
