"""Effective sample sizes of a chain while it runs: many columns at once, cheap enough to look at every few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["Looks", "effective_sizes"]

Array = np.ndarray[Any, Any]

FEWEST = 8

SECONDS_BETWEEN_LOOKS = 2.0

SHARE = 0.05
"""Of the time, at most so much goes into looking."""

COLUMNS = 4096
"""So many columns are looked at, the first; shared params come before those of members."""


class Looks:
    """Looks at the draws of a chain now and then, seldom enough to cost next to nothing.

    Attributes:
        sizes: The effective sample size of each column at the last look; None before.
    """

    def __init__(self) -> None:
        self.sizes: Array | None = None
        self.next = time.monotonic() + SECONDS_BETWEEN_LOOKS

    def look(self, draws: Callable[[], Array]) -> None:
        """Look, if it is time: the draws so far are ``(draws, columns)``."""
        began = time.monotonic()
        if began < self.next:
            return
        self.sizes = effective_sizes(draws()[:, :COLUMNS])
        now = time.monotonic()
        self.next = now + max(SECONDS_BETWEEN_LOOKS, (now - began) / SHARE)


def effective_sizes(draws: Array) -> Array:
    """The effective sample size of each column of one chain, by Geyer's (1992) initial monotone sequence.

    The two halves of the chain count as two chains (Vehtari et al. 2021), so that a drift shows.

    Args:
        draws: ``(draws, columns)``.

    Returns:
        ``(columns,)``; NaN where a column did not move, and for all of them while there are fewer than eight draws.
    """
    half = len(draws) // 2
    if 2 * half < FEWEST:
        return np.full(draws.shape[1], np.nan)
    halves = np.stack([draws[:half], draws[-half:]])
    within = _autocovariances(halves)
    with np.errstate(invalid="ignore", divide="ignore"):
        total = within[:, 0].mean(axis=0) + halves.mean(axis=1).var(axis=0, ddof=1)
        correlations = 1 - (within[:, :1] - within).mean(axis=0) / total
        correlations[0] = 1.0
        pairs = correlations[: half // 2 * 2].reshape(half // 2, 2, -1).sum(axis=1)
        positive = np.logical_and.accumulate(pairs > 0, axis=0)
        falling = np.minimum.accumulate(np.where(positive, pairs, 0.0), axis=0)
        sizes = 2 * half / np.maximum(2 * falling.sum(axis=0) - 1, 1 / np.log10(2 * half))
    return np.where(total > 0, sizes, np.nan)


def _autocovariances(chains: Array) -> Array:
    """Of each column at each lag, ``(chains, lags, columns)``."""
    length = chains.shape[1]
    padded = 2 ** int(np.ceil(np.log2(2 * length)))
    spectrum = np.fft.rfft(chains - chains.mean(axis=1, keepdims=True), n=padded, axis=1)
    found: Array = np.fft.irfft(np.abs(spectrum) ** 2, n=padded, axis=1)[:, :length] / length
    return found
