"""R-hat of many short chains."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from scipy.special import ndtri
from scipy.stats import rankdata

__all__ = ["nested_rhat"]

Array = np.ndarray[Any, Any]


def nested_rhat(draws: xr.Dataset, superchains: int) -> xr.Dataset:
    """The nested R-hat of each value (Margossian et al. 2024), of ranks and of folded ranks, whichever is larger.

    Chains of few draws differ by chance, which the common R-hat counts as disagreement. Here groups of chains that started at
    the same point are compared, whose means differ by less.

    Args:
        draws: With dims chain and draw; chains of a group are neighbours.
        superchains: How many groups.

    Returns:
        The same data without these dims. Infinite for a variable that did not move; NaN for single elements of one that did,
        which are no draws, as the zeros of a triangle.
    """

    def of_values(values: Array) -> Array:
        flat = values.reshape((-1, *values.shape[-2:]))
        moved = np.ptp(flat, axis=(1, 2)) > 0
        looked_at = moved | ~moved.any()
        found = [_of_one(one, superchains) if look else np.nan for one, look in zip(flat, looked_at, strict=True)]
        return np.array(found).reshape(values.shape[:-2])

    found: xr.Dataset = xr.apply_ufunc(of_values, draws, input_core_dims=[["chain", "draw"]])
    return found


def _of_one(draws: Array, superchains: int) -> float:
    """Of the draws ``(chains, draws)`` of one number."""
    folded = np.abs(draws - np.median(draws))
    found = _of_ranks(draws, superchains)
    return max(found, _of_ranks(folded, superchains)) if np.ptp(folded) > 0 else found


def _of_ranks(draws: Array, superchains: int) -> float:
    ranks = rankdata(draws.reshape(-1)).reshape(draws.shape)
    normal = ndtri((ranks - 0.375) / (draws.size + 0.25))
    groups = np.array_split(normal, superchains)
    between = np.var([group.mean() for group in groups], ddof=1)
    within = np.mean([_within(group) for group in groups])
    return float(np.sqrt(1 + between / within)) if within > 0 else float("inf")


def _within(group: Array) -> float:
    """The variance in a group of chains: of their means, and within each."""
    means = np.var(group.mean(1), ddof=1) if len(group) > 1 else 0.0
    return float(means + (np.mean(np.var(group, axis=1, ddof=1)) if group.shape[1] > 1 else 0.0))
