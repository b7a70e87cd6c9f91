"""Priors as distributions of sites: brought to the param's own shape and to the plates that it lies in."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution, biject_to

from ..errors import PriorError
from ..graph.nodes.prior import Prior
from ..graph.nodes.shapes import Shape, broadcast_shapes, show
from ..graph.nodes.structure import is_param
from ..graph.plates.distributions import map_batch
from ..graph.plates.subsample import ALL_MEMBERS, Picks
from .distributions import expand_own, to_pyro
from .plates import SitePlates

__all__ = ["PriorFit", "default_prior", "draw_one", "fit_prior", "site_distribution"]


OF_MEMBERS = (
    "A pointer that computes a value for each member belongs to the module that is linked, where it is one value, and not to "
    "the one that links it."
)
"""Where a pointer has to stand."""


@dataclass(frozen=True)
class PriorFit:
    """How the draws of a prior fill a param.

    Attributes:
        own_batch: The leading dims of the param's shape, over which the prior is repeated independently.
        argument_dims: For each argument that is a param or a tensor, how many dims at its right belong to one draw.
        known: The arguments of which the distribution says so; those of a function of the user's are not.
    """

    own_batch: Shape
    argument_dims: Mapping[Any, int]
    known: frozenset[Any]


def default_prior(bounds: tuple[Any, Any]) -> Prior | None:
    """Uniform between the bounds of a param that has both; None for others."""
    low, high = bounds
    if low is None or high is None:
        return None
    low, high = _floating(low), _floating(high)
    if bool((low >= high).any()):
        raise PriorError(
            f"The bounds valid=({low.tolist()}, {high.tolist()}) are one number in {str(low.dtype).removeprefix('torch.')}: "
            "take double precision, torch.set_default_dtype(torch.float64) before the model is built, or subtract a constant."
        )
    return Prior(dist.Uniform, fixed=dist.Uniform(low, high))


def _floating(bound: Any) -> Tensor:
    """A bound as a number that can be drawn from: the package `caskade` keeps valid=(0, 1) as integers."""
    tensor = torch.as_tensor(bound)
    return tensor if tensor.is_floating_point() else tensor.to(torch.get_default_dtype())


def fit_prior(site: str, prior: Prior, shape: Shape, sizes: Shape, one_member: Distribution) -> PriorFit:
    """How a prior fills its param.

    Args:
        site: The name of the site.
        prior: The prior.
        shape: The param's own shape.
        sizes: The sizes of its plates, outermost first.
        one_member: The prior built for one member of all plates that its parents lie in.

    Raises:
        PriorError: It does not fit.
    """
    event, batch = tuple(one_member.event_shape), tuple(one_member.batch_shape)
    own = len(shape) - len(event)
    split = max(0, len(batch) - own)
    if (
        own < 0
        or shape[own:] != event
        or not _broadcasts(batch[split:], shape[:own])
        or not _broadcasts(batch[:split], sizes)
    ):
        within = f", in plates of the sizes {show(sizes)}" if sizes else ""
        raise PriorError(
            f"The prior {prior} of param {site} draws values of shape {show(batch + event)} (event shape {show(event)}), "
            f"but the param's own shape is {show(shape)}{within}. Scalars are repeated; anything else must have the shape "
            "of the param, plate dims in front."
        )
    dims = _argument_dims(prior)
    known = frozenset(arg for arg, count in dims.items() if count is not None)
    return PriorFit(shape[:own], {arg: own + (count or 0) for arg, count in dims.items()}, known)


def _broadcasts(shape: Shape, target: Shape) -> bool:
    try:
        return broadcast_shapes(shape, target) == target
    except ValueError:
        return False


def _argument_dims(prior: Prior) -> dict[Any, int | None]:
    """How many dims of each argument belong to one draw: 1 for a mean vector, 0 for a scalar; None where nobody says."""
    if prior.fixed is not None:
        return {}
    known = getattr(prior.factory, "arg_constraints", None)
    known = known if isinstance(known, Mapping) else {}
    try:
        named = dict(inspect.signature(prior.factory).bind(*prior.args, **prior.kwargs).arguments)
    except (TypeError, ValueError):
        named = dict(prior.kwargs)
    return {arg: _event_dim(known.get(name)) for name, arg in named.items() if is_param(arg) or isinstance(arg, Tensor)}


def _event_dim(constraint: Any) -> int | None:
    if constraint is None:
        return None
    try:
        return int(constraint.event_dim)
    except NotImplementedError:  # it depends on other arguments
        return None


def site_distribution(
    site: str,
    prior: Prior,
    fit: PriorFit,
    plates: SitePlates,
    value_of: Callable[[Any], tuple[Tensor, int]],
    picks: Picks = ALL_MEMBERS,
) -> Any:
    """The distribution of a site for all members of its plates.

    Args:
        site: The name of the site.
        prior: Its prior.
        fit: How it fills the param.
        plates: The plates of the site.
        value_of: For a param among the prior's arguments, its value with plates at their Pyro dims, and how many of its
            dims are such plate dims, dims of the run included.
        picks: The members that the run sees of plates that are subsampled.

    Returns:
        A Pyro distribution whose event shape is the param's own shape, and whose batch shape broadcasts to the plates.

    Raises:
        PriorError: The arguments of the prior do not make a distribution.
    """

    def resolve(arg: Any) -> Any:
        if is_param(arg):
            value, plate_dims = value_of(arg)
        elif isinstance(arg, Tensor):
            value, plate_dims = plates.spread(arg, max(0, arg.ndim - fit.argument_dims.get(arg, arg.ndim)), picks)
        else:
            return arg
        padding = fit.argument_dims.get(arg, 0) - (value.ndim - plate_dims)
        if padding < 0 and is_param(arg) and arg in fit.known:
            where = f"Argument {arg.name} of the prior {prior} of param {site}"
            return _over_members(where, value, plate_dims, -padding, plates)
        if not plate_dims or padding <= 0:
            return value
        return value.reshape(tuple(value.shape[:plate_dims]) + (1,) * padding + tuple(value.shape[plate_dims:]))

    try:
        built = to_pyro(prior.build(resolve))
    except PriorError:
        raise
    except (ValueError, RuntimeError, TypeError) as error:
        raise PriorError(f"The prior {prior} of param {site} cannot be built: {error}") from error
    left = max(0, len(built.batch_shape) - len(fit.own_batch))
    if prior.fixed is not None and left:
        built = to_pyro(map_batch(built, lambda tensor: plates.spread(tensor, left, picks)[0]))
    batch = tuple(built.batch_shape)[: max(0, len(built.batch_shape) - len(fit.own_batch))]
    inner = batch[max(0, len(batch) - len(plates.batch_shape)) :]  # behind the dims of the run
    if not _broadcasts(inner, plates.batch_shape):
        raise PriorError(
            f"The prior {prior} of param {site} has the batch shape {show(built.batch_shape)}, which does not fit the sizes "
            f"{show(plates.sizes)} of its plates. {OF_MEMBERS}"
        )
    return expand_own(built, batch, fit.own_batch)


def _over_members(where: str, value: Tensor, plate_dims: int, count: int, plates: SitePlates) -> Tensor:
    """An argument whose next dims count the members of plates in which its param does not stand, brought to their dims.

    Args:
        where: The argument, for messages.
        value: Its value: dims of the run and of plates, as many as ``plate_dims``, then those of members, then its own.
        plate_dims: How many dims are in front.
        count: How many dims count members.
        plates: The plates of the site.

    Raises:
        PriorError: It has no dims as long as the plates, or could have those of several.
    """
    counted, own = tuple(value.shape[plate_dims : plate_dims + count]), tuple(value.shape[plate_dims + count :])
    seen = f"{where} has the shape {show(counted + own)}"
    sizes = tuple(size for size in counted if size != 1)  # a dim of 1 repeats
    value = value.reshape(tuple(value.shape[:plate_dims]) + sizes + own)
    if not sizes:
        return value
    free = [
        at
        for at, dim in enumerate(plates.dims)
        if plate_dims + dim < 0 or value.shape[plate_dims + dim] == 1  # it has no value for each of these members yet
    ]
    places = [chosen for chosen in combinations(free, len(sizes)) if tuple(plates.sizes[at] for at in chosen) == sizes]
    within = f"{', '.join(plates.names) or 'none'}, of the sizes {show(plates.sizes)},"
    if not places:
        raise PriorError(f"{seen}, which does not fit the plates {within} of that param. {OF_MEMBERS}")
    if len(places) > 1:
        raise PriorError(f"{seen}, which leaves open which of the plates {within} its values belong to. {OF_MEMBERS}")
    dims = [plates.dims[at] for at in places[0]]
    front = max(plate_dims, -min(dims))
    value = value.reshape((1,) * (front - plate_dims) + tuple(value.shape))
    for at, dim in enumerate(dims):
        value = value.transpose(front + dim, front + at)  # a dim of 1 takes the place of that of members
    return value.reshape(tuple(value.shape[:front]) + own)


def draw_one(distribution: Any, stored: Tensor | None, shape: Shape) -> Tensor:
    """A value of one member to look at shapes with: a draw, or for a prior that cannot draw a point of its support."""
    try:
        value: Tensor = distribution.sample()
    except NotImplementedError:
        value = biject_to(distribution.support)(torch.zeros(shape)) if stored is None else stored
    return value
