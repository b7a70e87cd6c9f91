"""Whether a fit has arrived, as far as its losses tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from warnings import warn

import numpy as np

from ..errors import ConvergenceWarning

__all__ = ["loss_that_still_falls", "warn_of_falling_loss", "warn_of_members_left_behind"]

FEWEST = 40
"""Of fewer steps the losses are too few to tell a fall from noise."""

PARTS = 5
"""The losses of a quarter of the steps are averaged in so many parts, whose spread says how sure the fall is."""

SURE = 4.0

WORTH = 1.0
"""In nats: a loss that falls by less changes the guide by less than anyone would see."""

WORTH_OF_EACH = 0.005
"""Likewise for each number that a guide describes, where they are many."""


SEEN = 1000
"""So often each member has to be seen by a guide whose params of members and of their population move at the same pace.

With 20,000 members of which the data say little, a hundred at a step, the scale of the population came out at half of what is
right after 75 times.
"""


def loss_that_still_falls(losses: np.ndarray[Any, Any], dim: int) -> float | None:
    """By how much the loss fell from the third quarter of the steps to the last one; None where that is nothing.

    Args:
        losses: At each step.
        dim: How many numbers the guide describes.
    """
    if len(losses) < FEWEST:
        return None
    quarter = len(losses) // 4
    before, after = (_parts(part) for part in (losses[-2 * quarter : -quarter], losses[-quarter:]))
    fall = float(before.mean() - after.mean())
    error = float(np.sqrt((before.var(ddof=1) + after.var(ddof=1)) / PARTS))
    return fall if fall > max(WORTH, WORTH_OF_EACH * dim, SURE * error) else None


def _parts(losses: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Medians of parts: single draws of a guide that is too wide may have huge losses."""
    return np.array([np.median(part) for part in np.array_split(losses, PARTS)])


def warn_of_falling_loss(losses: np.ndarray[Any, Any], dim: int, stacklevel: int) -> None:
    """Warn of a fit that was stopped while its loss was falling."""
    fall = loss_that_still_falls(losses, dim)
    if fall is not None:
        warn(
            ConvergenceWarning(
                f"The fit has not arrived: over the last {len(losses) // 4} of its {len(losses)} steps the loss still fell by "
                f"{fall:.3g}. Take more steps=, or a larger lr=."
            ),
            stacklevel=stacklevel + 1,
        )


def warn_of_members_left_behind(visits: Mapping[str, float], guide: str, stacklevel: int) -> None:
    """Warn of a fit whose members were seen so seldom that their population may have moved on without them.

    Args:
        visits: By plate, how often each member was seen.
        guide: What has params of each member.
        stacklevel: Where to say that the warning comes from.
    """
    seldom = {plate: times for plate, times in visits.items() if times < SEEN}
    if seldom:
        seen = ", ".join(f"{times:.3g} times of plate {plate}" for plate, times in seldom.items())
        warn(
            ConvergenceWarning(
                f"The steps saw each member only {seen}, and {guide} has params of each that then lag behind those which all "
                "share: the scale of a population can come out far too small. Fit all members at once (bind without "
                "subsample_size=), take guide='normal' with engine='auto', or a guide that makes the params of a member from "
                "its data."
            ),
            stacklevel=stacklevel + 1,
        )
