"""Dims of a run that count the values of discrete sites, which are summed out: what may depend on them, and what does not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

from torch import Tensor

from ..errors import ModelError, SamplingError
from ..graph.nodes.shapes import Shape
from ..graph.plates.distributions import map_batch, parts
from .distributions import to_pyro
from .plan import Site

__all__ = ["SummedDims", "not_summable"]


class SummedDims:
    """The dims of a run that count values of discrete sites.

    Pyro sums a discrete site out for each member of its plates by itself. That is right for what lies in these plates;
    what lies outside of them sees all members at once, and Pyro would give all of them one common value without a word.
    """

    def __init__(self) -> None:
        self._sites: dict[int, Site] = {}

    def __bool__(self) -> bool:
        return bool(self._sites)

    def add(self, site: Site, run: Shape) -> None:
        """Take note of a site whose values fill the first of these dims."""
        self._sites[len(run)] = site

    def _along(self, dims: int) -> Iterator[tuple[int, Site]]:
        """Each dim that such a site fills, of a tensor with so many dims of the run in front, and the site."""
        return ((dims - back, site) for back, site in self._sites.items() if back <= dims)

    def without_idle(self, value: Tensor, dims: int) -> Tensor:
        """A value with one row in each of its first dims that count values on which it does not depend.

        A vmap repeats what does not depend on what it maps over, with a stride of 0.
        """
        for dim, _ in self._along(dims):
            value = value.narrow(dim, 0, 1) if _idle([value], dim) else value
        return value

    def of_what_matters(self, distribution: Any, dims: int) -> Any:
        """A distribution with one row in each of its first dims that count values on which it does not depend."""
        idle = []
        if self:
            try:
                tensors = parts(distribution).tensors
            except ModelError:
                return distribution  # what cannot be taken apart is taken to depend on all
            idle = [dim for dim, _ in self._along(dims) if _idle(tensors, dim)]
        if not idle:
            return distribution
        return to_pyro(map_batch(distribution, lambda tensor: _first_rows(tensor, idle)))

    def check(self, name: str, plates: Sequence[str], run: Shape) -> None:
        """Check that a site lies in the plates of all discrete sites on which it depends.

        Args:
            name: The site.
            plates: Its plates.
            run: The sizes of the first dims of its distribution, those of the run.

        Raises:
            SamplingError: It does not, or it depends on two that lie in plates which cross.
        """
        matter = [site for dim, site in self._along(len(run)) if run[dim] > 1]
        for site in matter:
            outside = [plate for plate in site.plates.names if plate not in plates]
            if outside:
                within = f"lies in {' and '.join(plates)}" if plates else "lies in no plate"
                raise not_summable(site, name, f"{name} depends on it and {within}, not in {' and '.join(outside)}")
        for one, other in combinations(matter, 2):
            if not (
                set(one.plates.names) <= set(other.plates.names) or set(other.plates.names) <= set(one.plates.names)
            ):
                raise SamplingError(
                    f"The discrete {one.name} and {other.name} cannot be summed out: {name} depends on both, and their plates "
                    f"{' and '.join(one.plates.names)}, {' and '.join(other.plates.names)} cross, so that all combinations "
                    "of all members would have to be tried. Return a distribution from which one of them has been summed "
                    "out, or fix it with to_static(value)."
                )


def not_summable(site: Site, name: str, because: str) -> SamplingError:
    """The error that a discrete site cannot be summed out member by member."""
    names = site.plates.names
    return SamplingError(
        f"The discrete {site.name} cannot be summed out for each member of plate {' and '.join(names)} by itself: {because}. "
        f"Give the data of each member a row of their own, dims={{{name!r}: ({', '.join(map(repr, names))}, ...)}}, padded "
        "with NaN where members have fewer; or return a distribution from which it has been summed out; or fix it with "
        "to_static(value)."
    )


def _idle(tensors: Sequence[Tensor], dim: int) -> bool:
    return all(tensor.stride(dim) == 0 or tensor.shape[dim] == 1 for tensor in tensors)


def _first_rows(tensor: Tensor, dims: Sequence[int]) -> Tensor:
    for dim in dims:
        tensor = tensor.narrow(dim, 0, 1)
    return tensor
