"""Names that nodes and links may have."""

from __future__ import annotations

import keyword

from ...errors import NodeConfigurationError

__all__ = ["check_name"]


def check_name(name: str, role: str) -> None:
    """Refuse a name that cannot be an attribute."""
    if not isinstance(name, str):
        raise NodeConfigurationError(f"The {role} must be a string, not {name!r}.")
    if not name.isidentifier() or keyword.iskeyword(name):
        raise NodeConfigurationError(f"The {role} must be a Python identifier, not {name!r}.")
