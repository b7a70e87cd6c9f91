"""Where the value of a param comes from."""

from __future__ import annotations

from enum import Enum

__all__ = ["Role"]


class Role(Enum):
    """Where a param's value comes from."""

    STATIC = "static"
    DYNAMIC = "dynamic"
    POINTER = "pointer"
