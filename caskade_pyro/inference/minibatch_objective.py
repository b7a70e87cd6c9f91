"""What a fit of subsampled plates follows: the log density of a few members as a function of a vector and of which they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from ..bridge.bound import BoundModel
from ..bridge.plan import Plan
from ..bridge.reparametrise import NonCentered
from ..density.closeness import close
from ..density.flat import Flat, FromFlat, Slot, make_flat
from ..errors import CompilationError
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
        slope: From a vector and the members, the value and the gradient.
        curved: From a vector, directions and the members, the gradient, and its derivatives along these.
        directions: By which the curvature of each number of each member is found, ``(directions, dim)``; None for random ones.
    """

    flat: Flat
    plan: Plan
    locals: Mapping[str, Local]
    sizes: Mapping[str, int]
    slope: Callable[..., tuple[Tensor, Tensor]]
    curved: Callable[..., tuple[Tensor, Tensor]]
    directions: Tensor | None

    def curvature(self, z: Tensor, picked: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The gradient, and the second derivative in each number of a member; zero for what members share."""
        along = self.directions
        if along is None:
            along = torch.randint(0, 2, (1, self.flat.dim)).to(z.dtype) * 2 - 1
        gradient, changes = self.curved(z, along, *picked)
        return gradient, (changes * along).sum(0)


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
    flat, whole = make_flat(model), bound.plan
    if len(flat.fixed) < len(flat.slots):
        raise CompilationError("the supports of params move")
    found = _locals(bound, flat, noncentered)
    names = tuple(bound.subsample_size)

    def value(z: Tensor, *picked: Tensor) -> Tensor:
        with pyro.validation_enabled(False), without_validation():
            placed = FromFlat(flat.slots, flat.fixed, z)
            seen = poutine.condition(flat.model, data=dict(zip(names, picked, strict=True)))
            trace: Any = poutine.trace(placed(seen)).get_trace()
            total: Tensor = flat.evaluator.log_prob(trace)
            for name, slot in flat.slots.items() if jacobian else ():
                scale = found[name].scale if name in found else 1.0
                at = slot.of(z)
                total = total + scale * flat.fixed[name].log_abs_det_jacobian(at, trace.nodes[name]["value"]).sum()
            return total.to(z.dtype)

    def slope(z: Tensor, *picked: Tensor) -> tuple[Tensor, Tensor]:
        gradient, at = torch.func.grad_and_value(value)(z, *picked)
        return at, gradient

    def curved(z: Tensor, along: Tensor, *picked: Tensor) -> tuple[Tensor, Tensor]:
        gradient, pulled = torch.func.vjp(lambda x: torch.func.grad(value)(x, *picked), z)
        return gradient, torch.stack([pulled(one)[0] for one in along])

    directions = _directions(flat, found)
    sizes = dict(bound.subsample_size)
    some = [torch.randperm(whole.sizes[name])[:size] for name, size in sizes.items()]
    z = torch.randn(flat.dim, dtype=flat.dtype) * 0.1
    along = torch.ones(1, flat.dim, dtype=flat.dtype) if directions is None else directions
    with torch.enable_grad():
        traced_slope, traced_curved = make_fx(slope)(z, *some), make_fx(curved)(z, along, *some)
    for graph in (traced_slope, traced_curved):
        graph.graph.eliminate_dead_code()
        graph.recompile()
    _check(slope, traced_slope, z, [torch.randperm(whole.sizes[name])[:size] for name, size in sizes.items()])
    return Objective(flat, whole, found, sizes, traced_slope, traced_curved, directions)


def _check(slope: Any, traced: Any, z: Tensor, picked: Sequence[Tensor]) -> None:
    """Check what was written down at other members and another vector.

    Raises:
        CompilationError: It differs.
    """
    at = z + 0.1 * torch.randn_like(z)
    (value, gradient), (expected, its) = traced(at, *picked), slope(at, *picked)
    if bool(torch.isfinite(expected)) and not (close(value, expected) and close(gradient, its)):
        raise CompilationError("it looks at values")


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
        own = [range(size) if axis not in local.axes else [slice(None)] for axis, size in enumerate(shape)]
        if len(rows) + math.prod(len(one) for one in own) > MOST_COMPONENTS:
            return None
        for component in product(*own):
            row = torch.zeros(flat.dim, dtype=flat.dtype)
            row[local.slot.slice].view(shape)[component] = 1
            rows.append(row)
    return torch.stack(rows) if rows else None
