"""Draws for which a simulator fails."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from warnings import warn

from ..errors import IncompleteResultWarning

__all__ = ["warn_of_failures"]

PACKAGE = Path(__file__).parents[1]


def warn_of_failures(failed: Mapping[int, Exception], draws: int, then: str) -> None:
    """Warn of draws for which a simulator failed, at the line outside of the package that asked for it.

    Args:
        failed: What it raised, by draw.
        draws: How many draws there are.
        then: What that means for the result.

    Raises:
        Exception: What the simulator raised, where it did so for all draws.
    """
    if not failed:
        return
    first = next(iter(failed))
    if len(failed) == draws:
        raise failed[first]
    error = failed[first]
    line = (str(error).splitlines() or [""])[0]
    warn(
        IncompleteResultWarning(
            f"The simulator fails for {len(failed)} of {draws} draws, the first at place {first} of all chains one after the "
            f"other ({type(error).__name__}: {line}); {then}."
        ),
        stacklevel=_levels_up(),
    )


def _levels_up() -> int:
    """How many frames above the caller the first one outside of the package is."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and PACKAGE in Path(frame.f_code.co_filename).parents:
        level, frame = level + 1, frame.f_back
    return level
