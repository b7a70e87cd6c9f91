"""How chains are run, and what comes of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Chain", "ChainSettings", "Dense"]

Dense = bool | list[tuple[str, ...]]


@dataclass(frozen=True)
class ChainSettings:
    """How a chain is run.

    Attributes:
        draws: How many draws to keep.
        tune: How many steps of warm-up before them.
        seed: The seed of the whole run.
        target_accept: The acceptance probability that the step size is adapted to.
        max_tree_depth: The bound on the number of doublings of a trajectory.
        engine: ``"nutpie"``, ``"pyro"`` or ``"vectorized"``.
        dense: For Pyro, sites whose joint covariance the mass matrix learns, True for all.
        low_rank: For nutpie and vectorized chains, whether the mass matrix learns correlations.
        starts: For each chain a starting point ``(dim,)``; None where the chain is to find one.
        variances: For Pyro, those that the mass matrix starts with, ``(dim,)``.
    """

    draws: int
    tune: int
    seed: int
    target_accept: float
    max_tree_depth: int
    engine: str
    dense: Dense = False
    low_rank: bool = True
    starts: tuple[np.ndarray[Any, Any], ...] | None = None
    variances: np.ndarray[Any, Any] | None = None


@dataclass(frozen=True)
class Chain:
    """The draws of one chain.

    Attributes:
        draws: Unconstrained, ``(draws, dim)``.
        stats: By name, one value for each draw.
        step_size: The adapted step size.
        complete: Whether all draws were made.
    """

    draws: np.ndarray[Any, Any]
    stats: dict[str, np.ndarray[Any, Any]]
    step_size: float
    complete: bool
