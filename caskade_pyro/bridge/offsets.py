"""Members of a multivariate population as offsets from it, in units of its Cholesky factor."""

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
    """Samples uncorrelated offsets, ``{site}_decentered``, as `LocScaleReparam` does for single values.

    With the marginal scales s, the factor L and a centredness c an offset has the location c loc and the scales s^c, and the
    value is loc + L (offset - c loc) / s^c.

    Args:
        centered: How far values are left centred, from 0 (offsets in units of the scales) on.
    """

    def __init__(self, centered: float = 0.0) -> None:
        self.centered = centered

    def apply(self, msg: Any) -> Any:
        """Called by Pyro in place of the sample statement."""
        name, value = msg["name"], msg["value"]
        family, event_dim = self._unwrap(msg["fn"])  # type: ignore[no-untyped-call]  # Pyro has no annotation there
        scales, loc = _scales(family, self.centered), self.centered * family.loc
        offsets = pyro.sample(
            f"{name}_decentered",
            self._wrap(_uncorrelated(family, loc, scales), event_dim),  # type: ignore[no-untyped-call]
            obs=None if value is None else offsets_of(family, value, self.centered),
            infer={"is_observed": msg["is_observed"]},
        )
        if value is None:
            value = family.loc + (family.scale_tril @ ((offsets - loc) / scales)[..., None])[..., 0]
        return {"fn": dist.Delta(value, event_dim=event_dim).mask(False), "value": value, "is_observed": True}


def _scales(family: Any, centered: float) -> Tensor:
    """The marginal scales, to the power of how far values are left centred."""
    if centered == 0:
        return torch.ones_like(family.loc)
    variances: Tensor = family.scale_tril.square().sum(-1)
    return variances ** (centered / 2)


def _uncorrelated(family: Any, loc: Tensor, scales: Tensor) -> Any:
    """The distribution of the offsets."""
    if isinstance(family, dist.MultivariateStudentT):
        return dist.MultivariateStudentT(family.df, loc, torch.diag_embed(scales))
    return dist.Normal(loc, scales).to_event(1)


def offsets_of(family: Any, value: Tensor, centered: float) -> Tensor:
    """The offsets at which members have these values, ``(*batch, size)``."""
    away = (value - family.loc)[..., None]
    factor = family.scale_tril.expand(away.shape[:-2] + family.scale_tril.shape[-2:])
    standard = torch.linalg.solve_triangular(factor, away, upper=False)[..., 0]
    found: Tensor = centered * family.loc + _scales(family, centered) * standard
    return found
