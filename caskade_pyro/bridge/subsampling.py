"""Whether a model can be run on some members of a plate."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import PlateError
from .dim_names import find_plate
from .observations import Observation
from .plan import Plan

__all__ = ["SubsampleSize", "check_subsample", "resolved_sizes"]

SubsampleSize = Mapping[str, int]
"""By plate, how many of its members a run looks at."""


def resolved_sizes(plan: Plan, sizes: SubsampleSize) -> dict[str, int]:
    """The plates and sizes that a user asks for, plates by their whole names.

    Raises:
        PlateError: A name is no plate of the model, or a size is none of its subsamples.
    """
    found: dict[str, int] = {}
    for given, size in sizes.items():
        name = find_plate(f"subsample_size= names {given!r}", given, plan.sizes)
        if name in found:
            raise PlateError(f"subsample_size= names plate {name} twice.")
        if isinstance(size, bool) or not isinstance(size, numbers.Integral) or not 1 <= size <= plan.sizes[name]:
            raise PlateError(
                f"subsample_size= of plate {name} must be a number from 1 to its size {plan.sizes[name]}, not {size!r}."
            )
        found[name] = size
    return found


def check_subsample(plan: Plan, sizes: SubsampleSize) -> None:
    """Check that the density of a subsample can be scaled up.

    Raises:
        PlateError: Something depends on members of the plate, but does not lie in it, or on other members than its own: no
            factor makes what some members predict into what all of them predict. Or the plate counts replicates of the
            whole model.
    """
    for name in sizes:
        if any(plate.name == name and plate.module is plan.layout.root for plate in plan.layout.plates):
            raise PlateError(f"Plate {name} counts replicates of the whole model, which cannot be subsampled.")
        _check_priors(plan, name)
        for site in plan.inner:
            if inside := _members(plan, site.reads, name):
                raise PlateError(
                    f"Plate {name} cannot be subsampled: the site {site.name!r}, which the simulator samples itself, depends "
                    f"on {inside} of its members. Make it a dynamic param of the members, or fit all members at once."
                )
        for observation in plan.observations.values():
            _check_observation(plan, observation, name)


def _members(plan: Plan, params: Iterable[Any], plate: str) -> str:
    """Those of some params that the members of a plate have, for messages."""
    inside = [plan.layout.paths[param] for param in params if plate in plan.layout.placement(param).plates]
    return ", ".join(inside[:3])


def _check_priors(plan: Plan, plate: str) -> None:
    for site in plan.sites:
        for argument in site.source.prior.parents:
            through = (argument, *argument.structure.params) if argument.pointer else ()
            summary = next((one for one in through if plate in plan.layout.summaries.get(one, ())), None)
            if summary is not None:
                raise PlateError(
                    f"Plate {plate} cannot be subsampled: the prior {site.source.prior} of {site.name} depends on the pointer "
                    f"{plan.layout.paths[summary]}, which reads all of its members."
                )


def _check_observation(plan: Plan, observation: Observation, plate: str) -> None:
    inside = _members(plan, observation.reads, plate)
    if inside and plate not in observation.dims:
        raise PlateError(
            f"Plate {plate} cannot be subsampled: the observation {observation.name!r} depends on {inside} of its members, but "
            f"{plate} is none of its dims ({', '.join(observation.dims) or 'it has none'}), so that a few members do not "
            f"predict it. If it has a dim for the members, name it: dims={{{observation.name!r}: ({plate!r}, ...)}}."
        )
    if plate in observation.mixed:
        raise PlateError(
            f"Plate {plate} cannot be subsampled: what {observation.name!r} predicts for one of its members depends on the "
            "others as well, through a sum over them, say, so that a few members predict something else than all."
        )
