"""Looking things up in one way: gathers, scatters and strided views as indexing with numbers that are known.

Whoever writes a program out then knows where every element comes from, and has one operation to know instead of ten.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["as_indexing"]

aten = torch.ops.aten

Call = tuple[Any, tuple[Any, ...]]


def as_indexing(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], known: Callable[[Tensor], bool]
) -> Call | None:
    """An operation that looks up or replaces elements as one of `index` and `index_put`; None if it is no such one.

    Args:
        func: The operation.
        args: Its arguments.
        kwargs: Its other arguments.
        known: Whether a tensor is the same in all runs, which indices have to be.
    """
    found = OPERATIONS.get(func)
    if found is None or args[0].ndim == 0 or kwargs.keys() - {"sparse_grad"}:
        return None
    indices = [one for one in args[1:3] if isinstance(one, Tensor) and not one.is_floating_point()]
    return found(*args) if all(known(one) for one in indices) else None


def _along(index: Tensor, dim: int) -> list[Tensor]:
    """For each dim of a tensor the places of elements that `index` gives along one of them."""
    grids: list[Tensor] = []
    for axis, size in enumerate(index.shape):
        shape = [1] * index.ndim
        shape[axis] = size
        grids.append(index if axis == dim % index.ndim else torch.arange(size, device=index.device).reshape(shape))
    return grids


def _gather(a: Tensor, dim: int, index: Tensor, *_: Any) -> Call | None:
    return (aten.index.Tensor, (a, _along(index, dim))) if index.ndim == a.ndim else None


def _scatter(a: Tensor, dim: int, index: Tensor, values: Any) -> Call | None:
    return _put(a, dim, index, values, adds=False)


def _scatter_add(a: Tensor, dim: int, index: Tensor, values: Any) -> Call | None:
    return _put(a, dim, index, values, adds=True)


def _fill(a: Tensor, dim: int, index: Tensor, value: float) -> Call | None:
    return _put(a, dim, index, torch.full(index.shape, value, dtype=a.dtype, device=a.device), adds=False)


def _put(a: Tensor, dim: int, index: Tensor, values: Tensor, adds: bool) -> Call | None:
    if index.ndim != a.ndim or values.shape != index.shape:
        return None
    return aten.index_put.default, (a, _along(index, dim), values, adds)


def _index_select(a: Tensor, dim: int, index: Tensor) -> Call | None:
    return (aten.index.Tensor, (a, [*[None] * (dim % a.ndim), index])) if index.ndim == 1 else None


def _index_add(a: Tensor, dim: int, index: Tensor, values: Tensor) -> Call | None:
    if index.ndim != 1 or values.ndim != a.ndim:
        return None
    return aten.index_put.default, (a, [*[None] * (dim % a.ndim), index], values, True)


def _strided(a: Tensor, sizes: Sequence[int], strides: Sequence[int], offset: int | None = None) -> Call | None:
    places = _places(a, sizes, strides, offset)
    return None if places is None else (aten.index.Tensor, (a, places))


def _unfold(a: Tensor, dim: int, size: int, step: int) -> Call | None:
    if dim % a.ndim != a.ndim - 1:  # the windows would have to be brought to the end
        return None
    return aten.index.Tensor, (a, [*[None] * (a.ndim - 1), _windows(a.shape[dim], size, step, a.device)])


def _unfold_backward(slope: Tensor, sizes: Sequence[int], dim: int, size: int, step: int) -> Call | None:
    if dim % len(sizes) != len(sizes) - 1:
        return None
    windows = _windows(sizes[dim], size, step, slope.device)
    zeros = torch.zeros(list(sizes), dtype=slope.dtype, device=slope.device)
    return aten.index_put.default, (zeros, [*[None] * (len(sizes) - 1), windows], slope, True)


def _windows(length: int, size: int, step: int, device: torch.device) -> Tensor:
    """The places in each window, ``(windows, size)``."""
    return torch.arange(0, length - size + 1, step, device=device)[:, None] + torch.arange(size, device=device)


def _strided_scatter(
    a: Tensor, values: Tensor, sizes: Sequence[int], strides: Sequence[int], offset: int | None = None
) -> Call | None:
    places = _places(a, sizes, strides, offset)
    return None if places is None else (aten.index_put.default, (a, places, values, False))


def _places(a: Tensor, sizes: Sequence[int], strides: Sequence[int], offset: int | None) -> list[Tensor] | None:
    """The places of elements of a strided view; None where what is in memory is not what is in the tensor."""
    if not a.is_contiguous() or a.storage_offset() != 0:
        return None
    flat = torch.tensor(offset or 0, device=a.device)
    for dim, (size, stride) in enumerate(zip(sizes, strides, strict=True)):
        steps = torch.arange(size, device=a.device) * stride
        flat = flat + steps.reshape([-1] + [1] * (len(sizes) - dim - 1))
    return list(torch.unravel_index(flat, a.shape)) if a.numel() else None


OPERATIONS: dict[Any, Callable[..., Call | None]] = {
    aten.gather.default: _gather,
    aten.scatter.src: _scatter,
    aten.scatter.value: _fill,
    aten.scatter_add.default: _scatter_add,
    aten.index_select.default: _index_select,
    aten.index_add.default: _index_add,
    aten.unfold.default: _unfold,
    aten.unfold_backward.default: _unfold_backward,
    aten.as_strided.default: _strided,
    aten.as_strided_scatter.default: _strided_scatter,
}
