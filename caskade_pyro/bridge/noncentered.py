"""Non-centring: sampling the offsets of members from their population instead of their values.

Where a location-scale prior in a plate has hyperparameters, the spread of the members depends on the scale, and a
sampler meets a funnel (Betancourt and Girolami 2015). The graph knows these places. The model stays in the user's
params; the reparametrised one is made from it, and draws are brought back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyro.distributions as dist
from pyro.infer.reparam import LocScaleReparam
from pyro.infer.reparam.reparam import Reparam
from pyro.poutine import reparam

from ..errors import ModelError

if TYPE_CHECKING:
    from .plan import Plan, Site

__all__ = ["Decision", "NonCentered", "decide", "reparametrise"]

NonCentered = str | bool | Sequence[str]
"""``"auto"``, True or False for all sites that can be non-centred, or the names of those to be."""

FAMILIES = (dist.Normal, dist.StudentT, dist.Cauchy, dist.Laplace, dist.Gumbel)


@dataclass(frozen=True)
class Decision:
    """Whether a site is sampled non-centred, and why."""

    site: str
    noncentered: bool
    reason: str


def decide(plan: Plan, noncentered: NonCentered = "auto") -> dict[str, Decision]:
    """Decide for every site of a plan how it is sampled.

    Raises:
        ModelError: A named site does not exist or cannot be non-centred.
    """
    if isinstance(noncentered, str) and noncentered != "auto":
        raise ModelError(f"noncentered must be 'auto', True, False or a list of site names, not {noncentered!r}.")
    if not isinstance(noncentered, (str, bool)):
        _check_named(plan, noncentered)
    return {site.name: _decide_one(site, noncentered) for site in plan.sites}


def _check_named(plan: Plan, names: Sequence[str]) -> None:
    sites = {site.name: site for site in plan.sites}
    for name in names:
        if name not in sites:
            raise ModelError(f"noncentered= names {name!r}, but the sites are {', '.join(sites)}.")
        if (reason := _obstacle(sites[name])) is not None:
            raise ModelError(f"Site {name} cannot be non-centred: {reason}.")


def _decide_one(site: Site, noncentered: NonCentered) -> Decision:
    if not isinstance(noncentered, (str, bool)):
        return Decision(site.name, site.name in noncentered, "as asked for")
    obstacle = _obstacle(site)
    wanted = getattr(site.source.placement.param, "centered", None)
    if obstacle is not None:
        return Decision(site.name, False, obstacle)
    if wanted is not None and noncentered is not False:
        return Decision(site.name, not wanted, f"the param says centered={wanted}")
    if noncentered != "auto":
        return Decision(site.name, bool(noncentered), "as asked for")
    if not site.plates.names:
        return Decision(site.name, False, "it lies in no plate")
    return Decision(site.name, True, "in a plate, with hyperparameters")


def _obstacle(site: Site) -> str | None:
    """Why a site cannot be non-centred."""
    if not site.source.parents:
        return "its prior has no hyperparameters"
    if not isinstance(_base(site.template), FAMILIES):
        return "its prior is of no location-scale family"
    return None


def _base(distribution: Any) -> Any:
    while isinstance(distribution, (dist.Independent, dist.ExpandedDistribution)):
        distribution = distribution.base_dist
    return distribution


def reparametrise(model: Callable[..., Any], decisions: Mapping[str, Decision]) -> Callable[..., Any]:
    """A model in which the sites so decided are sampled as standardised offsets, ``{site}_decentered``."""
    chosen: dict[str, Reparam] = {
        name: LocScaleReparam(0.0) for name, decision in decisions.items() if decision.noncentered
    }
    return reparam(model, config=chosen) if chosen else model
