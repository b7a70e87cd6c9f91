"""Pyro's plates: which negative dim each one gets.

Pyro identifies a plate with one batch dim, counted from the right. Nested plates lie outermost leftmost; plates that no
site shares may lie in the same dim; the batch dims of an observation keep their own order wherever they can.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..graph.nodes.shapes import Shape
from ..graph.plates.layout import PlateLayout
from ..graph.plates.subsample import ALL_MEMBERS, Picks

__all__ = ["Dims", "SitePlates", "allocate"]

Dims = Mapping[str, int]
"""The Pyro dim, negative, of each plate."""


def allocate(layout: PlateLayout, together: Sequence[tuple[str, ...]], observed: Sequence[tuple[str, ...]]) -> Dims:
    """Give every plate a dim.

    Args:
        layout: The plates of the graph.
        together: The plates of each site, outermost first.
        observed: The names of the batch dims of each observation, in order; data plates among them.

    Returns:
        A dim for each plate, so that along each entry of ``together`` and ``observed`` no two plates share one, and
        every entry of ``together`` lies outermost leftmost.
    """
    order = {plate.name: index for index, plate in enumerate(layout.plates)}
    data = [name for names in observed for name in names if name not in order]
    dims: dict[str, int] = {}
    # Inner plates first: an outer plate then finds the dims of those inside it taken.
    for name in sorted(order, key=order.__getitem__, reverse=True):
        right = [dims[other] for names in together if name in names for other in _after(names, name) if other in dims]
        natural = [names.index(name) - len(names) for names in observed if name in names]
        dims[name] = min([-1, *natural, *(dim - 1 for dim in right)])
        _make_room(name, dims, [*together, *observed])
    for name in dict.fromkeys(data):
        natural = [names.index(name) - len(names) for names in observed if name in names]
        dims[name] = min([-1, *natural])
        _make_room(name, dims, observed)
    return dims


def _after(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    return names[names.index(name) + 1 :]


def _make_room(name: str, dims: dict[str, int], together: Sequence[tuple[str, ...]]) -> None:
    """Move a plate further left until no plate that occurs together with it lies in its dim."""
    beside = {other for names in together if name in names for other in names if other != name and other in dims}
    while dims[name] in {dims[other] for other in beside}:
        dims[name] -= 1


@dataclass(frozen=True)
class SitePlates:
    """The plates of one site.

    Attributes:
        names: Outermost first.
        sizes: How many members each has.
        dims: The Pyro dim of each, negative.
    """

    names: tuple[str, ...]
    sizes: Shape
    dims: tuple[int, ...]

    @property
    def batch_shape(self) -> Shape:
        """The batch shape in Pyro: the sizes at their dims, 1 elsewhere."""
        at = dict(zip(self.dims, self.sizes, strict=True))
        return tuple(at.get(dim, 1) for dim in range(min(at, default=0), 0))

    def spread(self, tensor: Tensor, plate_dims: int, picks: Picks = ALL_MEMBERS) -> tuple[Tensor, int]:
        """Put the leading dims of a tensor, which count the members of the innermost plates, at their Pyro dims.

        Returns:
            The tensor, with the picked members alone, and how many leading dims it now has.
        """
        if not plate_dims:
            return tensor, 0
        first = len(self.dims) - plate_dims
        tensor = picks.rows(tensor, self.names[first:])
        at = dict(zip(self.dims[first:], tensor.shape[:plate_dims], strict=True))
        batch = tuple(at.get(dim, 1) for dim in range(min(at), 0))
        return tensor.reshape(batch + tuple(tensor.shape[plate_dims:])), len(batch)

    def padded(self, depth: int) -> Shape:
        """`batch_shape` with as many dims as a model has that is so deep."""
        return (1,) * (depth - len(self.batch_shape)) + self.batch_shape
