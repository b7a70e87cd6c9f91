"""Draws of a reparametrised model as draws of the user's params."""

from __future__ import annotations

from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor

from ..bridge.bound import BoundModel
from ..bridge.enumeration import draw_discrete
from ..bridge.plan import Quantity
from ..bridge.reparametrise import NonCentered, reparametrise
from ..graph.plates.distributions import without_validation

__all__ = ["to_user_params"]


def to_user_params(bound: BoundModel, draws: dict[str, Tensor], noncentered: NonCentered) -> dict[str, Tensor]:
    """The params of each site from the sites that were sampled, and what pointers make of them.

    Args:
        bound: The model.
        draws: By sampled site, the draws in front of Pyro's batch dims and the event dims.
        noncentered: Which sites were sampled as offsets.

    Returns:
        By site of the model, and by pointer, draws of shape ``(draws, *plates, *shape)``; those of discrete sites, which
        were summed out, are drawn given the rest.
    """
    plan = bound.plan
    decisions = bound.decisions(noncentered)
    draws = draws | draw_discrete(bound, draws, noncentered)
    pointers = [one for one in plan.reported if not one.from_simulator]
    inner = {
        site.name: draws[site.name].reshape((-1, *site.draw_shape)) for site in plan.latent_inner if site.name in draws
    }
    if pointers or any(decision.reparam is not None for decision in decisions.values()):
        model = reparametrise(bound.latents, decisions)
        names = [site.name for site in plan.sites] + [one.name for one in pointers]
        known = {name: value for name, value in draws.items() if name not in inner}

        def params_of_one(values: dict[str, Tensor]) -> dict[str, Any]:
            trace = poutine.trace(poutine.condition(model, data=values)).get_trace()
            return {name: trace.nodes[name]["value"] for name in names}

        with torch.no_grad(), pyro.validation_enabled(False), without_validation():
            draws = torch.vmap(params_of_one)(known)
    reported: tuple[Quantity, ...] = (*plan.sites, *pointers)
    shapes = {one.name: one.draw_shape for one in reported}
    return {name: draws[name].reshape((-1, *shape)) for name, shape in shapes.items()} | inner
