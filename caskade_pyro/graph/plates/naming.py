"""Names that users give to plates and sites, held against those that there are."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import NamedTuple

__all__ = ["Named", "close_to", "look_up"]

LIKE = 0.8
"""From this share of common letters on, two names may be one misspelt."""


class Named(NamedTuple):
    """What a given name stands for.

    Attributes:
        name: The one name that it stands for; None if there is none, or several.
        near: Otherwise those that it may have been meant for: where its last part is that of several, these; or those that
            are spelt alike.
    """

    name: str | None
    near: tuple[str, ...]


def look_up(given: str, known: Iterable[str]) -> Named:
    """Find what a name stands for among paths: the whole of one, or the end of a single one.

    Args:
        given: The name, such as ``"wards"``.
        known: Paths, such as ``"hospitals.wards"``.

    Example:
        >>> look_up("wards", ["hospitals", "hospitals.wards"])
        Named(name='hospitals.wards', near=())
        >>> look_up("Ward", ["hospitals", "hospitals.wards"])
        Named(name=None, near=('hospitals.wards',))
    """
    known = tuple(known)
    if given in known:
        return Named(given, ())
    ends = tuple(path for path in known if path.endswith(f".{given}"))
    if len(ends) == 1:
        return Named(ends[0], ())
    return Named(None, ends or tuple(path for path in known if _like(given, path)))


def close_to(given: str, named: Named) -> str:
    """What a name that stands for none, or several, is close to, for messages; nothing where it is close to none."""
    if not named.near:
        return ""
    ends = all(path.endswith(f".{given}") for path in named.near)
    return f"; {given!r} is {'the end of' if ends else 'close to'} {', '.join(named.near)}"


def _like(given: str, path: str) -> bool:
    """Whether a name may have been meant for a path, or for the end of it."""
    last = path.split(".")[-given.count(".") - 1 :]
    return any(_alike(_plain(given), _plain(other)) for other in (path, ".".join(last)))


def _alike(one: str, other: str) -> bool:
    if not one or not other:
        return False
    if one == other:
        return True
    if _letters(one) == _letters(other):
        return False  # counted names differ on purpose
    return SequenceMatcher(None, one, other, autojunk=False).ratio() >= LIKE


def _plain(name: str) -> str:
    """A name without what people often vary: case, the characters between words, and the ending of the plural."""
    name = re.sub(r"[\s_-]+", "", name.casefold())
    return re.sub(r"ies$", "y", name) if name.endswith("ies") else re.sub(r"s$", "", name)


def _letters(name: str) -> str:
    return re.sub(r"\d+", "", name)
