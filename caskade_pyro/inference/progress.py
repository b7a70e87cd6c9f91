"""Lines of progress."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
from tqdm.auto import tqdm

__all__ = ["Progress", "SamplingProgress", "progress_bar"]

SECONDS_BETWEEN_LINES = 10.0


@dataclass(frozen=True)
class Progress:
    """Where a chain stands.

    Attributes:
        chain: Its number.
        step: How many steps it has made.
        divergences: How many of them diverged.
        step_size: That of the last.
        ess: The effective sample size of each unconstrained value, where it has been looked at.
    """

    chain: int
    step: int
    divergences: int
    step_size: float
    ess: np.ndarray[Any, Any] | None = field(default=None, compare=False)


def progress_bar(total: int, description: str, unit: str, show: bool) -> Any:
    """A line of progress; in a log file, where lines cannot be drawn over, a new one only now and then."""
    pause = 0.1 if sys.stderr.isatty() or "ipykernel" in sys.modules else SECONDS_BETWEEN_LINES
    return tqdm(
        total=total,
        desc=description,
        unit=unit,
        disable=not show,
        mininterval=pause,
        maxinterval=pause,
    )


class SamplingProgress:
    """One line for all chains, until the end of the ``with`` block: draws, divergences, step sizes, ESS, time left."""

    def __init__(self, chains: int, tune: int, draws: int, show: bool) -> None:
        self.tune, self.chains = tune, chains
        self.total = tune + draws
        self.standing: dict[int, Progress] = {}
        self.bar = progress_bar(chains * self.total, "sample", "step", show)

    def __enter__(self) -> SamplingProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()

    def update(self, progress: Progress) -> None:
        """Take in where a chain stands."""
        self.standing[progress.chain] = progress
        self.bar.set_postfix_str(self.summary(), refresh=False)
        self.bar.update(sum(one.step for one in self.standing.values()) - self.bar.n)

    def summary(self) -> str:
        """Where the chains stand, in a few words."""
        at = self.standing.values()
        done = sum(one.step >= self.total for one in at)
        warming = sum(one.step < self.tune for one in at)
        stages = {"warming up": warming, "sampling": len(at) - done - warming, "done": done}
        shown = ", ".join(f"{count} {stage}" for stage, count in stages.items() if count)
        sizes = sorted(one.step_size for one in at)
        steps = f"{sizes[0]:.2g}" if f"{sizes[0]:.2g}" == f"{sizes[-1]:.2g}" else f"{sizes[0]:.2g} to {sizes[-1]:.2g}"
        divergences = sum(one.divergences for one in at)
        return f"chains: {shown}; step size {steps}; {divergences} divergences{self._effective()}"

    def _effective(self) -> str:
        """The smallest effective sample size so far, the chains' added up."""
        known = [one.ess for one in self.standing.values() if one.ess is not None]
        total = np.sum(known, axis=0) if known else np.array([np.nan])
        return "" if np.isnan(total).all() else f"; smallest ESS {np.nanmin(total):.0f}"
