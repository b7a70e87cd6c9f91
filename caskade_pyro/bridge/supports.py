"""Where values can lie: the support of a prior against the bounds of its param."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, biject_to, constraints, transform_to

from ..errors import PriorError
from .reached import Reached
from .sites import Source

__all__ = ["check_support", "describe_support", "limits"]

Limits = tuple[Tensor, Tensor]

OfMixture: Any = getattr(constraints, "MixtureSameFamilyConstraint", ())
"""The support of a mixture, which has that of its components within; before torch 2.6 it was that itself."""

WRAPPED = (constraints.independent, OfMixture) if OfMixture else (constraints.independent,)

UNBOUNDED = (constraints.real, constraints.real_vector)
POSITIVE = (
    constraints.positive,
    constraints.nonnegative,
    constraints.nonnegative_integer,
    constraints.positive_integer,
)


def limits(support: Any) -> Limits | None:
    """The lowest and the highest value of a support; None where it is no interval."""
    support = _of_values(support)
    infinity = torch.tensor(torch.inf)
    if any(support is one for one in UNBOUNDED):
        return -infinity, infinity
    if support is constraints.simplex:
        return torch.tensor(0.0), torch.tensor(1.0)
    low, high = getattr(support, "lower_bound", None), getattr(support, "upper_bound", None)
    if low is None and high is None:
        return None
    lowest = -infinity if low is None else torch.as_tensor(low)
    highest = infinity if high is None else torch.as_tensor(high)
    return lowest.detach(), highest.detach()


def _of_values(support: Any) -> Any:
    """The support of single values."""
    while True:
        if isinstance(support, Reached):
            support = support.of
        elif isinstance(support, WRAPPED):
            support = support.base_constraint
        else:
            return support


def _to_components(support: Any) -> Any:
    """The map from the real line to the support of a mixture, which its components have in common.

    Raises:
        NotImplementedError: They have bounds of their own, so that the values lie on no single interval.
    """
    bounds = (getattr(_of_values(support), name, None) for name in ("lower_bound", "upper_bound"))
    if any(isinstance(bound, Tensor) and bound.ndim > 0 for bound in bounds):
        raise NotImplementedError("the components of a mixture have bounds of their own")
    return biject_to(support.base_constraint)


if OfMixture:  # torch knows none
    biject_to.register(OfMixture, _to_components)
    transform_to.register(OfMixture, _to_components)


def check_support(source: Source, one_member: Distribution) -> None:
    """Check that a prior draws no values beyond the bounds of its param.

    Raises:
        PriorError: It does. Bounds are never a clip of draws, so one of the two must be wrong.
    """
    param = source.placement.param
    low, high = param.valid
    found = limits(one_member.support)
    if found is None or (low is None and high is None):
        return
    beyond_low = low is not None and bool((found[0] < low - _rounding(low)).any())
    beyond_high = high is not None and bool((found[1] > high + _rounding(high)).any())
    if beyond_low or beyond_high:
        shown = f"({_show(low, '-inf')}, {_show(high, 'inf')})"
        raise PriorError(
            f"The prior {source.prior} of param {source.name} has the support {describe_support(one_member.support)}, which "
            f"reaches beyond valid={shown}. Take a prior that stays inside, such as ck.TruncatedNormal(loc, scale, low, "
            "high), dist.HalfNormal or dist.Uniform; or widen valid."
        )


def _rounding(bound: Tensor) -> Tensor:
    return 1e-6 * (1 + bound.abs())


def _show(bound: Tensor | None, unbounded: str) -> str:
    if bound is None:
        return unbounded
    return f"{bound.item():.4g}" if bound.numel() == 1 else str(bound.tolist())


KNOWN = {
    "Real()": "real",
    "GreaterThan(lower bound=0.0)": "> 0",
    "GreaterThanEq(lower bound=0.0)": ">= 0",
    "IntegerGreaterThan(lower bound=0)": "0, 1, 2, ...",
    "Boolean()": "0 or 1",
}


def describe_support(support: Any) -> str:
    """A support in short, for people."""
    support = _of_values(support)
    # Torch takes the first letter off the name of a class, which in its own ones is an underscore.
    kind: Any = type(support)
    own = kind.__repr__ is constraints.Constraint.__repr__ and not kind.__name__.startswith("_")
    text = (kind.__name__ if own else str(support)).replace("_", " ")
    if text in KNOWN:
        return KNOWN[text]
    low, high = getattr(support, "lower_bound", None), getattr(support, "upper_bound", None)
    if low is not None and high is not None:
        return f"[{_number(low)}, {_number(high)}]"
    return text.removesuffix("()").lower()


def _number(bound: Any) -> str:
    return f"{float(bound):.4g}" if getattr(bound, "numel", lambda: 1)() == 1 else "..."
