"""Whether single precision resolves what was drawn."""

from __future__ import annotations

from collections.abc import Iterator

import arviz as az
import numpy as np
import torch

from ..bridge.bound import BoundModel
from ..bridge.many import trace_of_many
from ..bridge.plan import Plan
from ..bridge.resolution import IN_DOUBLE, lost_in_data, scale_of
from ..errors import ModelError

__all__ = ["unresolved"]

FINE = 20
"""A posterior whose standard deviation is fewer steps of single precision wide is not resolved."""

DRAWS = 3
"""At so many draws the scale of a likelihood is looked at, where it depends on params."""


def unresolved(bound: BoundModel, posterior: az.InferenceData) -> list[str]:
    """What the draws show of single precision being too coarse, a message for each."""
    return [*_params(bound.plan, posterior), *_data(bound, posterior)]


def _params(plan: Plan, posterior: az.InferenceData) -> Iterator[str]:
    group = posterior["posterior"]
    for site in plan.sites:
        draws = group[site.name]
        if site.discrete or draws.dtype != np.float32:
            continue
        wide = draws.values.astype(np.float64).std((0, 1))
        apart = np.spacing(np.abs(draws.values).max((0, 1)))
        steps = np.where(wide > 0, wide / apart, np.inf)
        at = np.unravel_index(int(np.argmin(steps)), steps.shape) if steps.size else None
        if at is not None and steps[at] < FINE:
            yield (
                f"Single precision (float32) does not resolve the posterior of {site.name}: its numbers lie {apart[at]:.2g} "
                f"apart there, and the draws have a standard deviation of {wide[at]:.2g}. Sample in double precision: "
                f"{IN_DOUBLE}; or give data, priors or constants as numpy arrays or tensors of torch.float64."
            )


def _data(bound: BoundModel, posterior: az.InferenceData) -> Iterator[str]:
    """Of data whose likelihood has a scale that depends on params, at some of the draws."""
    plan = bound.plan
    open_ones = [name for name, one in bound.data.items() if plan.observations[name].fixed_scale is None]
    single = [name for name in open_ones if bound.data[name].dtype != torch.float64]
    if not single or plan.inner:
        return
    group = posterior["posterior"].stack(sample=("chain", "draw"))
    picked = np.linspace(0, group.sizes["sample"] - 1, DRAWS).round().astype(int)
    thinned = group.isel(sample=picked).transpose("sample", ...)
    params = {site.name: torch.as_tensor(thinned[site.name].values) for site in plan.sites}
    try:
        trace = trace_of_many(bound, params, DRAWS, predict=False)
    except (ModelError, RuntimeError, ValueError):  # a simulator that runs for one draw at a time; it is not worth it
        return
    for name in single:
        scale = scale_of(trace.nodes[name]["fn"])
        message = None if scale is None else lost_in_data(plan, name, trace.nodes[name]["value"], scale)
        if message is not None:
            yield message
