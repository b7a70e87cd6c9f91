"""Whether all members at each step would be the better fit: what that costs."""

from __future__ import annotations

import math
import time
from warnings import warn

import pyro
import torch
from pyro import poutine

from ..bridge.bound import BoundModel
from ..bridge.reparametrise import NonCentered
from ..density.flat import FromFlat, make_flat
from ..errors import PerformanceWarning
from ..graph.plates.distributions import without_validation

__all__ = ["numbers_of", "seconds_for_all", "warn_of_a_cheap_whole"]

MOST_NUMBERS = 100_000
"""Of so many numbers, params and data together, a step of all takes less time than what Python does at a step of a few."""

SHORT = 1000
"""Steps: fits of fewer are over soon either way."""


def numbers_of(bound: BoundModel) -> int:
    """How many numbers a model has, of all members: its params and its data."""
    params = sum(math.prod(site.draw_shape) for site in bound.plan.latents)
    return params + sum(one.numel() for one in bound.data.values())


def seconds_for_all(bound: BoundModel, noncentered: NonCentered) -> float | None:
    """How long a step of all members takes at most, as it is not compiled; None where they may not fit into memory."""
    if numbers_of(bound) > MOST_NUMBERS:
        return None
    flat = make_flat(bound.whole().noncentered(noncentered))

    def density(z: torch.Tensor) -> torch.Tensor:
        with pyro.validation_enabled(False), without_validation():
            trace = poutine.trace(FromFlat(flat.slots, flat.fixed, z)(flat.model)).get_trace()
            found: torch.Tensor = flat.evaluator.log_prob(trace)
            return found

    slope = torch.func.grad(density)
    best = math.inf
    for _ in range(2):  # the first has caches to fill
        began = time.perf_counter()
        slope(torch.zeros(flat.dim, dtype=flat.dtype))
        best = min(best, time.perf_counter() - began)
    return best


def warn_of_a_cheap_whole(bound: BoundModel, steps: int, stacklevel: int) -> None:
    """Say that all members at each step are faster and surer, where they are few numbers."""
    few = [f"{size} of {bound.plan.sizes[name]} {name}" for name, size in bound.subsample_size.items()
           if size < bound.plan.sizes[name]]  # fmt: skip
    if few and steps >= SHORT and numbers_of(bound) <= MOST_NUMBERS:
        warn(
            PerformanceWarning(
                f"Each step sees {', '.join(few)}, though the whole model has only {numbers_of(bound):,} numbers: a fit "
                "of all at once is compiled, and mostly faster and surer. Bind without subsample_size=."
            ),
            stacklevel=stacklevel + 1,
        )
