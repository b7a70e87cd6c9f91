"""Many chains of NUTS in one process: one call of the density for a step of all of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .trajectory import Here, Trajectories, begin, begin_anew, grow
from .warmup import Density, Tuned, scaled

__all__ = ["STATS", "Record", "draw_all"]

STATS = ("lp", "energy", "acceptance_rate", "n_steps", "tree_depth", "diverging")
"""What is recorded of each draw, by its name in ArviZ's schema."""

SECONDS_BETWEEN_REPORTS = 0.1


class Record:
    """Draws of all chains and their statistics, in the memory of the processor.

    Attributes:
        z: Draws, ``(chains, draws, dim)``, in the coordinates of the density.
        stats: `STATS`, ``(chains, draws, len(STATS))``.
        count: How many draws each chain has made, ``(chains,)``.
        divergences: How many of them diverged.
    """

    def __init__(self, chains: int, draws: int, dim: int, dtype: torch.dtype) -> None:
        self.z = torch.empty(chains, draws, dim, dtype=dtype)
        self.stats = torch.empty(chains, draws, len(STATS), dtype=torch.float64)
        self.count = torch.zeros(chains, dtype=torch.long)
        self.divergences = 0

    def add(self, chains: Tensor, z: Tensor, now: Trajectories) -> None:
        """The draws ``(k, dim)`` of some chains, by number, ``(k,)``."""
        columns = (
            now.draw.log_density,
            now.draw.energy,
            now.acceptance_rate,
            now.steps,
            now.depth,
            now.diverged,
        )
        stats = torch.stack([one[chains].to(z.dtype) for one in columns], 1)
        at = chains.cpu()
        self.z[at, self.count[at]] = z.cpu()
        self.stats[at, self.count[at]] = stats.cpu().double()
        self.divergences += int(stats[:, -1].sum())
        self.count[at] += 1  # last, so that an interrupt leaves no draw counted that is not there

    def arrays(self, step_size: float, max_tree_depth: int) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
        """The draws that all chains have made, and statistics by name."""
        made = int(self.count.min())
        stats = {name: self.stats[:, :made, index].numpy() for index, name in enumerate(STATS)}
        whole = {name: stats[name].astype(np.int64) for name in ("n_steps", "tree_depth")}
        diverging = stats["diverging"].astype(bool)
        reached = (whole["tree_depth"] >= max_tree_depth) & ~diverging
        sizes = np.full(diverging.shape, step_size)
        rest = {"diverging": diverging, "reached_max_treedepth": reached, "step_size": sizes}
        return self.z[:, :made].numpy(), {**stats, **whole, **rest}


def draw_all(
    density: Density,
    tuned: Tuned,
    record: Record,
    levels: int,
    generator: torch.Generator,
    report: Callable[[int, int], None] = lambda *_: None,
) -> None:
    """Fill a record with draws; each chain goes on to its next trajectory when it has ended one.

    Args:
        density: The log density.
        tuned: What warm-up came to.
        record: Where draws go; after an error or an interrupt it holds those made so far.
        levels: The greatest depth of a trajectory.
        generator: Where chance comes from.
        report: Is told now and then how many draws there are in all, and how many diverged.
    """
    here, target = tuned.here, scaled(density, tuned.scale)
    steps = torch.full_like(here.log_density, tuned.step_size)
    now = begin(here, _momentum(here, generator), levels)
    draws, last = record.z.shape[1], 0.0
    active: Tensor | None = None
    going_on = torch.ones_like(steps, dtype=torch.bool)
    while bool(going_on.any()):
        now, ended = grow(now, target, steps, generator, active)
        ended = ended & going_on  # what others do means nothing, and takes no numbers of chance
        if bool(ended.any()):
            chains = ended.nonzero()[:, 0]
            record.add(chains, tuned.scale.out(now.draw.x[chains]), now)
            now = begin_anew(now, ended, _momentum(here, generator))
            going_on = (record.count < draws).to(ended.device)
            if density.by_row and not bool(going_on.all()):
                active = going_on.nonzero()[:, 0]
        if time.monotonic() - last > SECONDS_BETWEEN_REPORTS:
            last = time.monotonic()
            report(int(record.count.sum()), record.divergences)
    report(int(record.count.sum()), record.divergences)


def _momentum(here: Here, generator: torch.Generator) -> Tensor:
    return torch.randn(here.x.shape, generator=generator, device=here.x.device, dtype=here.x.dtype)
