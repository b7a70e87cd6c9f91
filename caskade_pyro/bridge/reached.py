"""Priors made by a transform of the user's own, whose support torch does not know how to reach."""

from __future__ import annotations

import copy
from typing import Any

import pyro.distributions as dist
import torch
from torch.distributions import ComposeTransform, Transform, biject_to, constraints, transform_to

__all__ = ["Reached", "how_to_reach", "with_way"]


class Reached(constraints.Constraint):
    """A support with the bijection that leads to it from the real line.

    Args:
        support: The support.
        way: The bijection.
    """

    def __init__(self, support: Any, way: Transform) -> None:
        self.of, self.way = support, way
        super().__init__()

    @property
    def is_discrete(self) -> bool:  # type: ignore[override] # torch has an attribute here
        """As the support says."""
        return bool(self.of.is_discrete)

    @property
    def event_dim(self) -> int:  # type: ignore[override] # as above
        """As the support says."""
        return int(self.of.event_dim)

    def check(self, value: Any) -> Any:
        """As the support says."""
        return self.of.check(value)

    def __repr__(self) -> str:
        return repr(self.of)


def _way(support: Reached) -> Transform:
    return support.way


biject_to.register(Reached, _way)
transform_to.register(Reached, _way)


class Transformed(dist.TransformedDistribution):  # type: ignore[misc] # Pyro has it untyped
    """A transformed distribution whose own transforms lead to its support."""

    @constraints.dependent_property
    def support(self) -> Any:
        """Where values lie."""
        found = super().support
        return Reached(found, ComposeTransform([biject_to(self.base_dist.support), *self.transforms]))


def with_way(distribution: Any) -> Any:
    """A transformed distribution that knows the way to its support; others, and those that torch can reach, as they are."""
    if type(distribution) not in (torch.distributions.TransformedDistribution, dist.TransformedDistribution):
        return distribution
    if _is_known(distribution.support) or not all(one.bijective for one in distribution.transforms):
        return distribution
    if not _is_known(distribution.base_dist.support):
        return distribution
    found = copy.copy(distribution)
    found.__class__ = Transformed
    return found


def _is_known(support: Any) -> bool:
    try:
        biject_to(support)
    except NotImplementedError:
        return False
    return True


def how_to_reach(support: Any) -> str:
    """What to register for a support of a class that torch has no bijection to."""
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    name = type(support).__name__
    return (
        f"register a bijection to it, torch.distributions.biject_to.register({name}, lambda support: ...), whose lambda "
        "returns a Transform from unconstrained values; or give a TransformedDistribution whose own transforms are bijective"
    )
