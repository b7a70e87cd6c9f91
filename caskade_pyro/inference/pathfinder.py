"""Normal approximations of a posterior, found along the way from a starting point to a mode.

L-BFGS climbs the log density; what it learns of the curvature makes a normal distribution at every point that it passes, and
the one that is closest to the posterior, by its evidence lower bound, is kept (Pathfinder; Zhang, Carpenter, Gelman
and Vehtari 2022, Journal of Machine Learning Research 23). The mode itself may be no good place: in a hierarchical model the
density can grow without bound where there is no volume.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular
from scipy.optimize import minimize

__all__ = ["Approximation", "Path", "find_path"]

Array = np.ndarray[Any, np.dtype[np.float64]]

LogDensityFunction = Callable[[Array], tuple[float, Array]]
"""From a vector, the log density and its gradient."""

ITERATIONS = 100
MEMORY = 6
"""How many steps L-BFGS remembers, as in the paper."""

LOOKS = 20
"""At how many points of a path the evidence lower bound is estimated."""

DRAWS = 5
"""From how many draws."""

LEAST_CURVATURE = 1e-12
IMPOSSIBLE = 1e300
"""What the optimiser, which knows no infinity, is told where the density is zero."""


@dataclass(frozen=True)
class Approximation:
    """A normal distribution whose covariance is diagonal up to some directions.

    Attributes:
        mean: ``(dim,)``.
        scales: ``(dim,)``; in units of these the covariance is the identity but in the directions.
        directions: Orthonormal columns, ``(dim, directions)``.
        factor: The Cholesky factor of the covariance in the directions, ``(directions, directions)``.
    """

    mean: Array
    scales: Array
    directions: Array
    factor: Array

    def draw(self, random: np.random.Generator, count: int) -> tuple[Array, Array]:
        """Draws ``(count, dim)`` and their log densities ``(count,)``."""
        noise = random.standard_normal((count, len(self.mean)))
        inside = noise @ self.directions
        spread = noise + (inside @ self.factor.T - inside) @ self.directions.T
        log_volume = np.log(np.diag(self.factor)).sum() + np.log(self.scales).sum()
        constant = 0.5 * len(self.mean) * np.log(2 * np.pi) + log_volume
        return self.mean + self.scales * spread, -0.5 * (noise**2).sum(1) - constant


@dataclass(frozen=True)
class Path:
    """What was found on one path.

    Attributes:
        elbo: The evidence lower bound of the approximation: the higher, the closer to the posterior.
        approximation: The best of those on the path.
    """

    elbo: float
    approximation: Approximation


def find_path(log_density: LogDensityFunction, start: Array, random: np.random.Generator) -> Path | None:
    """Follow one path up the density.

    Args:
        log_density: The log density and its gradient.
        start: Where to begin, ``(dim,)``.
        random: Makes the draws that estimate the evidence lower bounds.

    Returns:
        The best approximation; None where there is none, as on a density that is flat.
    """
    points = _climb(log_density, start)
    approximations = list(_approximations(points))
    if not approximations:
        return None
    looks = np.unique(np.linspace(0, len(approximations) - 1, LOOKS).astype(int))
    paths = [Path(_elbo(log_density, approximations[look], random), approximations[look]) for look in looks]
    best = max(paths, key=lambda path: path.elbo)
    return best if np.isfinite(best.elbo) else None


def _climb(log_density: LogDensityFunction, start: Array) -> list[tuple[Array, Array]]:
    """The points that L-BFGS passes, with the gradients of minus the log density there."""
    tried: list[tuple[Array, Array]] = []
    passed: list[tuple[Array, Array]] = []

    def downhill(x: Array) -> tuple[float, Array]:
        value, gradient = log_density(x)
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            return IMPOSSIBLE, np.zeros_like(x)
        tried.append((x.copy(), -gradient))
        return -value, -gradient

    def pass_by(x: Array) -> None:
        passed.extend([one for one in tried if np.array_equal(one[0], x)][-1:])
        tried.clear()

    downhill(start)
    pass_by(start)
    options = {"maxiter": ITERATIONS, "maxcor": MEMORY}
    minimize(downhill, start, jac=True, method="L-BFGS-B", callback=pass_by, options=options)
    return passed


def _approximations(points: list[tuple[Array, Array]]) -> Iterator[Approximation]:
    """The normal distribution at each point but the first, until one cannot be had."""
    if not points:
        return
    variances = np.ones(len(points[0][0]))
    steps: deque[Array] = deque(maxlen=MEMORY)
    changes: deque[Array] = deque(maxlen=MEMORY)
    for (before, gradient_before), (x, gradient) in pairwise(points):
        step, change = x - before, gradient - gradient_before
        if step @ change > LEAST_CURVATURE * (change @ change):
            variances = _updated(variances, step, change)
            steps.append(step)
            changes.append(change)
        if not steps:
            continue
        try:
            yield _approximation(x, gradient, variances, np.stack(steps, axis=1), np.stack(changes, axis=1))
        except np.linalg.LinAlgError:  # rounding has made the covariance indefinite, as it does near a mode
            return


def _updated(variances: Array, step: Array, change: Array) -> Array:
    """The diagonal inverse Hessian after a step (Gilbert and Lemaréchal 1989, as the paper's algorithm 3 has it)."""
    along = change @ step
    curved, straight = (change * variances) @ change, (step / variances) @ step
    inverse = curved / (along * variances) + change**2 / along - curved * step**2 / (along * straight * variances**2)
    return np.asarray(1 / inverse)


def _approximation(x: Array, gradient: Array, variances: Array, steps: Array, changes: Array) -> Approximation:
    """The normal distribution with the inverse Hessian of L-BFGS in its compact form (Byrd, Nocedal and Schnabel 1994)."""
    upper = np.triu(steps.T @ changes)
    inverse = solve_triangular(upper, np.eye(len(upper)))
    middle = inverse.T @ (np.diag(np.diag(upper)) + changes.T @ (variances[:, None] * changes)) @ inverse
    sides = np.hstack([variances[:, None] * changes, steps])
    inner = np.block([[np.zeros_like(upper), -inverse], [-inverse.T, middle]])
    scales = np.sqrt(variances)
    directions, triangle = np.linalg.qr(sides / scales[:, None])
    factor = np.linalg.cholesky(np.eye(len(triangle)) + triangle @ (inner + inner.T) / 2 @ triangle.T)
    mean = x - variances * gradient - sides @ (inner @ (sides.T @ gradient))
    return Approximation(mean, scales, directions, factor)


def _elbo(log_density: LogDensityFunction, approximation: Approximation, random: np.random.Generator) -> float:
    """An estimate of the evidence lower bound; minus infinity where a draw is impossible."""
    draws, log_densities = approximation.draw(random, DRAWS)
    found = float(np.mean([log_density(draw)[0] for draw in draws] - log_densities))
    return found if np.isfinite(found) else -np.inf
