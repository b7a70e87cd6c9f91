"""Lines of progress."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from tqdm.auto import tqdm

__all__ = ["Progress", "SamplingProgress", "progress_bar"]

SECONDS_BETWEEN_LINES = 10.0


@dataclass(frozen=True)
class Progress:
    """Where a chain stands."""

    chain: int
    step: int
    divergences: int
    step_size: float


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
    """One line for all chains, until the end of the ``with`` block: draws, divergences, step sizes, time left."""

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
        return f"chains: {shown}; step size {steps}; {divergences} divergences"
