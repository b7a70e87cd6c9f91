"""The precision of a model: double where anything that it is made of is, and then its numbers of Python are doubles too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from ..errors import NotBatchableError
from ..graph.nodes.arrays import holds_floats
from ..graph.nodes.prior import Prior, as_prior
from ..graph.plates.distributions import map_batch
from ..graph.plates.layout import Placement, PlateLayout
from ..graph.plates.naming import look_up
from .distributions import to_pyro

__all__ = ["given_prior", "holds_double", "in_precision", "is_double", "tensors_of"]

WHOLE = 2**24
"""Up to here single precision holds every integer."""


def given_prior(placement: Placement, overrides: Mapping[str, object]) -> object:
    """The prior that was given for a param, if one was."""
    return overrides[placement.site] if placement.site in overrides else getattr(placement.param, "prior", None)


def is_double(layout: PlateLayout, inputs: object, data: Mapping[str, Tensor], overrides: Mapping[str, object]) -> bool:
    """Whether something of a model is in double precision: a constant, a prior, a bound, an input or data.

    Args:
        layout: The plates of the graph.
        inputs: The inputs of its forward method, in tuples and dicts.
        data: Its data by observation.
        overrides: Priors that the user gave by site.
    """
    return any(tensor.dtype == torch.float64 for tensor in _given(layout, inputs, data, overrides))


def _given(
    layout: PlateLayout, inputs: object, data: Mapping[str, Tensor], overrides: Mapping[str, object]
) -> Iterator[Tensor]:
    """The tensors that a model is made of."""
    yield from data.values()
    yield from tensors_of(inputs)
    sites = [placement.site for placement in layout.placements]
    overrides = {look_up(given, sites).name or given: prior for given, prior in overrides.items()}
    for placement in layout.placements:
        param = placement.param
        if param.static:
            yield from tensors_of(param.value)
        elif param.dynamic:
            prior = as_prior(given_prior(placement, overrides), placement.site)
            yield from tensors_of(param.valid if prior is None else (prior.fixed, prior.args, prior.kwargs))


def tensors_of(value: object) -> Iterator[Tensor]:
    """The floating tensors in something: a distribution with the distributions that it is made of, a tuple, list or dict."""
    stack: list[object] = [value]
    while stack:
        one = stack.pop()
        if isinstance(one, Tensor):
            if one.is_floating_point():
                yield one
        elif isinstance(one, Mapping):
            stack.extend(one.values())
        elif isinstance(one, (tuple, list)):
            stack.extend(one)
        elif isinstance(one, Distribution):
            stack.extend(vars(one).values())


def holds_double(distribution: Distribution) -> bool:
    """Whether a distribution is in double precision."""
    return any(tensor.dtype == torch.float64 for tensor in tensors_of(distribution))


def in_precision(prior: Prior, double: bool) -> Prior:
    """A prior for a model in double precision or in the default one.

    Numbers of Python among its arguments, alone and in lists, become tensors of that precision. The tensors of a ready-made
    distribution are brought to double, where that is asked for; what torch has rounded before stays rounded.
    """
    if prior.fixed is not None:
        return replace(prior, fixed=_doubled(prior.fixed)) if double else prior
    args = tuple(_argument(one, double) for one in prior.args)
    return replace(prior, args=args, kwargs={name: _argument(one, double) for name, one in prior.kwargs.items()})


def _argument(value: Any, double: bool) -> Any:
    """An argument of a prior; integers, which may count something, only where single precision does not hold them."""
    dtype = torch.float64 if double else None
    if isinstance(value, (list, tuple)):
        return torch.tensor(value, dtype=dtype) if holds_floats(value) else value
    if isinstance(value, bool) or not double:
        return value
    if isinstance(value, float) or (isinstance(value, int) and abs(value) > WHOLE):
        return torch.tensor(value, dtype=dtype)
    return value


def _doubled(distribution: Distribution) -> Distribution:
    """A distribution with its parameters in double; as it is, where it cannot be taken apart."""
    if not any(tensor.dtype != torch.float64 for tensor in tensors_of(distribution)):
        return distribution
    try:
        doubled: Distribution = to_pyro(map_batch(distribution, _to_double))
    except NotBatchableError:
        return distribution
    return doubled


def _to_double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor
