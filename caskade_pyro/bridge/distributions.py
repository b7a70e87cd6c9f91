"""Distributions for Pyro: torch's own get Pyro's methods."""

from __future__ import annotations

import copy
from typing import Any

import pyro.distributions as dist
import torch
from torch.distributions import Distribution, Independent

from ..errors import ModelError
from .reached import with_way

__all__ = ["NotFactorisedError", "base_of", "expand_own", "own_objects", "to_pyro", "with_global_validation"]

NotFactorisedError: type[RuntimeError] = torch.linalg.LinAlgError  # type: ignore[attr-defined]
"""What torch raises where a matrix is singular or not positive definite."""


def to_pyro(distribution: Distribution) -> Any:
    """The same distribution with the methods that `pyro.sample` needs.

    Raises:
        ModelError: Pyro has no class for it.
    """
    distribution = with_way(distribution)
    if hasattr(distribution, "mask") and hasattr(distribution, "to_event"):
        return distribution
    kind = getattr(dist, type(distribution).__name__, None)
    if not (isinstance(kind, type) and issubclass(kind, type(distribution))):
        raise ModelError(
            f"Pyro has no counterpart of the distribution {type(distribution).__name__}; derive it from "
            "pyro.distributions.TorchDistribution."
        )
    converted = copy.copy(distribution)
    converted.__class__ = kind
    if hasattr(converted, "base_dist"):
        converted.base_dist = to_pyro(converted.base_dist)
    return converted


def base_of(distribution: Any) -> Any:
    """The distribution of single values, without what repeats, masks or groups them; a transformed one stays as it is."""
    while isinstance(distribution, (Independent, dist.ExpandedDistribution, dist.MaskedDistribution)):
        distribution = distribution.base_dist
    return distribution


def expand_own(distribution: Any, left: tuple[int, ...], own: tuple[int, ...]) -> Any:
    """A distribution with batch shape ``left + own`` whose ``own`` dims are event dims."""
    if tuple(distribution.batch_shape) != left + own:
        distribution = distribution.expand(left + own)
    return distribution.to_event(len(own)) if own else distribution


def with_global_validation(distribution: Any) -> Any:
    """A copy that checks its values or not as is set at the time of use, not as was set when it was made.

    A distribution that is kept between calls must not keep on checking where Pyro has switched that off: samplers do,
    and a tracer cannot follow the checks.
    """
    free = copy.copy(distribution)
    free.__dict__.pop("_validate_args", None)
    for name, part in vars(free).items():  # the base of a transformed one, the Dirichlet of a Beta, parts of a mixture
        if isinstance(part, Distribution):
            free.__dict__[name] = with_global_validation(part)
    return free


def own_objects(distribution: Any) -> Any:
    """The same distribution as an object of its own, and those that it is made of.

    torch's distributions keep what they have computed, a covariance of a precision say. What is computed while a density is
    traced means nothing outside of the trace, and must not be kept by a distribution that lives on.
    """
    free = copy.copy(distribution)
    for name, part in vars(free).items():
        if isinstance(part, Distribution):
            free.__dict__[name] = own_objects(part)
    return free
