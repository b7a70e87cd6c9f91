"""What a hierarchical link says of its plate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

from ...errors import NodeConfigurationError

__all__ = ["PlateDeclaration", "declare_plate"]


@dataclass(frozen=True)
class PlateDeclaration:
    """What a hierarchical link says of its plate: its size and the names of its members, where they are known."""

    size: int | None = None
    members: tuple[str, ...] | None = None


def declare_plate(where: str, size: int | None, members: Sequence[str] | None) -> PlateDeclaration:
    """Check what a hierarchical link says of its plate.

    Raises:
        NodeConfigurationError: The size is no size, or the names of members do not fit it.
    """
    if isinstance(members, str):
        raise NodeConfigurationError(f"{where}: members must be a list of names, not one string.")
    if size is not None and (isinstance(size, bool) or not isinstance(size, Integral) or size < 1):
        raise NodeConfigurationError(f"{where}: size must be a positive integer, not {size!r}.")
    if members is not None:
        if len(set(members)) != len(members):
            raise NodeConfigurationError(f"{where}: the names of members must differ from each other.")
        if size is not None and size != len(members):
            raise NodeConfigurationError(f"{where}: size is {size}, but there are {len(members)} names of members.")
        size = len(members)
    return PlateDeclaration(None if size is None else int(size), None if members is None else tuple(members))
