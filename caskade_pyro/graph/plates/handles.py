"""Plates whose members stand outside of them, because a further link to their module crosses no plate."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ...errors import PlateError

if TYPE_CHECKING:
    from ..nodes.param import Param
    from .layout import Plate, PlateLayout

__all__ = ["bypassed", "check_handles", "linked_outside"]


def bypassed(layout: PlateLayout, plate: Plate) -> PlateError | None:
    """The error for a plate whose module is also reached on a path with fewer plates; None where it is not."""
    module = plate.module
    if module is layout.root or plate.name in layout.chains[module]:
        return None
    path = layout.paths[module]
    where, _, attribute = path.rpartition(".")
    holder = f"{layout.root.name}.{where}" if where else layout.root.name
    return PlateError(
        f"The attribute {attribute!r} of {holder} links {module!r} a second time: as {path}, without the plate {plate.name} "
        "in which it is linked hierarchically. A param stands in the plates on its shortest path, so that all members would "
        f"share those of {path}. To keep a handle, hold it as self.meta.{attribute}, which adds no link, or use "
        f"{plate.name} itself."
    )


def check_handles(layout: PlateLayout) -> None:
    """Check that every hierarchical link makes a plate.

    Raises:
        PlateError: Another link takes its members out of it.
    """
    for plate in layout.plates:
        if (error := bypassed(layout, plate)) is not None:
            raise error


def linked_outside(layout: PlateLayout, plate: Plate, params: Iterable[Param]) -> dict[str, str]:
    """The params of a plate's module that are linked outside of the plate as well: their names, and paths there."""
    own = {id(one) for one in plate.module.children.values()}
    return {
        str(param.name): layout.paths[param]
        for param in params
        if id(param) in own and plate.name not in layout.chains[param]
    }
