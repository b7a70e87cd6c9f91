"""Runs on a density whose form is compared with a slower one afterwards, where the run has been."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from warnings import warn

import numpy as np
import numpy.typing as npt
import torch

from ..density import LogDensity, spread_over
from ..density.closeness import first_line
from ..errors import CaskadeException, PerformanceWarning

__all__ = ["distrusted", "run_trusted"]

POINTS = 12
"""At so many draws of a run its density is looked at."""

FAILURES = (ArithmeticError, CaskadeException, LookupError, RuntimeError, TypeError, ValueError)
"""What a simulator may raise where it is run once more."""

Found = TypeVar("Found")


def run_trusted(
    density: LogDensity,
    run: Callable[[bool], Found],
    draws: Callable[[Found], npt.NDArray[np.floating]],
    stacklevel: int,
) -> Found:
    """Run on a density; and again on its next form where the one that ran differs from a slower one at the draws.

    Forms are compared before a run, too, but there the posterior is not known: code may be right near the start, and wrong
    where a comparison or a count comes out otherwise.

    Args:
        density: The density.
        run: What to do with it; it is told whether this is not the first time.
        draws: Of what comes of that, the unconstrained draws ``(chains, draws, dim)``.
        stacklevel: Where to say that the warning comes from.
    """
    again = False
    while True:
        found = run(again)
        if not distrusted(density, draws(found), stacklevel + 1):
            return found
        again = True


def distrusted(density: LogDensity, draws: npt.NDArray[np.floating], stacklevel: int) -> bool:
    """Whether a density ran in a form that was wrong, which is then said; it is in the next one from now on.

    Args:
        density: The density.
        draws: Unconstrained, ``(chains, draws, dim)``.
        stacklevel: Where to say that the warning comes from.
    """
    try:
        wrong = density.distrust(spread_over(torch.as_tensor(draws), POINTS))
    except FAILURES as error:  # the draws are there, and are not to be lost
        message = f"The density could not be compared with the model at the draws: {first_line(error)}"
        warn(PerformanceWarning(message), stacklevel=stacklevel + 1)
        return False
    if wrong is not None:
        message = f"The run is done again on the {density.form} density, because {wrong}."
        warn(PerformanceWarning(message), stacklevel=stacklevel + 1)
    return wrong is not None
