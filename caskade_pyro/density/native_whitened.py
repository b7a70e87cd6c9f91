"""A density in other coordinates ``w``, with unconstrained values ``z = T w``: how samplers that have no metric get one.

A sampler with a unit mass matrix in ``w`` moves as one with the inverse mass matrix ``T T'`` does in ``z`` (Neal 2011, section
4.1). The Jacobian of a linear map is a constant, so the density of ``w`` is that of ``z`` but for a factor.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import numpy as np

from .metric import Metric

if TYPE_CHECKING:
    from ..compiler import Native

__all__ = ["NativeWhitened"]


class NativeWhitened:
    """The arguments of the C function: they live as long as this object.

    Args:
        native: The compiled density.
        metric: The metric.
    """

    def __init__(self, native: Native, metric: Metric) -> None:
        self.native = native
        self.arrays = [
            metric.factor.indptr.astype(np.int64),
            metric.factor.indices.astype(np.int64),
            np.ascontiguousarray(metric.factor.data, dtype=np.float64),
            np.array([len(metric.stretches)], dtype=np.int64),
            np.ascontiguousarray(metric.directions, dtype=np.float64),
            np.ascontiguousarray(metric.stretches, dtype=np.float64),
            np.zeros(2 * metric.dim),
        ]
        addresses = [native.data_address, *(one.ctypes.data for one in self.arrays)]
        self.pointers = (ctypes.c_void_p * len(addresses))(*addresses)

    @property
    def address(self) -> int:
        """The address of the function as samplers want it: ``(dim, w, gradient, value, data)``."""
        return ctypes.cast(self.native.library.density_whitened, ctypes.c_void_p).value or 0

    @property
    def data_address(self) -> int:
        """The address of its last argument."""
        return ctypes.addressof(self.pointers)
