"""The sample sites of a model: which params, with which priors, in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import MissingPriorError, PriorError
from ..graph.nodes.prior import Prior, as_prior
from ..graph.nodes.shapes import show
from ..graph.plates.layout import Placement, PlateLayout
from ..graph.plates.naming import close_to, look_up
from .precision import given_prior, in_precision
from .priors import default_prior

__all__ = ["Source", "check_complete", "parents_first", "plates_of", "sources"]


@dataclass(frozen=True)
class Source:
    """A dynamic param with its prior.

    Attributes:
        placement: Where it stands; its site has the placement's name.
        prior: Its prior.
        parents: The dynamic params that the prior depends on, through pointers as well.
        from_bounds: Whether the prior was made of the param's bounds.
    """

    placement: Placement
    prior: Prior
    parents: tuple[Any, ...]
    from_bounds: bool

    @property
    def name(self) -> str:
        """The name of the site."""
        return self.placement.site


def sources(layout: PlateLayout, overrides: Mapping[str, object]) -> tuple[tuple[Source, ...], tuple[Placement, ...]]:
    """The dynamic params with their priors, parents first; and those in plates of unknown size that have none.

    The simulator may draw the members of such plates itself, with params that have no prior in the graph.

    Raises:
        MissingPriorError: Params have no prior.
        PriorError: A prior depends on something that it cannot depend on, or ``overrides`` names no site.
    """
    dynamic = [placement for placement in layout.placements if placement.param.dynamic]
    overrides = _by_site(overrides, dynamic)
    found: dict[Any, Source] = {}
    missing: list[Placement] = []
    for placement in dynamic:
        prior, from_bounds = _prior_of(layout, placement, overrides)
        if prior is None:
            missing.append(placement)
        else:
            found[placement.param] = Source(placement, prior, _parents(layout, placement, prior), from_bounds)
    if any(all(layout.plate(name).size is not None for name in placement.chain) for placement in missing):
        raise MissingPriorError(_missing(missing))
    known = {param: [one for one in source.parents if one in found] for param, source in found.items()}
    order = parents_first(known, lambda param: found[param].name)
    return tuple(found[param] for param in order), tuple(missing)


def check_complete(missing: Sequence[Placement], drawn: Iterable[Any]) -> None:
    """Check that params without a prior were drawn by the simulator.

    Raises:
        MissingPriorError: Some were not.
    """
    params = set(drawn)
    left = [placement for placement in missing if placement.param not in params]
    if left:
        raise MissingPriorError(_missing(left))


def _prior_of(layout: PlateLayout, placement: Placement, overrides: Mapping[str, object]) -> tuple[Prior | None, bool]:
    """The prior of a param, in the precision of the model, and whether it was made of bounds."""
    given = as_prior(given_prior(placement, overrides), placement.site)
    if given is None:
        return default_prior(layout.bounds(placement.param)), True
    return in_precision(given, layout.double), False


def _by_site(overrides: Mapping[str, object], dynamic: list[Placement]) -> dict[str, object]:
    """The priors that a user gave, by the whole names of their sites."""
    sites = [placement.site for placement in dynamic]
    found: dict[str, object] = {}
    for given, prior in overrides.items():
        named = look_up(given, sites)
        if named.name is None:
            listed = ", ".join(sites) or "none"
            raise PriorError(f"priors= names {given}, but the sites are {listed}{close_to(given, named)}.")
        if named.name in found:
            raise PriorError(f"priors= names {named.name} twice.")
        found[named.name] = prior
    return found


def _missing(missing: Sequence[Placement]) -> str:
    lines = "\n".join(f"  {p.site} {show(p.shape)}" for p in missing)
    return (
        f"These dynamic params have no prior:\n{lines}\n"
        f"Give each one a prior (param.prior = dist.Normal(0.0, 1.0), or ck.prior(dist.Normal, mean, scale) with params), "
        f'or PyroModel(..., priors={{"{missing[0].site}": ...}}), or bounds valid=(low, high) for a uniform one, or fix it '
        "with to_static(value)."
    )


def _parents(layout: PlateLayout, placement: Placement, prior: Prior) -> tuple[Any, ...]:
    """The dynamic params behind the params among a prior's arguments."""
    parents: dict[Any, None] = {}
    for argument in prior.parents:
        if argument not in layout.paths:
            raise PriorError(
                f"The prior {prior} of param {placement.site} depends on param {argument.name!r}, which is not in the graph "
                f"of {layout.root!r}: make it an attribute of one of its modules."
            )
        if getattr(argument, "live", False):
            raise PriorError(
                f"The prior {prior} of param {placement.site} depends on {layout.paths[argument]}, a live param, which has "
                "no value before the simulator runs. Make it dynamic or give it a value."
            )
        outside = [name for name in plates_of(layout, argument) if name not in placement.plates]
        if outside:
            raise PriorError(
                f"The prior {prior} of param {placement.site}, in the plates {show_plates(placement.plates)}, depends on "
                f"{layout.paths[argument]}, which has a value for each member of {show_plates(tuple(outside))}. A prior can "
                "only depend on params of the same plates or of plates around them."
            )
        below = argument.structure.dynamic_params if argument.pointer else (argument,) if argument.dynamic else ()
        parents.update(dict.fromkeys(below))
    return tuple(parents)


def plates_of(layout: PlateLayout, param: Any) -> tuple[str, ...]:
    """The plates along which the value of a param is repeated; for a pointer, all those around it or what it reads."""
    if not param.pointer:
        return layout.placement(param).plates
    read = {plate for one in param.structure.params if not one.pointer for plate in layout.placement(one).plates}
    around = {name for name in layout.chains[param] if layout.plate(name).size is not None}
    replicated = {plate.name for plate in layout.plates if plate.module is layout.root} & read
    return tuple(plate.name for plate in layout.plates if plate.name in around | replicated)


def show_plates(names: tuple[str, ...]) -> str:
    """Plate names for a message."""
    return ", ".join(names) or "none"


def parents_first(parents: Mapping[Any, Sequence[Any]], name: Callable[[Any], str]) -> list[Any]:
    """Params in their order, but each after those that its prior depends on.

    Args:
        parents: For each param, those that its prior depends on, themselves among the keys.
        name: The name of a param, for messages.

    Raises:
        PriorError: They depend on each other in a circle.
    """
    ordered: dict[Any, None] = {}
    for first in parents:
        path: dict[Any, None] = {first: None}
        while path:
            param = next(reversed(path))
            waiting = [parent for parent in parents[param] if parent not in ordered]
            if not waiting:
                ordered[param] = None
                del path[param]
            elif waiting[0] in path:
                cycle = " -> ".join(name(p) for p in [*list(path)[list(path).index(waiting[0]) :], waiting[0]])
                raise PriorError(f"The priors depend on each other in a circle: {cycle}.")
            else:
                path[waiting[0]] = None
    return list(ordered)
