"""Whether a model can be run on some members of a plate."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import PlateError
from .plan import Plan

__all__ = ["SubsampleSize", "check_subsample", "check_subsample_sizes"]

SubsampleSize = Mapping[str, int]
"""By plate, how many of its members a run looks at."""


def check_subsample_sizes(plan: Plan, sizes: SubsampleSize) -> None:
    """Check what a user asks for.

    Raises:
        PlateError: A name is no plate of the model, or a size is none of its subsamples.
    """
    for name, size in sizes.items():
        if name not in plan.sizes:
            raise PlateError(f"subsample_size= names {name!r}, but the plates are {', '.join(plan.sizes) or 'none'}.")
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= plan.sizes[name]:
            raise PlateError(
                f"subsample_size= of plate {name} must be a number from 1 to its size {plan.sizes[name]}, not {size!r}."
            )
    check_subsample(plan, {name: size for name, size in sizes.items() if size != plan.sizes[name]})


def check_subsample(plan: Plan, sizes: SubsampleSize) -> None:
    """Check that the density of a subsample can be scaled up.

    Raises:
        PlateError: An observation depends on members of the plate, but does not lie in it: no factor makes what some
            members predict into what all of them predict. Or the plate counts replicates of the whole model.
    """
    for name in sizes:
        if any(plate.name == name and plate.module is plan.layout.root for plate in plan.layout.plates):
            raise PlateError(f"Plate {name} counts replicates of the whole model, which cannot be subsampled.")
        for observation in plan.observations.values():
            inside = [
                plan.layout.paths[param] for param in observation.reads if name in plan.layout.placement(param).plates
            ]
            if inside and name not in observation.dims:
                raise PlateError(
                    f"Plate {name} cannot be subsampled: the observation {observation.name!r} depends on "
                    f"{', '.join(inside[:3])} of its members, but {name} is none of its dims "
                    f"({', '.join(observation.dims) or 'it has none'}), so that a few members do not predict it. If it has a "
                    f"dim for the members, name it: dims={{{observation.name!r}: ({name!r}, ...)}}."
                )
