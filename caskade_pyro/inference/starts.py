"""Where chains start: near the posterior, each at a place of its own."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import numpy as np
import torch

from ..density import LogDensity
from .pathfinder import Path, find_path
from .seeds import seeded, stream_seed

__all__ = ["find_starts"]

Array = np.ndarray[Any, np.dtype[np.float64]]

MOST_PATHS = 16

LEAST_MARGIN = 10.0
"""A path counts as lost whose evidence is smaller by e to the power of this, or of the number of params if there are more."""

DRAWS = 20
"""From how many draws of its path the start of a chain is chosen."""


def find_starts(density: LogDensity, chains: int, seed: int) -> tuple[Array, ...]:
    """A starting point for each chain, by several paths of Pathfinder that begin near the medians of the priors.

    Each chain starts at one of some draws from the approximation that a path of its own has found. Paths that ended at
    places of no weight are left out: a chain that starts there may never leave, although its posterior mass is nil.

    Args:
        density: The density to sample.
        chains: How many chains.
        seed: The same seed gives the same points.

    Returns:
        For each chain ``(dim,)``.

    Raises:
        SamplingError: No point of finite density was found.
    """
    # A simulator that runs in Python costs so much at each point that one path for each chain has to do.
    count = chains if density.form == "eager" else min(max(2 * chains, 4), max(MOST_PATHS, chains))
    points = _Points(density)
    with seeded(stream_seed(seed, 0)):
        tried = [_follow(points, seed, number) for number in range(count)]
        alive = _without_lost(tried)
        if not alive:
            return tuple(attempt.begin for attempt in tried[:chains])
        return tuple(_start(points, *one) for one in islice(cycle(alive), chains))


class _Points:
    """The density in numpy, and zero where the simulator fails: far from the data it may meet what it was not made for."""

    def __init__(self, density: LogDensity) -> None:
        self.density = density

    def __call__(self, x: Array) -> tuple[float, Array]:
        try:
            value, gradient = self.density.value_and_grad(
                torch.as_tensor(x).to(dtype=self.density.dtype, device=self.density.device)
            )
        except (ArithmeticError, LookupError, RuntimeError, ValueError):
            return -np.inf, np.zeros_like(x)
        return float(value), gradient.cpu().double().numpy()

    def log_density(self, x: Array) -> float:
        """The log density, minus infinity where it or its gradient is no number."""
        value, gradient = self(x)
        return value if np.isfinite(value) and np.isfinite(gradient).all() else -np.inf


@dataclass(frozen=True)
class _Attempt:
    """A path from a beginning; None if it led nowhere. The generator makes the draws that belong to it."""

    begin: Array
    path: Path | None
    random: np.random.Generator


def _follow(points: _Points, seed: int, number: int) -> _Attempt:
    begin = points.density.initial(stream_seed(seed, number)).cpu().double().numpy()
    random = np.random.default_rng([seed, number])
    return _Attempt(begin, find_path(points, begin, random), random)


def _without_lost(tried: list[_Attempt]) -> list[tuple[_Attempt, Path]]:
    """The attempts that led somewhere, but for those to places of no weight beside the best."""
    found = [(attempt, attempt.path) for attempt in tried if attempt.path is not None]
    best = max((path.elbo for _, path in found), default=0.0)
    margin = max(LEAST_MARGIN, tried[0].begin.size)
    return [(attempt, path) for attempt, path in found if path.elbo >= best - margin]


def _start(points: _Points, attempt: _Attempt, path: Path) -> Array:
    """One of the path's draws, chosen with the chances that bring draws to the posterior (importance resampling)."""
    draws, log_densities = path.approximation.draw(attempt.random, DRAWS)
    log_weights = np.array([points.log_density(draw) for draw in draws]) - log_densities
    if not np.isfinite(log_weights).any():
        return attempt.begin
    weights = np.exp(log_weights - log_weights[np.isfinite(log_weights)].max())
    return np.asarray(attempt.random.choice(draws, p=weights / weights.sum()))
