"""How far a variational fit is from the posterior, by importance sampling."""

from __future__ import annotations

from typing import Any
from warnings import warn

import arviz as az
import numpy as np

from ..errors import ConvergenceWarning

__all__ = ["LARGEST_KHAT", "pareto_khat", "warn_of_khat"]

LARGEST_KHAT = 0.7
"""Above it, averages over draws from the fit cannot be mended by weights, nor trusted without (Yao et al. 2018)."""

SAME = 0.01
"""Log ratios that differ by no more than rounding are those of a fit that is the posterior."""


def pareto_khat(log_ratios: np.ndarray[Any, Any]) -> float:
    """The shape of the tail of importance ratios (Vehtari et al. 2024), minus infinity where they are all the same."""
    if not np.isfinite(log_ratios).all():
        return float("inf")
    if np.ptp(log_ratios) < SAME:
        return float("-inf")
    return float(az.psislw(log_ratios)[1])


def warn_of_khat(khat: float, guide: str, stacklevel: int) -> None:
    """Warn of a fit whose draws cannot be trusted."""
    if khat > LARGEST_KHAT:
        warn(
            ConvergenceWarning(
                f"The Pareto k-hat of the fit is {khat:.2f}, and above {LARGEST_KHAT} its draws can be far from the posterior: "
                f"{guide} has another shape, or has not converged. Sample with ck.sample(bound, start=fit), which starts "
                "here, or try another guide or more steps."
            ),
            stacklevel=stacklevel + 1,
        )
