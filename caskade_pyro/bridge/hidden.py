"""Params that enter a prediction where no derivative can follow: through comparisons, counts, indices, detached values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor

from ..graph.views.description import ModelDescription, SiteDescription
from .improper import BeginSomewhere
from .randomness import own_numbers

__all__ = ["is_followed", "with_hidden_parents"]

DRAWS = 10
"""At so many draws from the priors a derivative is looked for."""

TRIES = 3
"""So often all params are moved together before one says that none matters; a comparison need not flip at once."""


def with_hidden_parents(
    model: Callable[[], Any], latents: Callable[[], Any], description: ModelDescription, params: Sequence[str]
) -> ModelDescription:
    """Add to the parents of observations those that only show when they are moved.

    All params that no derivative reaches are drawn anew from their priors together. Only if that changes the log
    density of an observation, they are moved one by one. In most models that is four runs of the simulator, or none.

    Args:
        model: A Pyro model of no arguments.
        latents: The model of its params alone, without the simulator.
        description: What derivatives say of it.
        params: The sites that are params of the graph; what the simulator draws itself is left where it is.

    Returns:
        The description with all parents.
    """
    latent = [site.name for site in description.sites if not site.likelihood and not site.deterministic]
    observed = [site for site in description.sites if site.likelihood]
    suspects = [name for name in params if any(name not in site.parents for site in observed)]
    if not observed or not suspects:
        return description
    with poutine.block(), pyro.validation_enabled(False):
        draws = [_draw(latents, params, seed) for seed in range(TRIES + 1)]
        found = _found_by_moving(model, [site.name for site in observed], suspects, draws)
    added = {site.name: [name for name in suspects if name in found[site.name]] for site in observed}
    return replace(
        description, sites=tuple(_with_parents(site, added.get(site.name, ()), latent) for site in description.sites)
    )


def is_followed(
    model: Callable[[], Any], latents: Callable[[], Any], observed: str, param: str, params: Sequence[str]
) -> bool:
    """Whether a derivative leads from an observation to a param at some of a few draws from the priors.

    A simulator that branches may have one on one side only.

    Args:
        model: A Pyro model of no arguments.
        latents: The model of its params alone.
        observed: The site of the observation.
        param: The site of the param.
        params: All sites that are params.
    """
    with own_numbers(0), poutine.block(), pyro.validation_enabled(False), torch.enable_grad():
        return any(_leads(model, observed, param, _draw(latents, params, seed)) for seed in range(DRAWS))


def _leads(model: Callable[[], Any], observed: str, param: str, values: dict[str, Tensor]) -> bool:
    leaf = values[param].detach().clone().requires_grad_()
    try:
        node = _sites(poutine.condition(model, values | {param: leaf}))[observed]
        density = node["fn"].log_prob(node["value"]).sum()
        return density.requires_grad and torch.autograd.grad(density, leaf, allow_unused=True)[0] is not None
    except (ValueError, ArithmeticError, RuntimeError):  # the simulator cannot take these values
        return False


def _with_parents(site: SiteDescription, added: Sequence[str], order: Sequence[str]) -> SiteDescription:
    parents = {*site.parents, *added}
    if len(parents) == len(site.parents):
        return site
    others = [name for name in site.parents if name not in order]
    return replace(site, parents=(*others, *(name for name in order if name in parents)))


def _found_by_moving(
    model: Callable[[], Any], observed: Sequence[str], suspects: Sequence[str], draws: Sequence[dict[str, Tensor]]
) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {name: set() for name in observed}
    before, base = _run(model, draws[0], observed)
    for other in draws[1:]:
        moved = {name: other[name] for name in suspects}
        after, _ = _run(model, base | moved, observed)
        for name in _changed(before, after):
            for one in suspects:
                if one not in found[name]:
                    alone, _ = _run(model, base | {one: other[one]}, [name])
                    found[name].update({one} if _changed(before, alone) else ())
    return found


Terms = dict[str, Tensor | None]


def _draw(latents: Callable[[], Any], params: Sequence[str], seed: int) -> dict[str, Tensor]:
    """A value for every param."""
    with own_numbers(seed):
        sites = _sites(latents)
    return {name: sites[name]["value"] for name in params}


def _run(
    model: Callable[[], Any], values: dict[str, Tensor], observed: Sequence[str]
) -> tuple[Terms, dict[str, Tensor]]:
    """The log densities of some observations at these values, and the values of all sites.

    The log densities are None where the simulator cannot take the values.
    """
    try:
        with own_numbers(0):  # what the simulator draws itself stays the same
            sites = _sites(poutine.condition(model, values))
    except (ValueError, ArithmeticError, RuntimeError):
        return dict.fromkeys(observed), {}
    return {name: sites[name]["fn"].log_prob(sites[name]["value"]) for name in observed}, _values(sites)


def _sites(model: Callable[[], Any]) -> dict[str, Any]:
    with BeginSomewhere():
        nodes: dict[str, Any] = poutine.trace(model).get_trace().nodes
    return {name: node for name, node in nodes.items() if node["type"] == "sample"}


def _values(sites: Mapping[str, Any]) -> dict[str, Tensor]:
    """The values of all sites that are not computed from others, observed ones as they are."""
    return {name: node["value"] for name, node in sites.items() if not node["infer"].get("_deterministic")}


def _changed(before: Mapping[str, Tensor | None], after: Mapping[str, Tensor | None]) -> list[str]:
    return [name for name, term in after.items() if _differ(before[name], term)]


def _differ(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return False
    return one.shape != other.shape or not bool(torch.equal(one.nan_to_num(), other.nan_to_num()))
