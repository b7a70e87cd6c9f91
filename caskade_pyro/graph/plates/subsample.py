"""Some members of a plate instead of all: the layout that a run sees, and what must be picked to fit it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ...errors import PlateError
from ..calls.evaluation import current_evaluation
from ..nodes.shapes import Shape, show

if TYPE_CHECKING:
    from ..nodes.node import Node
    from .layout import Placement, PlateLayout

__all__ = ["ALL_MEMBERS", "Picks", "picked_constants", "resized", "subsample"]


@dataclass(frozen=True)
class Picks:
    """The members that a run sees of the plates that are subsampled.

    Attributes:
        indices: By plate, the members that were picked.
        sizes: By plate, how many there are in all.
    """

    indices: Mapping[str, Tensor] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)

    def rows(self, tensor: Tensor, names: tuple[str, ...], first: int = 0) -> Tensor:
        """The picked members of a tensor whose dims from ``first`` on count those of some plates."""
        for dim, name in enumerate(names, first):
            if name in self.indices and tensor.shape[dim] == self.sizes[name]:
                tensor = tensor.index_select(dim, self.indices[name].to(tensor.device))
        return tensor


ALL_MEMBERS = Picks()


def resized(layout: PlateLayout, sizes: Mapping[str, int]) -> PlateLayout:
    """The layout of a graph whose plates have other sizes."""
    key = ("resized", layout.double, *sorted(sizes.items()))
    if key not in layout.remembered:
        layout.remembered[key] = replace(
            layout,
            plates=tuple(replace(plate, size=sizes.get(plate.name, plate.size)) for plate in layout.plates),
            placements=tuple(_resized(placement, sizes) for placement in layout.placements),
            remembered={},
        )
    found: PlateLayout = layout.remembered[key]
    return found


def _resized(placement: Placement, sizes: Mapping[str, int]) -> Placement:
    plate_shape: Shape = tuple(
        sizes.get(name, size) if name in placement.plates else size
        for name, size in zip(placement.chain, placement.plate_shape, strict=False)
    )
    return replace(placement, plate_shape=plate_shape)


def picked_constants(layout: PlateLayout, picks: Picks) -> dict[Any, Tensor]:
    """The values of the static params that have one for each member of a subsampled plate, those of the picked members."""
    found: dict[Any, Tensor] = {}
    if not picks.indices:
        return found
    for placement in layout.placements:
        param: Any = placement.param
        value = layout.held(param) if param.static else None
        if value is not None and any(name in picks.indices for name in placement.plates):
            batch = value.ndim - len(placement.shape)
            found[param] = picks.rows(value, placement.chain[:batch], max(0, batch - len(placement.chain)))
    return found


def subsample(child: Node, tensor: Tensor, dim: int = 0) -> Tensor:
    """The rows of a tensor that belong to the members of a plate that the running model sees.

    A forward method that uses inputs with a row for each member itself, and not through ``ck.vmap(..., in_dims=...)``,
    takes its rows so; without subsampling these are all of them.

    Args:
        child: The hierarchically linked child: ``self.galaxies``.
        tensor: With as many rows as the plate has members in all.
        dim: The dim that counts the members.

    Returns:
        The rows of the picked members, or the tensor itself.

    Raises:
        PlateError: The child is no plate of the running call, or the tensor has another number of rows.

    Example:
        >>> import caskade_pyro as ck, torch
        >>> class Lines(ck.Module):
        ...     def __init__(self, line, n):
        ...         super().__init__()
        ...         self.hierarchical_link("lines", line, size=n)
        ...
        ...     @ck.forward
        ...     def errors(self, error):
        ...         return ck.subsample(self.lines, error)
        >>> Lines(ck.Module("line"), 3).errors(torch.ones(3))
        tensor([1., 1., 1.])
    """
    evaluation = current_evaluation()
    plate = None if evaluation is None else evaluation.layout.plate_of(child, evaluation.inside)
    if evaluation is None or plate is None:
        raise PlateError(
            f"ck.subsample of {child!r} runs inside a forward method of the module that links it hierarchically."
        )
    picks = evaluation.layout.picks
    size = picks.sizes.get(plate.name, plate.size)
    if size is not None and tensor.shape[dim] != size:
        raise PlateError(
            f"ck.subsample: dim {dim} of the tensor of shape {show(tensor.shape)} should count the {size} members of plate "
            f"{plate.name}."
        )
    return picks.rows(tensor, (plate.name,), dim % tensor.ndim)
