"""How far a variational fit is from the posterior, by importance sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from warnings import warn

import arviz as az
import numpy as np

from ..errors import ConvergenceWarning
from ..inference.weights import Weighed

__all__ = ["LARGEST_KHAT", "Shift", "largest_shift", "pareto_khat", "warn_of_khat", "warn_of_shift"]

LARGEST_KHAT = 0.7
"""Above it, averages over draws from the fit cannot be mended by weights, nor trusted without (Yao et al. 2018)."""

LARGEST_SHIFT = 0.5
"""Of a standard deviation: means of a fit that are further off have not converged."""

SURE = 5.0
"""So many standard errors, since the largest of many shifts is looked at."""

SAME = 0.01
"""Log ratios that differ by no more than rounding are those of a fit that is the posterior."""


def pareto_khat(log_ratios: np.ndarray[Any, Any]) -> float:
    """The shape of the tail of importance ratios (Vehtari et al. 2024), minus infinity where they are all the same."""
    if not np.isfinite(log_ratios).all():
        return float("inf")
    if np.ptp(log_ratios) < SAME:
        return float("-inf")
    return float(az.psislw(log_ratios)[1])


@dataclass(frozen=True)
class Shift:
    """How far a mean of a fit is off, as far as draws from it can tell.

    Attributes:
        site: Whose.
        size: In standard deviations of the fit.
        error: The standard error of that.
    """

    site: str
    size: float
    error: float


def largest_shift(weighed: Weighed) -> Shift:
    """The largest change of a mean that Pareto-smoothed weights make (Vehtari et al. 2024), over all unconstrained values."""
    weights = np.exp(az.psislw(weighed.log_ratios)[0])
    weights /= weights.sum()
    spread = weighed.z.std(axis=0)
    shifts = np.abs(weights @ weighed.z - weighed.z.mean(axis=0)) / np.where(spread > 0, spread, np.inf)
    worst = int(shifts.argmax())
    site = next(name for name, slot in weighed.slots.items() if slot.slice.start <= worst < slot.slice.stop)
    return Shift(site.removesuffix("_decentered"), float(shifts[worst]), float(np.sqrt(np.square(weights).sum())))


def warn_of_shift(shift: Shift, stacklevel: int) -> None:
    """Warn of a fit that has the right shape in the wrong place, which k-hat does not see."""
    if shift.size > max(LARGEST_SHIFT, SURE * shift.error):
        warn(
            ConvergenceWarning(
                f"The fit has not converged: weighted by the posterior, its draws of {shift.site} have a mean that is "
                f"{shift.size:.1f} of their standard deviations off. Take more steps=, or a larger lr=."
            ),
            stacklevel=stacklevel + 1,
        )


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
