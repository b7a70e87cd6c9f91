"""Draws of a reparametrised model as draws of the user's params."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
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


def to_user_params(
    bound: BoundModel,
    draws: dict[str, Tensor],
    noncentered: NonCentered,
    pointers: Collection[str] | None = None,
    mapped: bool = True,
) -> dict[str, Tensor]:
    """The params of each site from the sites that were sampled, and what pointers make of them.

    Args:
        bound: The model.
        draws: By sampled site, the draws in front of Pyro's batch dims and the event dims.
        noncentered: Which sites were sampled as offsets.
        pointers: Names of those to compute; all by default.
        mapped: Whether all draws are computed at once, and not one after the other.

    Returns:
        By site of the model, and by pointer, draws of shape ``(draws, *plates, *shape)``; those of discrete sites, which
        were summed out, are drawn given the rest.
    """
    plan = bound.plan
    decisions = bound.decisions(noncentered)
    if any(site.name not in draws for site in bound.discrete):
        draws = draws | draw_discrete(bound, draws, noncentered)
    computed = [one for one in plan.reported if not one.from_simulator and (pointers is None or one.name in pointers)]
    inner = {
        site.name: draws[site.name].reshape((-1, *site.draw_shape)) for site in plan.latent_inner if site.name in draws
    }
    if computed or any(decision.reparam is not None for decision in decisions.values()):
        model = reparametrise(partial(bound.latents, [one.name for one in computed]), decisions)
        names = [site.name for site in plan.sites] + [one.name for one in computed]
        known = {name: value for name, value in draws.items() if name not in inner}

        def params_of_one(values: dict[str, Tensor]) -> dict[str, Any]:
            trace = poutine.trace(poutine.condition(model, data=values)).get_trace()
            return {name: trace.nodes[name]["value"] for name in names}

        with torch.no_grad(), pyro.validation_enabled(False), without_validation():
            draws = torch.vmap(params_of_one)(known) if mapped else _one_by_one(params_of_one, known)
    reported: tuple[Quantity, ...] = (*plan.sites, *computed)
    shapes = {one.name: one.draw_shape for one in reported}
    return {name: draws[name].reshape((-1, *shape)) for name, shape in shapes.items()} | inner


def _one_by_one(function: Callable[[dict[str, Tensor]], dict[str, Any]], draws: dict[str, Tensor]) -> dict[str, Tensor]:
    count = len(next(iter(draws.values())))
    rows = [function({name: value[draw] for name, value in draws.items()}) for draw in range(count)]
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
