"""The settings of a fit, checked at the door."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

from ..errors import SamplingError
from .engines import ENGINES

__all__ = ["check_draws", "check_fit_settings", "check_seed"]


def check_fit_settings(steps: Any, lr: Any, particles: Any, seed: Any, engine: Any) -> None:
    """Check the settings of a fit, of whatever kind they are.

    Raises:
        SamplingError: One cannot be what it is.
    """
    _check_count("steps", steps)
    _check_count("particles", particles)
    check_seed(seed)
    if isinstance(lr, bool) or not isinstance(lr, Real) or not 0 < float(lr) < math.inf:
        raise SamplingError(f"lr must be a positive number, such as 0.02, not {lr!r}.")
    if engine not in ENGINES:
        raise SamplingError(f"There is no engine {engine!r}; choose {', '.join(map(repr, ENGINES))}.")


def check_draws(draws: Any) -> None:
    """Check how many draws are asked for.

    Raises:
        SamplingError: It is no positive whole number.
    """
    _check_count("draws", draws)


def check_seed(seed: Any) -> None:
    """Check a seed.

    Raises:
        SamplingError: It is neither None nor a whole number from 0 on.
    """
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, Integral) or seed < 0):
        raise SamplingError(f"seed must be a whole number from 0 on, or None, not {seed!r}.")


def _check_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise SamplingError(f"{name} must be a whole number, not {value!r}.")
    if value < 1:
        raise SamplingError(f"{name} must be at least 1, not {value!r}.")
