"""Params that a density needs positive, or within other bounds, and priors that reach beyond these."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from ..errors import PriorError
from ..graph.nodes.prior import Prior
from ..graph.nodes.structure import is_param
from .distributions import base_of
from .supports import describe_support, limits

__all__ = ["arguments_of", "check_range", "is_outside", "may_leave", "positive_instead"]

NEGLIGIBLE = 1e-6
"""A prior may have so much probability where the density is not defined."""

DRAWS = 1000
"""From so many draws the probability is told of a prior whose quantiles are not known."""


def arguments_of(prior: Prior) -> dict[str, Any]:
    """The params among the arguments of a prior, by what the distribution calls them."""
    if prior.fixed is not None:
        return {}
    try:
        named = dict(inspect.signature(prior.factory).bind(*prior.args, **prior.kwargs).arguments)
    except (TypeError, ValueError):
        named = dict(prior.kwargs)
    return {name: one for name, one in named.items() if is_param(one)}


def check_range(path: str, prior: object, template: Distribution, argument: str, of: Any, what: str) -> None:
    """Check that a prior stays where a distribution is defined of which the param is an argument.

    Args:
        path: The path of the param.
        prior: Its prior, for the message.
        template: The prior of one member.
        argument: Which argument it is.
        of: The distribution, or its class.
        what: What this distribution is of, for the message.

    Raises:
        PriorError: It does not.
    """
    needed = _constraint(of, argument)
    if needed is None or not may_leave(template, of, argument):
        return
    low, high = needed
    kind = of if isinstance(of, type) else type(of)
    bounds = "positive" if low == 0 and high == torch.inf else f"between {float(low):g} and {float(high):g}"
    raise PriorError(
        f"Param {path} is the {argument} of the {kind.__name__} {what}, which must be {bounds}, but its prior {prior} has the "
        f"support {describe_support(template.support)}. {positive_instead(low, high)}"
    )


def may_leave(template: Distribution, of: Any, argument: str) -> bool:
    """Whether a prior has probability where a distribution, of which the param is an argument, is not defined."""
    needed = _constraint(of, argument)
    return needed is not None and _mass_outside(template, *needed) > NEGLIGIBLE


def positive_instead(low: Tensor, high: Tensor) -> str:
    """Which priors stay within bounds."""
    if high < torch.inf:
        return "Take dist.Beta or dist.Uniform, or ck.TruncatedNormal(loc, scale, low, high)."
    return (
        f"Take dist.HalfNormal, dist.LogNormal or dist.Gamma, or ck.TruncatedNormal(loc, scale, low={float(low):.1f})."
    )


def _constraint(of: Any, argument: str) -> tuple[Tensor, Tensor] | None:
    """The bounds of an argument that is a number between bounds."""
    known = getattr(of, "arg_constraints", None)
    constraint = known.get(argument) if isinstance(known, Mapping) else None
    if constraint is None or constraints.is_dependent(constraint) or constraint.event_dim:
        return None
    found = limits(constraint)
    return None if found is None or bool(torch.isinf(found[0]).any() and torch.isinf(found[1]).any()) else found


def _mass_outside(template: Any, low: Tensor, high: Tensor) -> float:
    """How much probability a prior has outside of some bounds, at most over its components."""
    if getattr(template.support, "is_discrete", False) or len(base_of(template).event_shape):
        return 0.0
    reach = limits(template.support)
    if reach is None or (bool((reach[0] >= low).all()) and bool((reach[1] <= high).all())):
        return 0.0
    base = base_of(template)
    with torch.no_grad():
        try:
            below = base.cdf(low.to(base.mean)) if torch.isfinite(low) else torch.zeros(())
            above = 1 - base.cdf(high.to(base.mean)) if torch.isfinite(high) else torch.zeros(())
            return float((below + above).max())
        except (NotImplementedError, AttributeError, ValueError):
            pass
        try:
            drawn = base.sample((DRAWS,))
        except NotImplementedError:
            return 0.0
        return float(((drawn < low) | (drawn > high)).double().mean())


def is_outside(distribution: Any) -> Iterator[tuple[str, Tensor]]:
    """The arguments of a distribution that are not within their bounds, with a value that is not."""
    base = base_of(distribution)
    for argument in getattr(base, "arg_constraints", {}):
        bounds = _constraint(base, argument)
        value = getattr(base, argument, None) if bounds is not None and argument in vars(base) else None
        if isinstance(value, Tensor) and bounds is not None:
            outside = (value < bounds[0]) | (value > bounds[1]) | ((value == bounds[0]) & (bounds[0] == 0))
            if bool(outside.any()):
                yield argument, value[outside][0]
