"""Observations: what the simulator predicts, the names of its batch dims, and how data are set against it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from ..errors import ModelError, ObservationError
from ..graph.nodes.shapes import Shape, broadcast_shapes, show
from ..graph.plates.distributions import map_batch
from ..graph.plates.layout import PlateLayout
from .distributions import to_pyro
from .plates import Dims

__all__ = ["ROWS", "SINGLE", "Observation", "align", "as_distributions", "name_dims", "of_present"]

SINGLE = "obs"
"""The name of the observation of a model that has only one."""

ROWS = (
    "Inputs with a row for each member of a subsampled plate go through ck.vmap(..., in_dims=0) or "
    "ck.subsample(child, tensor)."
)
"""What is most likely wrong where a simulator cannot take some members of a plate alone."""


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
        parents: The dynamic params that it depends on.
        reads: All params that it depends on, fixed ones included.
        draws: The sites of the simulator's own that it depends on.
        mixed: Those of its dims in which the prediction for one member depends on others.
        observed: Whether data are given.
        free_totals: Whether rows of counts in categories have totals of their own, whatever their distribution says.
        fixed_bounds: Whether the bounds of the support depend on no param.
        fixed_scale: How widely single values scatter, where that depends on no param; None where it does, or is not known.
    """

    name: str
    dims: tuple[str, ...]
    batch_shape: Shape
    event_shape: Shape
    distribution: Distribution
    text: str
    parents: tuple[Any, ...]
    reads: tuple[Any, ...]
    draws: tuple[str, ...]
    mixed: tuple[str, ...]
    observed: bool
    free_totals: bool = False
    fixed_bounds: bool = False
    fixed_scale: Tensor | None = field(default=None, repr=False, compare=False)


def as_distributions(prediction: Any, likelihood: Callable[[Any], Any] | None, method: str) -> dict[str, Any]:
    """The distributions of the data, by name, from what a forward method returns.

    Raises:
        ModelError: It is neither a distribution nor a dict of them, nor nothing, and no likelihood makes it one.
    """
    returned = prediction if likelihood is None else likelihood(prediction)
    if returned is None:
        return {}  # its likelihood may be pyro.factor's
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
    if 0 in batch + event:
        raise ObservationError(
            f"The model predicts no numbers for {name!r}: the batch shape {show(batch)} with {show(event)} for one "
            "observation. Are the inputs empty?"
        )
    own = len(batch) - replicates
    plates = {plate.name: plate for plate in layout.plates}
    while data is None and len(given) > own and given[0] not in plates:
        given = given[1:]  # a plate of data that are not there
    if len(given) > own:
        raise ObservationError(
            f"dims names {len(given)} batch dims of {name!r}, {', '.join(given)}, but its batch shape is "
            f"{show(batch[replicates:])} and the shape of one observation {show(event)}."
        )
    root = tuple(plate.name for plate in layout.plates if plate.module is layout.root)[:replicates]
    names = (*root, *given, *(f"{name}_dim_{index}" for index in range(len(given), own)))
    for dim, (plate, size) in enumerate(zip(names, batch, strict=True)):
        expected = plates[plate].size if plate in plates else size
        if size != expected:
            raise ObservationError(
                f"dims says that dim {dim} of {name!r} is plate {plate} of size {expected}, but the batch shape is "
                f"{show(batch)}. A dim that counts something else than the members of this plate needs another name."
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


@dataclass(frozen=True)
class _Move:
    """From the order of an observation's batch dims to the dims of their plates in Pyro.

    Attributes:
        front: How many dims of the run stand in front of the batch dims.
        order: The batch dims in the order of their Pyro dims.
        batch: The sizes at the Pyro dims, 1 where there is no plate.
    """

    front: int
    order: tuple[int, ...]
    batch: Shape

    def __call__(self, tensor: Tensor) -> Tensor:
        dims = self.front + len(self.order)
        order = (*range(self.front), *(self.front + index for index in self.order), *range(dims, tensor.ndim))
        shape = tuple(tensor.shape[: self.front]) + self.batch + tuple(tensor.shape[dims:])
        return tensor.permute(order).reshape(shape)


def align(
    distribution: Any, observation: Observation, at: Dims, run: Shape, tensors: tuple[Tensor | None, ...]
) -> tuple[Any, tuple[Tensor | None, ...]]:
    """Bring a distribution and its data to the Pyro dims of their plates.

    Args:
        distribution: The distribution; dims of the run, then batch dims in the user's order.
        observation: What is known of it.
        at: The Pyro dim of each plate.
        run: The sizes of the dims of the run.
        tensors: Data in the shape of the observation, or None.

    Raises:
        ObservationError: The distribution has another batch shape than at the preflight.
    """
    sizes = observation.batch_shape
    missing = len(run) + len(sizes) - len(distribution.batch_shape)
    if run and missing > 0:
        distribution = to_pyro(map_batch(distribution, lambda tensor: _with_room(tensor, len(run), missing)))
    if tuple(distribution.batch_shape) != run + sizes:
        try:
            distribution = distribution.expand(run + sizes)
        except RuntimeError:
            raise ObservationError(
                f"The prediction of {observation.name!r} has the batch shape {show(distribution.batch_shape)}, but "
                f"{show(run + sizes)} was expected: plates {', '.join(observation.dims) or 'none'}. It must not change "
                f"from run to run. {ROWS}"
            ) from None
    wanted = [at[name] for name in observation.dims]
    depth = -min(at.values(), default=0) if run else -min(wanted, default=0)
    natural = tuple(range(-depth, 0))
    full = tuple(data.expand(sizes + observation.event_shape) if data is not None else None for data in tensors)
    if tuple(wanted) == natural:
        return distribution, full
    by_dim = dict(zip(wanted, sizes, strict=True))
    order = tuple(sorted(range(len(wanted)), key=wanted.__getitem__))
    batch = tuple(by_dim.get(dim, 1) for dim in natural)
    moved = tuple(data if data is None else _Move(0, order, batch)(data) for data in full)
    return to_pyro(map_batch(distribution, _Move(len(run), order, batch))), moved


def _with_room(tensor: Tensor, front: int, dims: int) -> Tensor:
    """Dims of size 1 behind the first ones."""
    return tensor.reshape(tuple(tensor.shape[:front]) + (1,) * dims + tuple(tensor.shape[front:]))


def of_present(distribution: Any, values: Tensor, present: Tensor) -> Any:
    """The distribution of those entries of the data that are there.

    The others have no part in its log density: independent ones are masked, and of a multivariate normal the marginal
    density of what is there is taken.
    """
    if isinstance(distribution, Independent):
        base = of_present(distribution.base_dist, values, present)
        return base.to_event(distribution.reinterpreted_batch_ndims)
    if isinstance(distribution, dist.MaskedDistribution):
        return of_present(distribution.base_dist, values, present).mask(distribution._mask)
    base, joint = distribution, len(distribution.event_shape)
    if isinstance(base, torch.distributions.MultivariateNormal):
        base = _marginal(base, values, present)
    return to_pyro(base).mask(present.flatten(-joint).any(-1) if joint else present)


def _marginal(base: Any, values: Tensor, present: Tensor) -> Any:
    """A multivariate normal whose log density is the marginal one of the components that are there.

    The missing ones become independent of the rest, with their values as means and a variance that makes their own
    density 1 there.
    """
    pairs = present[..., :, None] & present[..., None, :]
    alone = torch.diag_embed((~present).to(base.loc.dtype)) / (2 * math.pi)
    covariance = torch.where(pairs, base.covariance_matrix, 0.0) + alone
    return dist.MultivariateNormal(torch.where(present, base.loc, values), covariance)
