"""Values of the user's params as values of the sites that are sampled: the way back of `constrain`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor

from ..bridge import BoundModel
from ..bridge.circular import CircularReparam
from ..bridge.offsets import offsets_of
from ..bridge.reparametrise import NonCentered
from ..bridge.supports import describe_support
from ..errors import SamplingError
from ..graph.plates.distributions import without_validation

__all__ = ["check_values", "to_sampled_values"]


def to_sampled_values(bound: BoundModel, values: Mapping[str, Any], noncentered: NonCentered) -> dict[str, Tensor]:
    """The values of the sampled sites at which the params have these values, in Pyro's batch dims.

    Args:
        bound: The model.
        values: By site, ``(*plates, *shape)``; sites may be missing if nothing that is given depends on them.
        noncentered: Which sites are sampled as offsets.

    Raises:
        SamplingError: There is no such site, or a value has another shape.
    """
    sites = {site.name: site for site in bound.plan.sites}
    reported = {one.name for one in bound.plan.reported}  # which follow from the sites
    values = {name: value for name, value in values.items() if name in sites or name not in reported}
    unknown = [name for name in values if name not in sites]
    if unknown:
        raise SamplingError(f"There is no site {', '.join(unknown)}; the sites are {', '.join(sites)}.")
    dtype = _precision(bound)
    given = {name: _in_batch_dims(sites[name], value, dtype) for name, value in values.items()}
    decisions = bound.decisions(noncentered)
    for name, one in decisions.items():
        if one.circle is not None and name in given:
            given[one.sampled_as] = CircularReparam(*one.circle).on_ring(given.pop(name))
    offsets = [name for name, one in decisions.items() if one.noncentered and name in given]
    if offsets:
        with torch.no_grad(), pyro.validation_enabled(False):
            trace = poutine.trace(poutine.condition(bound.latents, data=given)).get_trace()
        for name in offsets:
            base: Any = trace.nodes[name]["fn"]
            while hasattr(base, "base_dist"):
                base = base.base_dist
            left, value = decisions[name].centered, given.pop(name)
            if decisions[name].multivariate:
                given[f"{name}_decentered"] = offsets_of(base, value, left)
            else:
                given[f"{name}_decentered"] = left * base.loc + (value - base.loc) * base.scale ** (left - 1)
    return given


def check_values(bound: BoundModel, values: Mapping[str, Any], what: str) -> None:
    """Check that values of the user's params are numbers in the support of their priors.

    A transform to the real line would take what is outside for what is just inside.

    Args:
        bound: The model.
        values: By site, ``(*plates, *shape)``; sites may be missing.
        what: How the values were given, for messages.

    Raises:
        SamplingError: They are not.
    """
    sites = {site.name: site for site in bound.plan.sites}
    dtype = _precision(bound)
    given = {name: _in_batch_dims(sites[name], value, dtype) for name, value in values.items() if name in sites}
    for name, value in given.items():
        if not bool(torch.isfinite(value).all()):
            raise SamplingError(f"{what} of {name} must be finite; got {_first(value, ~torch.isfinite(value))}.")
    with torch.no_grad(), pyro.validation_enabled(False), without_validation(), poutine.block():
        trace: Any = poutine.trace(poutine.condition(bound.latents, data=given)).get_trace()
    for name, value in given.items():
        support = trace.nodes[name]["fn"].support
        inside = support.check(value)
        if not bool(inside.all()):
            raise SamplingError(
                f"{what} of {name} lies outside of the support of its prior {sites[name].source.prior}, "
                f"{describe_support(support)}: got {_first(value, ~inside)}."
            )


def _first(value: Tensor, wrong: Tensor) -> str:
    index = tuple(wrong.nonzero()[0].tolist())
    return f"{value[index].tolist()}" + (f" at index {index}" if index else "")


def _precision(bound: BoundModel) -> torch.dtype:
    """The precision of a model's params."""
    return torch.float64 if bound.plan.layout.double else torch.get_default_dtype()


def _in_batch_dims(site: Any, value: Any, dtype: torch.dtype) -> Tensor:
    try:
        tensor = torch.as_tensor(value, dtype=dtype)
    except (TypeError, ValueError, RuntimeError) as error:
        raise SamplingError(f"The value of {site.name} is no number or array: {error}") from None
    if tuple(tensor.shape) != tuple(site.draw_shape):
        raise SamplingError(
            f"Expected a value of shape {tuple(site.draw_shape)} for {site.name}; got {tuple(tensor.shape)}."
        )
    return tensor.reshape(site.plates.batch_shape + site.source.placement.shape)
