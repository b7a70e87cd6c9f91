"""Data: as tensors, checked against what is to explain them, and with their missing entries found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, constraints

from ..errors import ObservationError
from ..graph.arguments import check_mapping
from ..graph.nodes.arrays import as_array, of_numbers
from ..graph.nodes.shapes import show
from .masks import entries_left
from .multinomial import check_totals
from .observations import SINGLE, Observation
from .precision import holds_double
from .randomness import own_numbers

__all__ = ["Data", "as_data", "check_data", "prepare"]


@dataclass(frozen=True)
class Data:
    """The data of one observation, as a model uses them.

    Attributes:
        source: As they were given.
        given: The same in the dtype of the distribution, missing entries NaN.
        values: The data, in double where the distribution is, with missing entries replaced by others of the support.
        present: Which entries are data; None where all are.
    """

    source: Tensor
    given: Tensor
    values: Tensor
    present: Tensor | None


def as_data(obs: Any) -> dict[str, Tensor]:
    """Data by the name of the observation, as tensors, in which NaN marks what is missing.

    Args:
        obs: A tensor, an array (a masked one too), a list, a column or table of pandas; or a dict of these by name.

    Raises:
        ObservationError: They are none of these.
    """
    if obs is None:
        return {}
    data = obs if isinstance(obs, Mapping) else {SINGLE: obs}
    check_mapping("obs", data, '{"stay": stays, "readmitted": readmissions}', ObservationError)
    return {name: _as_tensor(name, value) for name, value in data.items() if value is not None}


def _as_tensor(name: str, value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value
    try:
        if isinstance(value, np.ma.MaskedArray):
            masked = torch.as_tensor(np.ma.getmaskarray(value))
            floating = torch.as_tensor(as_array(np.ma.getdata(value)))
            floating = floating if floating.is_floating_point() else floating.to(torch.get_default_dtype())
            return torch.where(masked, torch.nan, floating)
        # A copy: what the user writes into the array later is no data of this model.
        return of_numbers(torch.tensor(as_array(value)), value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ObservationError(f"The data of {name!r} are no array or tensor: {error}") from None


def check_data(name: str, distribution: Any, data: Tensor, fixed_bounds: bool = False) -> Tensor:
    """Data that a distribution can explain, in a dtype for it.

    Args:
        name: The name of the observation.
        distribution: What is to explain them.
        data: The data.
        fixed_bounds: Whether the bounds of its support depend on no param.

    Raises:
        ObservationError: There are infinite values, no values, or values outside of the support.
    """
    support = distribution.support
    if not data.is_floating_point():
        data = data.to(_dtype(distribution))
    data = _without_masked(distribution, data)
    missing = torch.isnan(data)
    infinite = torch.isinf(data)
    if bool(infinite.any()):
        raise ObservationError(
            f"The data of {name!r} hold {int(infinite.sum())} infinite values, the first at index "
            f"{tuple(infinite.nonzero()[0].tolist())} of shape {show(data.shape)}. Remove them, or mark them as missing "
            "with NaN."
        )
    if bool(missing.all()) and data.numel():
        raise ObservationError(f"The data of {name!r} are all missing (NaN). Leave obs= out to predict them.")
    if _independent_of_params(support) or (fixed_bounds and _has_bounds(support)):
        _check_support(name, distribution, data, missing)
    return data


def _without_masked(distribution: Any, data: Tensor) -> Tensor:
    """Data in which what a mask leaves out, and no distribution can explain, is missing."""
    left = entries_left(distribution)
    if left is None:
        return data
    odd = torch.isinf(data)
    if _independent_of_params(distribution.support):
        inside = distribution.support.check(data)
        odd = odd | ~inside.reshape(tuple(inside.shape) + (1,) * (data.ndim - inside.ndim))
    odd = odd & ~left.expand(data.shape)
    if not bool(odd.any()):
        return data
    return torch.where(odd, torch.nan, data if data.is_floating_point() else data.to(torch.get_default_dtype()))


def _dtype(distribution: Any) -> torch.dtype:
    """The dtype for whole numbers, which not every discrete distribution has a density of: that of its draws."""
    if getattr(distribution.support, "is_discrete", False):
        try:
            with own_numbers(0):
                drawn: Tensor = distribution.sample()
        except NotImplementedError:
            return torch.get_default_dtype()
        return drawn.dtype
    return torch.float64 if holds_double(distribution) else torch.get_default_dtype()


def _check_support(name: str, distribution: Any, data: Tensor, missing: Tensor) -> None:
    whole = bool(missing.any())
    inside = distribution.support.check(_filled(data, missing, _any_present(data, missing)) if whole else data)
    if not bool(inside.all()):
        present = data[~missing]
        raise ObservationError(
            f"The data of {name!r} lie outside of the support {distribution.support} of the "
            f"{type(distribution).__name__} that is to explain them: they run from {present.min().item():g} to "
            f"{present.max().item():g}."
        )


_COUNTED = (type(constraints.integer_interval(0, 1)), type(constraints.multinomial(1)))


def _independent_of_params(support: Any) -> bool:
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    if isinstance(support, _COUNTED):  # those of a Binomial may be params
        return all(isinstance(value, (int, float)) for value in vars(support).values())
    simple = (constraints.positive, constraints.nonnegative, constraints.unit_interval, constraints.simplex)
    discrete = (constraints.boolean, constraints.nonnegative_integer, constraints.positive_integer)
    return any(support is one for one in simple + discrete)


def _has_bounds(support: Any) -> bool:
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return isinstance(support, _COUNTED[0])


def prepare(observation: Observation, data: Tensor) -> Data:
    """Check data and find out what is missing of them.

    Raises:
        ObservationError: The data do not fit; or some components of one observation are missing whose distribution
            cannot be written without them.
    """
    source, data = data, check_data(observation.name, observation.distribution, data, observation.fixed_bounds)
    if observation.fixed_bounds and not observation.free_totals:
        check_totals(observation.name, observation.distribution, data)
    missing = torch.isnan(data)
    # Single precision holds counts exactly, but not what a density makes of them.
    wide = data.double() if holds_double(observation.distribution) else data
    if not bool(missing.any()):
        return Data(source, data, wide, None)
    _check_partly_missing(observation, missing)
    return Data(source, data, _filled(wide, missing, _stand_in(observation, wide, missing)), ~missing)


def _check_partly_missing(observation: Observation, missing: Tensor) -> None:
    base = observation.distribution
    while isinstance(base, (Independent, dist.MaskedDistribution)):
        base = base.base_dist
    joint = len(base.event_shape)
    if not joint or isinstance(base, MultivariateNormal):
        return
    flat = missing.flatten(-joint)
    if bool((flat.any(-1) != flat.all(-1)).any()):
        raise ObservationError(
            f"Some components of single observations of {observation.name!r} are missing. A {type(base).__name__} of event "
            f"shape {show(base.event_shape)} has no density without them: give all components as NaN, or drop these rows."
        )


def _stand_in(observation: Observation, data: Tensor, missing: Tensor) -> Tensor:
    """Values for missing entries, which must lie in the support so that no gradient becomes NaN."""
    distribution: Any = observation.distribution
    with own_numbers(0):
        try:
            drawn: Tensor = distribution.expand(observation.batch_shape).sample()
        except NotImplementedError:
            drawn = _any_present(data, missing)
    return drawn.to(data.dtype).expand(data.shape)


def _any_present(data: Tensor, missing: Tensor) -> Tensor:
    return data[~missing][0]


def _filled(data: Tensor, missing: Tensor, stand_in: Tensor) -> Tensor:
    return torch.where(missing, stand_in, data)
