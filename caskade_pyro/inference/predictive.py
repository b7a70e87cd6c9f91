"""Predictions: what the data would look like for given params, or for params from the priors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from pyro import poutine
from torch import Tensor

from ..bridge.model import BoundModel
from ..bridge.plan import Plan
from .progress import progress_bar
from .seeds import seeded, stream_seed

__all__ = ["draw_predictions"]


def draw_predictions(
    bound: BoundModel, params: Mapping[str, np.ndarray[Any, Any]] | None, draws: int, seed: int, progress: bool
) -> dict[str, np.ndarray[Any, Any]]:
    """Run a model without its data, once for each draw.

    Args:
        bound: The model.
        params: By site, draws ``(draws, *plates, *shape)`` to run it at; None draws from the priors.
        draws: How many.
        seed: Of the predictions.
        progress: Whether to show how far it is.

    Returns:
        By latent site and by observation, ``(draws, *plates, *shape)``.
    """
    plan = bound.plan
    shapes = {site.name: site.draw_shape for site in plan.sites}
    shapes |= {one.name: one.batch_shape + one.event_shape for one in plan.observations.values()}
    found: dict[str, list[Tensor]] = {name: [] for name in shapes}
    with seeded(stream_seed(seed, 1)), torch.no_grad(), progress_bar(draws, "predict", "draw", progress) as bar:
        for draw in range(draws):
            model = bound.predictive if params is None else _at(bound, plan, params, draw)
            trace = poutine.trace(model).get_trace()
            for name, shape in shapes.items():
                found[name].append(_natural(plan, name, cast("Tensor", trace.nodes[name]["value"]), shape))
            bar.update()
    return {name: torch.stack(values).numpy() for name, values in found.items()}


def _at(bound: BoundModel, plan: Plan, params: Mapping[str, np.ndarray[Any, Any]], draw: int) -> Any:
    values = {}
    for site in plan.sites:
        value = torch.as_tensor(params[site.name][draw])
        values[site.name] = value.reshape(site.plates.batch_shape + site.source.placement.shape)
    return poutine.condition(bound.predictive, data=values)


def _natural(plan: Plan, name: str, value: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A value with its dims in the user's order: those of Pyro may be spread out, or lie in another order."""
    observation = plan.observations.get(name)
    if observation is None:
        return value.reshape(shape)
    at = [plan.dims[dim] for dim in observation.dims]
    order = sorted(range(len(at)), key=lambda index: at[index])
    compact = value.reshape(tuple(observation.batch_shape[index] for index in order) + observation.event_shape)
    back = [order.index(index) for index in range(len(at))]
    return compact.permute(*back, *range(len(at), compact.ndim))
