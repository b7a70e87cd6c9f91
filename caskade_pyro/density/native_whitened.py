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
    from .native import Native

__all__ = ["WHITENED", "NativeWhitened"]

WHITENED = """
// As density_logp, in coordinates w. The data are: buffers of the density; starts of rows, columns and values of the sparse
// factor; the number of directions, the directions and their stretches; room for two vectors.
static void density_directions(int64_t dim, double* x, const int64_t* rank, const double* directions, const double* stretches) {
    for (int64_t r = 0; r < *rank; r++) {
        const double* u = directions + r * dim;
        double along = 0;
        for (int64_t i = 0; i < dim; i++) along += u[i] * x[i];
        along *= stretches[r];
        for (int64_t i = 0; i < dim; i++) x[i] += along * u[i];
    }
}

extern "C" int64_t density_whitened(uint64_t dim, const double* w, double* gradient, double* value, void* data) {
    void* const* d = (void* const*)data;
    const int64_t* starts = (const int64_t*)d[1];
    const int64_t* columns = (const int64_t*)d[2];
    const double* values = (const double*)d[3];
    const int64_t* rank = (const int64_t*)d[4];
    const double* directions = (const double*)d[5];
    const double* stretches = (const double*)d[6];
    double* along = (double*)d[7];
    double* z = along + dim;
    std::memcpy(along, w, dim * sizeof(double));
    density_directions((int64_t)dim, along, rank, directions, stretches);
    for (uint64_t i = 0; i < dim; i++) {
        double sum = 0;
        for (int64_t k = starts[i]; k < starts[i + 1]; k++) sum += values[k] * along[columns[k]];
        z[i] = sum;
    }
    const int64_t wrong = density_logp(dim, z, gradient, value, d[0]);
    if (wrong != 0) return wrong;
    std::memset(along, 0, dim * sizeof(double));
    for (uint64_t i = 0; i < dim; i++)
        for (int64_t k = starts[i]; k < starts[i + 1]; k++) along[columns[k]] += values[k] * gradient[i];
    density_directions((int64_t)dim, along, rank, directions, stretches);
    std::memcpy(gradient, along, dim * sizeof(double));
    return 0;
}
"""
"""What stands in the C++ of each density after `density_logp`."""


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
