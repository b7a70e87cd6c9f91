"""Params that enter a prediction where no derivative can follow: through comparisons, counts, indices, detached values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.util import get_rng_state, set_rng_seed, set_rng_state
from torch import Tensor

from ..graph.views.description import ModelDescription, SiteDescription

__all__ = ["with_hidden_parents"]

TRIES = 3
"""So often all params are moved together before one says that none matters; a comparison need not flip at once."""


def with_hidden_parents(model: Callable[[], Any], description: ModelDescription) -> ModelDescription:
    """Add to the parents of observations those that only show when they are moved.

    All params that no derivative reaches are drawn anew from their priors together. Only if that changes the log
    density of an observation, they are moved one by one. In most models that is a few runs of the simulator.

    Args:
        model: A Pyro model of no arguments.
        description: What derivatives say of it.

    Returns:
        The description with all parents.
    """
    latent = [site.name for site in description.sites if not site.likelihood and not site.deterministic]
    observed = [site for site in description.sites if site.likelihood]
    suspects = [name for name in latent if any(name not in site.parents for site in observed)]
    if not observed or not suspects:
        return description
    state = get_rng_state()
    try:
        with poutine.block(), torch.no_grad(), pyro.validation_enabled(False):
            found = _found_by_moving(model, [site.name for site in observed], suspects)
    finally:
        set_rng_state(state)
    added = {site.name: [name for name in suspects if name in found[site.name]] for site in observed}
    return replace(
        description, sites=tuple(_with_parents(site, added.get(site.name, ()), latent) for site in description.sites)
    )


def _with_parents(site: SiteDescription, added: Sequence[str], order: Sequence[str]) -> SiteDescription:
    parents = {*site.parents, *added}
    if len(parents) == len(site.parents):
        return site
    others = [name for name in site.parents if name not in order]
    return replace(site, parents=(*others, *(name for name in order if name in parents)))


def _found_by_moving(model: Callable[[], Any], observed: Sequence[str], suspects: Sequence[str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {name: set() for name in observed}
    base = _draw(model, 0)
    before = _terms(model, base, observed)
    for attempt in range(1, TRIES + 1):
        other = _draw(model, attempt)
        moved = {name: other[name] for name in suspects}
        after = _terms(model, base | moved, observed)
        for name in _changed(before, after):
            left = [one for one in suspects if one not in found[name]]
            found[name].update(
                one for one in left if name in _changed(before, _terms(model, base | {one: other[one]}, [name]))
            )
    return found


def _draw(model: Callable[[], Any], seed: int) -> dict[str, Tensor]:
    """A value for every site that is not computed from others, observed ones as they are."""
    set_rng_seed(seed)
    return {name: node["value"] for name, node in _sites(model).items() if not node["infer"].get("_deterministic")}


def _terms(model: Callable[[], Any], values: dict[str, Tensor], observed: Sequence[str]) -> dict[str, Tensor | None]:
    """The log densities of some observations; None where the simulator cannot take the values."""
    set_rng_seed(0)  # what the simulator draws itself stays the same
    try:
        sites = _sites(poutine.condition(model, values))
    except (ValueError, ArithmeticError, RuntimeError):
        return dict.fromkeys(observed)
    return {name: sites[name]["fn"].log_prob(sites[name]["value"]) for name in observed}


def _sites(model: Callable[[], Any]) -> dict[str, Any]:
    nodes: dict[str, Any] = poutine.trace(model).get_trace().nodes
    return {name: node for name, node in nodes.items() if node["type"] == "sample"}


def _changed(before: Mapping[str, Tensor | None], after: Mapping[str, Tensor | None]) -> list[str]:
    return [name for name, term in after.items() if _differ(before[name], term)]


def _differ(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return False
    return one.shape != other.shape or not bool(torch.equal(one.nan_to_num(), other.nan_to_num()))
