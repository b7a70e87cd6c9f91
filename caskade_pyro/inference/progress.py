"""Lines of progress: one for each chain, or one for a loop."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from tqdm.auto import tqdm

__all__ = ["Progress", "ProgressBars", "progress_bar"]

SECONDS_BETWEEN_LINES = 10.0


@dataclass(frozen=True)
class Progress:
    """Where a chain stands."""

    chain: int
    step: int
    divergences: int
    step_size: float


def progress_bar(total: int, description: str, unit: str, show: bool, position: int | None = None) -> Any:
    """A line of progress; in a log file, where lines cannot be drawn over, a new one only now and then."""
    pause = 0.1 if sys.stderr.isatty() or "ipykernel" in sys.modules else SECONDS_BETWEEN_LINES
    return tqdm(
        total=total,
        desc=description,
        unit=unit,
        disable=not show,
        position=position,
        mininterval=pause,
        maxinterval=pause,
    )


class ProgressBars:
    """Shows where each chain stands, until the end of the ``with`` block."""

    def __init__(self, chains: int, tune: int, draws: int, show: bool) -> None:
        self.tune = tune
        self.bars = [
            progress_bar(tune + draws, f"chain {chain + 1}", "step", show, position=chain) for chain in range(chains)
        ]

    def __enter__(self) -> ProgressBars:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for bar in self.bars:
            bar.close()

    def update(self, progress: Progress) -> None:
        """Move the bar of a chain to where it stands."""
        bar = self.bars[progress.chain]
        if bar.n == 0:
            bar.unpause()  # a chain may have waited for a core; its speed counts from its own start
        stage = "warm-up" if progress.step <= self.tune else "sampling"
        bar.set_postfix_str(
            f"{stage}, step size {progress.step_size:.2g}, {progress.divergences} divergences", refresh=False
        )
        bar.update(progress.step - bar.n)
