"""What a fit of subsampled plates follows: the log density of a few members as a function of a vector and of which they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor

from ..bridge.bound import BoundModel
from ..bridge.plan import Plan
from ..bridge.reparametrise import NonCentered
from ..compiler import record, unwatched
from ..density.closeness import close
from ..density.flat import Flat, FromFlat, Slot, make_flat
from ..errors import CompilationError
from ..graph.plates.batching import all_at_once
from ..graph.plates.distributions import without_validation

__all__ = ["Local", "Objective", "make_objective"]

MOST_COMPONENTS = 8
"""Of so many numbers of a member the curvatures are computed one by one; of more, together with random signs."""


@dataclass(frozen=True)
class Local:
    """A site with a value for each member of subsampled plates.

    Attributes:
        slot: Where the values of the members that a step sees stand in its vector.
        axes: By dim of the value, the plate that it counts.
        share: Which share of the data of a member a step sees: all, unless other plates are subsampled too.
        scale: How many members stand for one that a step sees.
    """

    slot: Slot
    axes: Mapping[int, str]
    share: float
    scale: float

    def rows(self, whole: Tensor, picked: Mapping[str, Tensor]) -> Tensor:
        """The values of the picked members."""
        for axis, plate in self.axes.items():
            whole = whole.index_select(axis, picked[plate])
        return whole

    def put(self, whole: Tensor, picked: Mapping[str, Tensor], values: Tensor) -> None:
        """Give the picked members other values."""
        if len(self.axes) == 1:
            (axis, plate), *_ = self.axes.items()
            whole.index_copy_(axis, picked[plate], values)
            return
        index: list[Any] = [torch.arange(size) for size in whole.shape]
        for axis, plate in self.axes.items():
            index[axis] = picked[plate]
        whole[torch.meshgrid(*index, indexing="ij")] = values


@dataclass(frozen=True)
class Objective:
    """The log density that some members of the plates suggest for all.

    Attributes:
        flat: The model of a few members.
        plan: Of the model of all.
        locals: By site, those with a value for each member of a subsampled plate.
        sizes: By subsampled plate, how many members a step sees.
        slope_of: From a vector, directions and the members, one after the other, the value and the gradient.
        curved_of: From the same, the gradient, and its derivatives along the directions.
        directions: By which the curvature of each number of each member is found, ``(directions, dim)``; None for random ones.
    """

    flat: Flat
    plan: Plan
    locals: Mapping[str, Local]
    sizes: Mapping[str, int]
    slope_of: Callable[[Tensor], tuple[Tensor, Tensor]]
    curved_of: Callable[[Tensor], tuple[Tensor, Tensor]]
    directions: Tensor | None

    def slope(self, z: Tensor, picked: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The value and its gradient, for the picked members of each plate."""
        lines = 1 if self.directions is None else len(self.directions)
        return self.slope_of(self._vector(z, z.new_zeros(lines, self.flat.dim), picked))

    def curvature(self, z: Tensor, picked: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The gradient, and the second derivative in each number of a member; zero for what members share."""
        along = self.directions
        if along is None:
            along = torch.randint(0, 2, (1, self.flat.dim)).to(z.dtype) * 2 - 1
        gradient, changes = self.curved_of(self._vector(z, along, picked))
        return gradient, (changes * along).sum(0)

    def _vector(self, z: Tensor, along: Tensor, picked: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([z, along.reshape(-1), *(picked[name].to(z.dtype) for name in self.sizes)])


def make_objective(bound: BoundModel, model: Callable[[], Any], noncentered: NonCentered, jacobian: bool) -> Objective:
    """Write the log density of a few members down as tensor operations, which members they are among the inputs.

    Args:
        bound: The model, some of whose plates are subsampled.
        model: The same, reparametrised.
        noncentered: Which sites are offsets.
        jacobian: Whether the density is that of the unconstrained values.

    Raises:
        CompilationError: It cannot be, or what was written down differs from the model.
    """
    flat, plan, sizes = make_flat(model), bound.plan, dict(bound.subsample_size)
    if len(flat.fixed) < len(flat.slots):
        raise CompilationError("the supports of params move")
    if max(plan.sizes[name] for name in sizes) > 1 / torch.finfo(flat.dtype).eps:
        raise CompilationError("numbers of members have more digits than the vector")
    found = _locals(bound, flat, noncentered)

    directions = _directions(flat, found)
    lines = 1 if directions is None else len(directions)

    def value(z: Tensor, picked: Mapping[str, Tensor]) -> Tensor:
        with pyro.validation_enabled(False), without_validation():
            placed = FromFlat(flat.slots, flat.fixed, z)
            trace: Any = poutine.trace(placed(poutine.condition(flat.model, data=dict(picked)))).get_trace()
            total: Tensor = flat.evaluator.log_prob(trace)
            for name, slot in flat.slots.items() if jacobian else ():
                scale = found[name].scale if name in found else 1.0
                inside = flat.fixed[name].log_abs_det_jacobian(slot.of(z), trace.nodes[name]["value"])
                total = total + scale * inside.sum()
            return total.to(z.dtype)

    def split(vector: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        z, along, *numbers = torch.split(vector, [flat.dim, lines * flat.dim, *sizes.values()])
        # Members are numbers of the same vector, which is all that is written down as an input.
        picked = {name: one.detach().round().long() for name, one in zip(sizes, numbers, strict=True)}
        return z, along.reshape(lines, flat.dim), picked

    def slope(vector: Tensor) -> tuple[Tensor, Tensor]:
        z, _, picked = split(vector)
        gradient, at = torch.func.grad_and_value(lambda x: value(x, picked))(z)
        return at, gradient

    def curved(vector: Tensor) -> tuple[Tensor, Tensor]:
        z, along, picked = split(vector)
        # Its stubs allow for a third result, which it has only if one asks.
        gradient, pulled = torch.func.vjp(torch.func.grad(lambda x: value(x, picked)), z)  # type: ignore[misc]
        return gradient, torch.stack([pulled(one)[0] for one in along])

    def point() -> Tensor:
        z = 0.1 * torch.randn((1 + lines) * flat.dim, dtype=flat.dtype)
        return torch.cat([z, *(torch.randperm(plan.sizes[one])[:size].to(flat.dtype) for one, size in sizes.items())])

    at = point()
    with all_at_once():
        slope_of, curved_of = _written(slope, at), _written(curved, at)
    _check(slope, slope_of, point())
    _check(curved, curved_of, point())
    return Objective(flat, plan, found, sizes, slope_of, curved_of, directions)


Pair = tuple[Tensor, Tensor]


def _written(function: Callable[[Tensor], Pair], at: Tensor) -> Callable[[Tensor], Pair]:
    """The operations of a function, which take what it takes."""
    graph, constants = record(torch.func.functionalize(function), at)

    def run(vector: Tensor) -> Pair:
        with unwatched():  # what was written down draws nothing
            first, second = graph(vector, *constants)
        return first, second

    return run


def _check(function: Callable[[Tensor], Pair], form: Callable[[Tensor], Pair], at: Tensor) -> None:
    """Check what was written down at other members and another vector.

    Raises:
        CompilationError: It differs.
    """
    for expected, found in zip(function(at), form(at), strict=True):
        if bool(torch.isfinite(expected).all()) and not close(found, expected):
            raise CompilationError("what was written down of some members differs for others")


def _locals(bound: BoundModel, flat: Flat, noncentered: NonCentered) -> dict[str, Local]:
    plan, sizes = bound.plan, bound.subsample_size
    decisions = bound.decisions(noncentered)
    sites = {decisions[site.name].sampled_as: site.plates for site in plan.sites}
    sites |= {site.name: site.plates for site in plan.latent_inner}
    shares = {name: size / plan.sizes[name] for name, size in sizes.items()}
    found = {}
    for name, slot in flat.slots.items():
        plates = sites[name]
        batch = len(plates.batch_shape)
        axes = {batch + dim: plate for plate, dim in zip(plates.names, plates.dims, strict=True) if plate in sizes}
        if axes:
            others = [share for plate, share in shares.items() if plate not in axes.values()]
            found[name] = Local(slot, axes, math.prod(others), 1 / math.prod(shares[plate] for plate in axes.values()))
    return found


def _directions(flat: Flat, found: Mapping[str, Local]) -> Tensor | None:
    """For each number that a member has, a direction that changes it for all members: they do not depend on each other."""
    rows: list[Tensor] = []
    for local in found.values():
        shape = local.slot.shape
        own: list[Any] = [range(size) if axis not in local.axes else [slice(None)] for axis, size in enumerate(shape)]
        if len(rows) + math.prod(len(one) for one in own) > MOST_COMPONENTS:
            return None
        for component in product(*own):
            row = torch.zeros(flat.dim, dtype=flat.dtype)
            row[local.slot.slice].view(shape)[component] = 1
            rows.append(row)
    return torch.stack(rows) if rows else None
