"""How chains are run, and what comes of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..density import Block, Metric, Slot

__all__ = ["ADAPTATIONS", "Chain", "ChainSettings", "Dense"]

Dense = bool | list[tuple[str, ...]]

ADAPTATIONS = ("structured", "low_rank", "diagonal")
"""What nutpie's warm-up learns: covariances with the structure of the graph, the strongest correlations, or variances."""


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
        adapt: One of `ADAPTATIONS`; vectorized chains learn all correlations but for ``"diagonal"``.
        slots: By sampled site, its part of the vector.
        blocks: What may depend on what, for the structured adaptation.
        starts: For each chain a starting point ``(dim,)``; None where the chain is to find one.
        metric: The inverse mass matrix that the warm-up starts with; None for that of the sampler.
    """

    draws: int
    tune: int
    seed: int
    target_accept: float
    max_tree_depth: int
    engine: str
    dense: Dense = False
    adapt: str = "diagonal"
    slots: Mapping[str, Slot] = field(default_factory=dict)
    blocks: tuple[Block, ...] = ()
    starts: tuple[np.ndarray[Any, Any], ...] | None = None
    metric: Metric | None = None


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
