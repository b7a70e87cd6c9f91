"""The metric of Hamiltonian samplers: the inverse mass matrix, which is best the covariance of the posterior."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu

from ..errors import SamplingError
from .flat import Slot

__all__ = ["Metric"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False, repr=False)
class Metric:
    """The inverse mass matrix of a sampler: a covariance of the unconstrained values of a model.

    It is kept as a factor ``T`` with covariance ``T T'``, in a form that is cheap to apply: ``T = factor (1 + directions'
    diag(stretches) directions)``, where the factor is sparse and the directions are few and orthonormal. `ck.metric` makes one
    from a fit, from draws, or from variances and covariances.

    Attributes:
        slots: By sampled site, its part of the vector and its unconstrained shape.
        factor: Sparse, ``(dim, dim)``.
        directions: ``(rank, dim)``.
        stretches: ``(rank,)``.
        source: Where it comes from, in a few words.
    """

    slots: Mapping[str, Slot]
    factor: Any
    directions: Array
    stretches: Array
    source: str

    @classmethod
    def from_factor(cls, slots: Mapping[str, Slot], factor: Any, source: str) -> Metric:
        """The metric of a factor ``T``, dense or sparse."""
        sparse = sp.csr_array(factor, dtype=np.float64)
        return cls(dict(slots), sparse, np.zeros((0, sparse.shape[0])), np.zeros(0), source)

    @classmethod
    def diagonal(cls, slots: Mapping[str, Slot], variances: Array, source: str) -> Metric:
        """The metric of independent values with variances ``(dim,)``."""
        return cls.from_factor(slots, sp.diags_array(np.sqrt(variances)), source)

    @classmethod
    def low_rank(cls, slots: Mapping[str, Slot], variances: Array, columns: Array, source: str) -> Metric:
        """The metric of the covariance ``diag(variances) + columns columns'``, with columns ``(dim, rank)``."""
        scales = np.sqrt(variances)
        directions, lengths, _ = np.linalg.svd(columns / scales[:, None], full_matrices=False)
        factor = sp.csr_array(sp.diags_array(scales))
        return cls(dict(slots), factor, np.ascontiguousarray(directions.T), np.sqrt(1 + lengths**2) - 1, source)

    @property
    def dim(self) -> int:
        """The length of the vector."""
        return int(self.factor.shape[0])

    @property
    def is_diagonal(self) -> bool:
        """Whether it knows no correlations."""
        rows, columns = self.factor.nonzero()
        return len(self.stretches) == 0 and bool(np.array_equal(rows, columns))

    @property
    def variances(self) -> Array:
        """The variances of all unconstrained values, ``(dim,)``."""
        along = self.factor @ self.directions.T
        stretched = (2 * self.stretches + self.stretches**2) * along**2
        return np.asarray(self.factor.power(2).sum(axis=1) + stretched.sum(axis=1))

    def covariance(self, *sites: str) -> Array:
        """The covariance of the unconstrained values of some sampled sites, in the order given; of all by default.

        Raises:
            SamplingError: There is no such site.
        """
        unknown = [name for name in sites if name not in self.slots]
        if unknown:
            raise SamplingError(f"The metric has no site {', '.join(unknown)}; its sites are {', '.join(self.slots)}.")
        slots = [self.slots[name].slice for name in sites] or [slice(0, self.dim)]
        rows = self.factor[np.concatenate([np.arange(one.start, one.stop) for one in slots])].toarray()
        rows += (rows @ self.directions.T * self.stretches) @ self.directions
        return np.asarray(rows @ rows.T)

    def stretch(self, w: Array) -> Array:
        """``T w``: from a space in which the posterior is about as wide in all directions; ``(dim,)`` or ``(n, dim)``."""
        along = w + (w @ self.directions.T * self.stretches) @ self.directions
        return np.asarray((self.factor @ along.T).T)

    def pull(self, gradient: Array) -> Array:
        """``T' g``: a gradient in that space from one of the unconstrained values."""
        along = np.asarray((self.factor.T @ gradient.T).T)
        return np.asarray(along + (along @ self.directions.T * self.stretches) @ self.directions)

    def shrink(self, z: Array) -> Array:
        """``T^-1 z``, the inverse of `stretch`."""
        along = splu(self.factor.tocsc()).solve(np.asarray(z, dtype=np.float64).T).T
        return np.asarray(along - (along @ self.directions.T * self.shrinkages) @ self.directions)

    def push(self, gradient: Array) -> Array:
        """``T'^-1 g``, the inverse of `pull`."""
        back = gradient - (gradient @ self.directions.T * self.shrinkages) @ self.directions
        return np.asarray(splu(self.factor.tocsc()).solve(back.T, trans="T").T)

    @property
    def shrinkages(self) -> Array:
        """What undoes the stretches."""
        return np.asarray(self.stretches / (1 + self.stretches))

    def check_fits(self, slots: Mapping[str, Slot]) -> None:
        """Check that it is of a model with these sampled sites.

        Raises:
            SamplingError: It is not; the message names the sites and shapes.
        """
        for name in self.slots.keys() ^ slots.keys():
            raise SamplingError(
                f"The metric is of another model, or of another noncentered=: it has the sites {', '.join(self.slots)}, and "
                f"the model samples {', '.join(slots)}; they differ in {name}."
            )
        for name, slot in slots.items():
            if slot != self.slots[name]:
                raise SamplingError(
                    f"The metric is of another model: its {name} has the unconstrained shape {self.slots[name].shape}, that of "
                    f"the model {slot.shape}."
                )

    def __repr__(self) -> str:
        sds = np.sqrt(self.variances)
        width = max(len(name) for name in self.slots)
        lines = [f"Metric of {self.dim} unconstrained values, from {self.source}; standard deviations:"]
        for name, slot in self.slots.items():
            own = sds[slot.slice]
            low, high = f"{own.min():.3g}", f"{own.max():.3g}"
            lines.append(f"  {name:{width}}  {low if low == high else f'{low} to {high}'}")
        rank = len(self.stretches)
        correlated = self.factor.nnz - self.dim
        lines.append(
            f"correlations: {f'{rank} directions' if rank else f'{correlated} entries' if correlated else 'none'}"
        )
        return "\n".join(lines)
