"""The array functions behind the name ``backend``, which packages written for ``caskade`` ask for: torch, always."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ..errors import BackendError
from .nodes.shapes import broadcast_shapes

__all__ = ["ArrayLike", "Backend", "backend"]

ArrayLike: TypeAlias = Tensor
"""What a value is: a tensor."""

Device = torch.device | str | None


class Backend:
    """Array functions by the names of ``caskade.backend``, on torch.

    Raises:
        BackendError: Another library is asked for.

    Example:
        >>> import caskade_pyro as ck
        >>> ck.backend.backend
        'torch'
        >>> ck.backend.make_array([1.0, 2.0])
        tensor([1., 2.])
    """

    def __init__(self, backend: str | None = None) -> None:
        self.backend = backend

    @property
    def backend(self) -> str:
        """The name of the library: ``"torch"``."""
        return "torch"

    @backend.setter
    def backend(self, backend: str | None) -> None:
        if backend not in ("torch", None):
            raise BackendError(f"caskade_pyro computes with torch only; the backend cannot be {backend!r}.")

    @property
    def module(self) -> ModuleType:
        """The library itself."""
        return torch

    @property
    def array_type(self) -> type[Tensor]:
        """The class of arrays, for ``isinstance``."""
        return Tensor

    def make_array(self, array: Any, dtype: torch.dtype | None = None, device: Device = None) -> Tensor:
        """A new tensor."""
        return torch.tensor(array, dtype=dtype, device=device)

    def as_array(self, array: Any, dtype: torch.dtype | None = None, device: Device = None) -> Tensor:
        """A tensor, which shares memory with what it is made of where possible."""
        return torch.as_tensor(array, dtype=dtype, device=device)

    def to(self, array: Tensor, dtype: torch.dtype | None = None, device: Device = None) -> Tensor:
        """The same values in another dtype or on another device."""
        return array.to(dtype=dtype, device=device)

    def to_numpy(self, array: Tensor) -> np.ndarray[Any, Any]:
        """The values as a numpy array."""
        return array.detach().cpu().numpy()

    def tolist(self, array: Tensor) -> Any:
        """The values as nested lists of numbers."""
        return array.detach().cpu().tolist()

    def detach(self, array: Tensor) -> Tensor:
        """The values, cut off from gradients."""
        return array.detach()

    def view(self, array: Tensor, shape: Sequence[int]) -> Tensor:
        """The values in another shape."""
        return array.reshape(tuple(shape))

    def concatenate(self, arrays: Sequence[Tensor], axis: int = 0) -> Tensor:
        """Tensors put one after the other along a dim that they have."""
        return torch.cat(tuple(arrays), dim=axis)

    def broadcast_cat(self, arrays: Sequence[Tensor], dim: int = -1) -> Tensor:
        """Tensors put one after the other along their last dim, all dims in front broadcast."""
        if dim != -1:
            raise BackendError(f"broadcast_cat puts tensors together along the last dim, -1, not {dim}.")
        batch = broadcast_shapes(*(tuple(array.shape[:-1]) for array in arrays))
        return torch.cat([array.expand(*batch, array.shape[-1]) for array in arrays], dim=-1)

    def any(self, array: Tensor) -> Tensor:
        """Whether any value is true."""
        return torch.any(array)

    def all(self, array: Tensor) -> Tensor:
        """Whether all values are true."""
        return torch.all(array)

    def log(self, array: Tensor) -> Tensor:
        """The natural logarithm."""
        return torch.log(array)

    def exp(self, array: Tensor) -> Tensor:
        """The exponential function."""
        return torch.exp(array)

    def sum(self, array: Tensor, axis: int | tuple[int, ...] | None = None) -> Tensor:
        """The sum along some dims, or of all values."""
        return torch.sum(array, dim=axis)


backend = Backend()
"""The only backend."""
