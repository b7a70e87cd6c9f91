"""Statistics of values on a circle, whose two ends are one point (Mardia and Jupp 2000)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr

__all__ = ["circle", "mean", "unwrapped"]


def circle(draws: xr.DataArray) -> tuple[float, float] | None:
    """The ends of the circle on which a variable lies; None for one on a line."""
    ends = draws.attrs.get("circle")
    return None if ends is None else (float(ends[0]), float(ends[1]))


def mean(draws: xr.DataArray, ends: tuple[float, float], dims: Any) -> xr.DataArray:
    """The mean direction."""
    low, high = ends
    angle = 2 * math.pi * (draws - low) / (high - low)
    turn = np.arctan2(np.sin(angle).mean(dims), np.cos(angle).mean(dims)) / (2 * math.pi)
    found: xr.DataArray = low + (high - low) * (turn % 1.0)
    return found


def unwrapped(draws: xr.DataArray) -> xr.DataArray:
    """Draws as distances from their mean direction, so that a posterior across the seam is in one piece."""
    ends = circle(draws)
    if ends is None:
        return draws
    width = ends[1] - ends[0]
    return (draws - mean(draws, ends, ("chain", "draw")) + width / 2) % width - width / 2
