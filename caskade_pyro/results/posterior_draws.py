"""The draws of a posterior, as a model takes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import arviz as az
import numpy as np
import xarray as xr

from ..bridge.plan import InnerSite, Plan, Site
from ..errors import SamplingError
from .members import New, Places, find_members

__all__ = ["PosteriorDraws", "draws_of", "posterior_draws"]

Array = np.ndarray[Any, Any]

DRAWS = ("chain", "draw")


@dataclass(frozen=True)
class PosteriorDraws:
    """What a posterior says of the params of a model.

    Attributes:
        values: By site, ``(chains * draws, *plates, *shape)``, one chain after the other.
        known: By site of which the posterior knows some members only, which: a mask over its plates. The values of the others
            mean nothing.
        places: By plate, where its members stand in the posterior, and -1 for new ones.
        chains: How many chains there are.
        draws: How many draws each has.
    """

    values: Mapping[str, Array]
    known: Mapping[str, Array] = field(default_factory=dict)
    places: Places = field(default_factory=dict)
    chains: int = 1
    draws: int = 1

    @property
    def complete(self) -> frozenset[str]:
        """The sites that the posterior knows wholly."""
        return frozenset(self.values) - frozenset(self.known)

    @property
    def new_plates(self) -> frozenset[str]:
        """The plates with members that it does not know."""
        return frozenset(name for name, places in self.places.items() if (places < 0).any())

    def thinned(self, draws: int) -> PosteriorDraws:
        """So many draws of each chain, spread evenly over all."""
        picked = np.linspace(0, self.draws - 1, draws).round().astype(int)
        shape = (self.chains, self.draws)
        values = {
            name: value.reshape((*shape, *value.shape[1:]))[:, picked].reshape((-1, *value.shape[1:]))
            for name, value in self.values.items()
        }
        return PosteriorDraws(values, self.known, self.places, self.chains, draws)


def posterior_draws(
    plan: Plan, posterior: az.InferenceData, new: New = (), *, refuse: bool = True, stacklevel: int = 2
) -> PosteriorDraws:
    """The draws of every site of a plan.

    Members that have names are found by them: the plan may have them in another order, only some of them, or further ones.

    Args:
        plan: Of the model.
        posterior: The draws.
        new: Which members are new.
        refuse: Whether members that the posterior does not know, and that are not said to be new, are an error.
        stacklevel: Where to say that warnings come from.

    Raises:
        SamplingError: A site or a member is missing, or has another shape than the model gives it.
        PlateError: ``new`` names no plate, or no member.
    """
    group = draws_of(posterior)
    places = find_members(plan, group, new, refuse, stacklevel + 1)
    values: dict[str, Array] = {}
    known: dict[str, Array] = {}
    for site in plan.latents:
        mask = _known(site, places)
        if not mask.any():
            continue
        if site.name not in group:
            raise SamplingError(
                f"The posterior has no draws of {site.name}; it has {', '.join(map(str, group.data_vars))}."
            )
        values[site.name] = _values(site, group[site.name], places)
        if not mask.all():
            known[site.name] = mask
    return PosteriorDraws(values, known, places, group.sizes["chain"], group.sizes["draw"])


def _known(site: Site | InnerSite, places: Places) -> Array:
    """Which members of the plates of a site the posterior knows: those that it knows in every plate."""
    mask = np.ones(site.plates.sizes, dtype=bool)
    for axis, name in enumerate(site.plate_names):
        if name in places:
            shape = [-1 if at == axis else 1 for at in range(mask.ndim)]
            mask &= (places[name] >= 0).reshape(shape)
    return mask


def _values(site: Site | InnerSite, draws: xr.DataArray, places: Places) -> Array:
    """The draws of a site, of its members where they stand in the posterior; for new ones those of another."""
    names = site.plate_names
    ahead = [*DRAWS, *names] if all(name in draws.dims for name in names) else [*DRAWS]
    values = draws.transpose(*ahead, ...).values
    seen = values.shape[2:]
    for axis, name in enumerate(names, 2):
        if name in places and axis < values.ndim:
            at = places[name]
            if at.max(initial=-1) >= values.shape[axis]:
                raise _misfit(site, seen, f"its member {int(at.max())} of plate {name} is none of the posterior's")
            values = values.take(np.maximum(at, 0), axis)
    if values.shape[2:] != site.draw_shape:
        raise _misfit(site, seen, f"the model's have {site.draw_shape}")
    return values.reshape((-1, *site.draw_shape))


def _misfit(site: Site | InnerSite, seen: tuple[int, ...], why: str) -> SamplingError:
    return SamplingError(
        f"The draws of {site.name} have shape {seen}, but {why}. To predict for other members than those of the fit, name "
        "their plate: new=(...,)."
    )


def draws_of(posterior: object) -> xr.Dataset:
    """The draws of what a user gave as a posterior."""
    if isinstance(posterior, az.InferenceData):
        if "posterior" in posterior:
            found: xr.Dataset = posterior["posterior"]
            lacking = [name for name in DRAWS if name not in found.dims]
            if lacking:
                raise SamplingError(
                    f"The group 'posterior' has no dim {' and none '.join(lacking)}: select draws with lists, such as "
                    "posterior.isel(chain=[0]), which keeps both."
                )
            return found
        seen = f"has the groups {', '.join(posterior.groups()) or 'none'}"
    else:
        seen = f"is of the type {type(posterior).__name__}"
    raise SamplingError(
        "The posterior must be ArviZ data with a group 'posterior', as ck.sample and Fit.sample return; what was given "
        f"{seen}."
    )
