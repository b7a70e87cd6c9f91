"""Observations: what the simulator predicts, the names of its batch dims, and the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from ..errors import ModelError, ObservationError
from ..graph.nodes.shapes import Shape, broadcast_shapes, show
from ..graph.plates.distributions import map_batch
from ..graph.plates.layout import PlateLayout
from .distributions import to_pyro
from .plates import Dims

__all__ = ["Observation", "align", "as_data", "as_distributions", "check_data", "name_dims"]

SINGLE = "obs"
"""The name of the observation of a model that has only one."""


@dataclass(frozen=True)
class Observation:
    """One data set of a model.

    Attributes:
        name: The name of its site.
        dims: The names of its batch dims in order: plates of the graph, and data plates.
        batch_shape: The sizes of these.
        event_shape: The shape of one observation.
        distribution: The distribution with prior values of the params, for reports.
        text: The distribution written out, with the names of params where its arguments are their values.
        parents: The params that it depends on.
        observed: Whether data are given.
    """

    name: str
    dims: tuple[str, ...]
    batch_shape: Shape
    event_shape: Shape
    distribution: Distribution
    text: str
    parents: tuple[Any, ...]
    observed: bool


def as_distributions(prediction: Any, likelihood: Callable[[Any], Any] | None, method: str) -> dict[str, Any]:
    """The distributions of the data, by name, from what a forward method returns.

    Raises:
        ModelError: It is neither a distribution nor a dict of them, and no likelihood makes it one.
    """
    returned = prediction if likelihood is None else likelihood(prediction)
    found = returned if isinstance(returned, Mapping) else {SINGLE: returned}
    for name, one in found.items():
        if not isinstance(one, Distribution):
            what = f"a {type(one).__name__}" + (f" under {name!r}" if isinstance(returned, Mapping) else "")
            raise ModelError(
                f"{method} must return a distribution or a dict of distributions to be observed; "
                + (f"it returns {what}. " if likelihood is None else f"likelihood= makes {what} of it. ")
                + "Or give likelihood=, a function from the prediction to a distribution."
            )
    return {name: to_pyro(one) for name, one in found.items()}


def as_data(obs: Any) -> dict[str, Tensor]:
    """Data by the name of the observation, as tensors."""
    if obs is None:
        return {}
    data = obs if isinstance(obs, Mapping) else {SINGLE: obs}
    found = {}
    for name, value in data.items():
        if value is None:
            continue
        try:
            found[name] = value if isinstance(value, Tensor) else torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ObservationError(f"The data of {name!r} are no array or tensor: {error}") from None
    return found


def name_dims(
    name: str, distribution: Any, data: Tensor | None, given: tuple[str, ...], layout: PlateLayout, replicates: int
) -> tuple[tuple[str, ...], Shape]:
    """The names and sizes of an observation's batch dims.

    Args:
        name: The name of the observation.
        distribution: Its distribution.
        data: The data, if there are any.
        given: Names that the user gave to the batch dims, from the left.
        layout: The plates of the graph.
        replicates: How many batch dims in front count the replicates of the whole model.

    Raises:
        ObservationError: The data do not fit the distribution, or the names do not fit its batch dims.
    """
    event = tuple(distribution.event_shape)
    batch = tuple(distribution.batch_shape)
    if data is not None:
        batch = _joint_batch(name, batch, event, tuple(data.shape))
    own = len(batch) - replicates
    if len(given) > own:
        raise ObservationError(
            f"dims names {len(given)} batch dims of {name!r}, {', '.join(given)}, but its batch shape is "
            f"{show(batch[replicates:])} and the shape of one observation {show(event)}."
        )
    plates = {plate.name: plate for plate in layout.plates}
    root = tuple(plate.name for plate in layout.plates if plate.module is layout.root)[:replicates]
    names = (*root, *given, *(f"{name}_dim_{index}" for index in range(len(given), own)))
    for dim, (plate, size) in enumerate(zip(names, batch, strict=True)):
        expected = plates[plate].size if plate in plates else size
        if size != expected:
            raise ObservationError(
                f"dims says that dim {dim} of {name!r} is plate {plate} of size {expected}, but the batch shape is "
                f"{show(batch)}."
            )
    if len(set(names)) != len(names):
        raise ObservationError(f"The batch dims of {name!r} need different names, not {', '.join(names)}.")
    return names, batch


def _joint_batch(name: str, batch: Shape, event: Shape, data: Shape) -> Shape:
    split = len(data) - len(event)
    message = (
        f"The data of {name!r} have shape {show(data)}, but the model predicts the batch shape {show(batch)} with "
        f"{show(event)} for one observation."
    )
    if split < 0 or data[split:] != event:
        raise ObservationError(message)
    try:
        joint = broadcast_shapes(batch, data[:split])
    except ValueError:
        raise ObservationError(message) from None
    if joint != data[:split]:
        raise ObservationError(message)
    return joint


def check_data(name: str, distribution: Any, data: Tensor) -> Tensor:
    """Data that a distribution can explain, in its dtype.

    Raises:
        ObservationError: There are NaN or infinite values, or values outside of the support.
    """
    if data.is_floating_point() and not bool(torch.isfinite(data).all()):
        bad = (~torch.isfinite(data)).nonzero()
        raise ObservationError(
            f"The data of {name!r} hold {len(bad)} values that are NaN or infinite, the first at index "
            f"{tuple(bad[0].tolist())} of shape {show(data.shape)}. Remove them, or mask the distribution there."
        )
    support = distribution.support
    if not data.is_floating_point() and not getattr(support, "is_discrete", False):
        data = data.to(torch.get_default_dtype())
    if _independent_of_params(support) and not bool(support.check(data).all()):
        raise ObservationError(
            f"The data of {name!r} lie outside of the support {support} of the {type(distribution).__name__} that is to "
            f"explain them: they run from {data.min().item():g} to {data.max().item():g}."
        )
    return data


def _independent_of_params(support: Any) -> bool:
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    simple = (constraints.positive, constraints.nonnegative, constraints.unit_interval, constraints.simplex)
    discrete = (constraints.boolean, constraints.nonnegative_integer, constraints.positive_integer)
    return any(support is one for one in simple + discrete)


def align(
    distribution: Any, data: Tensor | None, dims: tuple[str, ...], sizes: Shape, at: Dims
) -> tuple[Any, Tensor | None]:
    """Bring a distribution and its data to the Pyro dims of their plates.

    Args:
        distribution: The distribution, its batch dims in the user's order.
        data: The data likewise.
        dims: The names of the batch dims.
        sizes: Their sizes.
        at: The Pyro dim of each name.
    """
    if tuple(distribution.batch_shape) != sizes:
        distribution = distribution.expand(sizes)
    wanted = [at[name] for name in dims]
    if wanted == list(range(-len(dims), 0)):
        return distribution, data
    order = sorted(range(len(dims)), key=lambda index: wanted[index])
    by_dim = dict(zip(wanted, sizes, strict=True))
    batch = tuple(by_dim.get(dim, 1) for dim in range(min(wanted), 0))

    def move(tensor: Tensor) -> Tensor:
        own = tuple(range(len(dims), tensor.ndim))
        return tensor.permute(*order, *own).reshape(batch + tuple(tensor.shape[len(dims) :]))

    if data is not None:
        data = move(data.expand(sizes + tuple(distribution.event_shape)))
    return to_pyro(map_batch(distribution, move)), data
