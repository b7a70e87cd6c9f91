"""A first look at the priors: each is built for one member, and a value is drawn for each param."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch.distributions import Distribution

from ..errors import PriorError
from ..graph.plates.layout import PlateLayout
from .circles import check_circle, circle_bounds
from .distributions import to_pyro
from .priors import PriorFit, draw_one, fit_prior
from .ranges import arguments_of, check_range
from .simulate import Values, pointer_values
from .sites import Source
from .supports import check_support

__all__ = ["SeenPriors", "look_at_priors"]


@dataclass(frozen=True)
class SeenPriors:
    """What came out of looking at the priors, by param or by site."""

    templates: dict[str, Distribution]
    fits: dict[str, PriorFit]
    values: Values


def look_at_priors(layout: PlateLayout, found: Sequence[Source]) -> SeenPriors:
    """Build every prior for one member, and draw a value that all members share.

    Args:
        layout: The plates of the graph.
        found: The params with their priors, parents first.

    Raises:
        PriorError: A prior cannot be built, does not fit its param, or leaves the range of what it is an argument of.
    """
    seen = SeenPriors({}, {}, {})
    for source in found:
        placement, prior = source.placement, source.prior
        _check_arguments(source, found, seen)
        template = _one_member(layout, source, seen.values)
        seen.fits[source.name] = fit_prior(
            source.name, prior, placement.shape, layout.sizes(placement.plates), template
        )
        bounds = layout.bounds(placement.param)
        if circle_bounds(placement.param, bounds) is None:
            check_support(source, template)
        else:
            check_circle(source, template)
        drawn = draw_one(template, placement.param.value, placement.shape)
        own = drawn.ndim - len(placement.shape)
        drawn = drawn[(0,) * own] if own > 0 else drawn
        seen.values[placement.param] = drawn.expand(placement.root_shape + placement.plate_shape + placement.shape)
        seen.templates[source.name] = template
    return seen


def _check_arguments(source: Source, found: Sequence[Source], seen: SeenPriors) -> None:
    """Check that the params among a prior's arguments stay where the prior is defined."""
    of_param = {one.placement.param: one for one in found}
    for argument, param in arguments_of(source.prior).items():
        parent = of_param.get(param)
        if parent is not None and parent.name in seen.templates:
            template = seen.templates[parent.name]
            factory = source.prior.factory
            check_range(parent.name, parent.prior, template, argument, factory, f"that is the prior of {source.name}")


def _one_member(layout: PlateLayout, source: Source, values: Values) -> Any:
    """The prior of a param, for the first member of all plates."""

    def resolve(argument: Any) -> Any:
        if not hasattr(argument, "pointer"):
            return argument
        if argument.pointer:
            value, names = pointer_values(layout, values, argument)
            return value[(0,) * len(names)]
        placement = layout.placement(argument)
        known = values[argument] if argument in values else layout.held(argument)
        if known is None:
            raise PriorError(f"Param {placement.site} is an argument of a prior, but has no value.")
        return known[(0,) * (known.ndim - len(placement.shape))]

    try:
        return to_pyro(source.prior.build(resolve))
    except (ValueError, RuntimeError, TypeError) as error:
        raise PriorError(f"The prior {source.prior} of param {source.name} cannot be built: {error}") from error
