"""Members of a multivariate population as offsets from it: value = location + Cholesky factor times offset."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer.reparam.reparam import Reparam
from torch import Tensor

__all__ = ["MULTIVARIATE", "MultivariateOffsets", "offsets_of"]

MULTIVARIATE = (dist.MultivariateNormal, dist.MultivariateStudentT)
"""Families of a location and a Cholesky factor."""


class MultivariateOffsets(Reparam):
    """Samples offsets that are uncorrelated and of unit scale, ``{site}_decentered``; `LocScaleReparam` for vectors."""

    def apply(self, msg: Any) -> Any:
        """Called by Pyro in place of the sample statement."""
        name, value = msg["name"], msg["value"]
        family, event_dim = self._unwrap(msg["fn"])  # type: ignore[no-untyped-call]  # Pyro has no annotation there
        offsets = pyro.sample(
            f"{name}_decentered",
            self._wrap(_standard(family), event_dim),  # type: ignore[no-untyped-call]
            obs=None if value is None else offsets_of(family, value),
            infer={"is_observed": msg["is_observed"]},
        )
        if value is None:
            value = family.loc + (family.scale_tril @ offsets[..., None])[..., 0]
        return {"fn": dist.Delta(value, event_dim=event_dim).mask(False), "value": value, "is_observed": True}


def _standard(family: Any) -> Any:
    """The distribution of the offsets."""
    zeros = torch.zeros_like(family.loc)
    if isinstance(family, dist.MultivariateStudentT):
        size = zeros.shape[-1]
        return dist.MultivariateStudentT(family.df, zeros, torch.eye(size, dtype=zeros.dtype, device=zeros.device))
    return dist.Normal(zeros, 1.0).to_event(1)


def offsets_of(family: Any, value: Tensor) -> Tensor:
    """The offsets at which members have these values, ``(*batch, size)``."""
    away = (value - family.loc)[..., None]
    factor = family.scale_tril.expand(away.shape[:-2] + family.scale_tril.shape[-2:])
    solved: Tensor = torch.linalg.solve_triangular(factor, away, upper=False)[..., 0]
    return solved
