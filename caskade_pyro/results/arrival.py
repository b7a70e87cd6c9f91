"""Whether a fit has arrived, as far as its losses tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from warnings import warn

import numpy as np

from ..errors import ConvergenceWarning

__all__ = [
    "loss_that_still_falls",
    "unsettled",
    "warn_of_falling_loss",
    "warn_of_members_left_behind",
    "warn_of_wander",
]

FEWEST = 40
"""Of fewer steps the losses are too few to tell a fall from noise."""

PARTS = 5
"""The losses of a quarter of the steps are averaged in so many parts, whose spread says how sure the fall is."""

SURE = 4.0

WORTH = 1.0
"""In nats: a loss that falls by less changes the guide by less than anyone would see."""

WORTH_OF_EACH = 0.005
"""Likewise for each number that a guide describes, where they are many."""

FAR = 1.0
"""The most that params of a settled fit move: by a standard deviation, or steadily one way."""

JUMP = 30.0
"""In units of what the middle half of the losses spans: single steps with losses so far up are no noise."""

MOST_JUMPS = 0.02
"""Of the last steps: more of them, and the fit is not stable."""

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


def unsettled(losses: np.ndarray[Any, Any], wander: Mapping[str, float]) -> str | None:
    """What the last steps of a fit of a few members at a time say against it; None where it has arrived.

    Args:
        losses: At each step.
        wander: By site, how much what members share still moved; 1 is the most of a settled fit.
    """
    if len(losses) < FEWEST:
        return None
    far = {site: off for site, off in wander.items() if not off <= FAR}
    if far:
        worst = max(far, key=lambda site: far[site])
        others = f" (and {len(far) - 1} more)" if len(far) > 1 else ""
        return f"over its last steps {worst.removesuffix('_decentered')}{others} moved {far[worst]:.2g} times as much as may be"
    last = losses[-(len(losses) // 4) :]
    low, middle, high = np.quantile(last, (0.25, 0.5, 0.75))
    jumps = float(np.mean(last - middle > max(JUMP * (high - low), WORTH)))
    return (
        f"{jumps:.0%} of its last steps had losses far above the rest, so that it is not stable"
        if jumps > MOST_JUMPS
        else None
    )


def warn_of_wander(
    losses: np.ndarray[Any, Any], wander: Mapping[str, float], seconds: float | None, stacklevel: int
) -> None:
    """Warn of a fit of a few members at a time that did not settle.

    Args:
        losses: At each step.
        wander: By site, how much what members share still moved; 1 is the most of a settled fit.
        seconds: How long as many steps of all members take at most; None where that is not known.
        stacklevel: Where to say that the warning comes from.
    """
    because = unsettled(losses, wander)
    if because is None:
        return
    cost = "" if seconds is None else f" (as many steps of all members take at most {max(seconds, 1.0):.0f} s here)"
    warn(
        ConvergenceWarning(
            f"The fit has not arrived: {because}. Bind without subsample_size=, which fits all members at once{cost}; or take "
            "more steps=, a larger subsample_size= or more particles=."
        ),
        stacklevel=stacklevel + 1,
    )
