"""Draws of a reparametrised model as draws of the user's params."""

from __future__ import annotations

from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor

from ..bridge.model import BoundModel
from ..bridge.noncentered import NonCentered, reparametrise
from ..graph.plates.distributions import without_validation

__all__ = ["to_user_params"]


def to_user_params(bound: BoundModel, draws: dict[str, Tensor], noncentered: NonCentered) -> dict[str, Tensor]:
    """The params of each site from the sites that were sampled.

    Args:
        bound: The model.
        draws: By sampled site, the draws in front of Pyro's batch dims and the event dims.
        noncentered: Which sites were sampled as offsets.

    Returns:
        By site of the model, draws of shape ``(draws, *plates, *shape)``.
    """
    decisions = bound.decisions(noncentered)
    if any(decision.noncentered for decision in decisions.values()):
        model = reparametrise(bound.latents, decisions)

        def params_of_one(values: dict[str, Tensor]) -> dict[str, Any]:
            trace = poutine.trace(poutine.condition(model, data=values)).get_trace()
            return {site.name: trace.nodes[site.name]["value"] for site in bound.plan.sites}

        with torch.no_grad(), pyro.validation_enabled(False), without_validation():
            draws = torch.vmap(params_of_one)(draws)
    return {site.name: draws[site.name].reshape((-1, *site.draw_shape)) for site in bound.plan.sites}
