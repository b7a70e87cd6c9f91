"""The members of a model among those of a posterior: which of them it knows, and where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any
from warnings import warn

import numpy as np
import pandas as pd
import xarray as xr

from ..bridge.dim_names import find_plate
from ..bridge.plan import Plan
from ..errors import NewMemberWarning, PlateError, SamplingError
from ..graph.arguments import names
from ..graph.plates.naming import look_up

__all__ = ["New", "Places", "find_members"]

New = str | Sequence[str] | Mapping[str, Any]
"""Plates with new members; or by plate the names, or numbers, of the members that are new."""

Places = Mapping[str, np.ndarray[Any, Any]]
"""By plate, where each member of the model stands in the posterior, and -1 for one that is new.

Plates that are left out have the same members in the same order in both.
"""


@dataclass(frozen=True)
class _Plate:
    """A plate of a model beside that of a posterior.

    Attributes:
        name: Its name.
        members: The members of the model: their names, or their numbers.
        named: Whether these are names.
        known: The members of the posterior, if it says who they are.
        counted: Whether it only counts them.
    """

    name: str
    members: tuple[Any, ...]
    named: bool
    known: pd.Index | None
    counted: bool

    @property
    def by_name(self) -> bool:
        """Whether members can be found in the posterior by what they are called."""
        return self.named and self.known is not None and not self.counted

    @property
    def listed(self) -> str:
        """The members of the posterior, for messages."""
        return ", ".join(map(str, _known(self)))

    def new(self, members: Iterable[Any]) -> str:
        """How to say that some members are new, for messages."""
        return f"new={{{self.name!r}: {[_shown(one) for one in members]!r}}}"


def find_members(plan: Plan, group: xr.Dataset, new: New, refuse: bool, stacklevel: int) -> Places:
    """Find the members of a model in a posterior.

    Args:
        plan: Of the model.
        group: The draws.
        new: Which members are new.
        refuse: Whether the posterior must know all members that are not said to be new. Otherwise it need not know those
            that have names, and a warning says which it does not.
        stacklevel: Where to say that a warning comes from.

    Raises:
        PlateError: ``new`` names no plate of the model, or no member of it.
        SamplingError: A member cannot be found.
    """
    said = _said(plan, new)
    members = {plate.name: plate.members for plate in plan.layout.plates}
    found = {}
    for name, size in plan.sizes.items():
        plate = _plate(name, members.get(name), size, group)
        chosen = said.get(name, ())
        if chosen is None:
            found[name] = _where_known(plate, stacklevel + 1)
        elif name in said:
            found[name] = _where_not_chosen(plate, _check_members(plate, chosen))
        elif plate.by_name:
            found[name] = _where_all_known(plate, refuse, stacklevel + 1)
    return found


def _said(plan: Plan, new: New) -> dict[str, tuple[Any, ...] | None]:
    """By plate, the members that the user says are new; None for all that the posterior does not know."""
    if isinstance(new, Mapping):
        return {_named(plan, name): _several(members) for name, members in new.items()}
    example = '("schools",) or {"schools": ["new school"]}'
    return {_named(plan, name): None for name in names("new", new, example)}


def _named(plan: Plan, name: object) -> str:
    return find_plate(f"new= names {name}", str(name), plan.sizes)


def _several(members: Any) -> tuple[Any, ...]:
    alone = isinstance(members, (str, Integral)) or not isinstance(members, Iterable)
    return (members,) if alone else tuple(members)


def _plate(name: str, names: tuple[Any, ...] | None, size: int, group: xr.Dataset) -> _Plate:
    known = group.indexes.get(name)
    counting = known is not None and known.equals(pd.RangeIndex(len(known)))
    if names is None:
        return _Plate(name, tuple(range(size)), False, known, counting)
    # Mere numbers are those of a fit of members that had no names yet, unless names are numbers.
    numbers = all(isinstance(one, Integral) for one in names)
    if known is not None and not known.is_unique:
        raise SamplingError(
            f"The posterior has draws of several members of plate {name} under one name: "
            f"{', '.join(map(str, known[known.duplicated()].unique()))}. So members cannot be found by their names."
        )
    return _Plate(name, names, True, known, counting and not numbers)


def _check_members(plate: _Plate, chosen: tuple[Any, ...]) -> tuple[Any, ...]:
    for member in chosen:
        if member in plate.members and not isinstance(member, bool):
            continue
        if not plate.named:
            raise PlateError(
                f"new= names {_shown(member)!r} of plate {plate.name}, whose members have no names in the model: give their "
                f"numbers, from 0 to {len(plate.members) - 1}, or names with hierarchical_link(..., members=[...])."
            )
        near = look_up(str(member), map(str, plate.members)).near
        meant = f" Is it {' or '.join(near)}?" if near else ""
        raise PlateError(
            f"new= names {_shown(member)!r}, which is no member of plate {plate.name} of the model; they are "
            f"{', '.join(map(str, plate.members))}.{meant}"
        )
    return chosen


def _where_not_chosen(plate: _Plate, chosen: tuple[Any, ...]) -> np.ndarray[Any, Any]:
    """Where those members are that are not said to be new."""
    new = np.array([member in chosen for member in plate.members])
    if new.all():
        return np.full(len(new), -1)
    if plate.by_name:
        places = _find(plate)
        lacking = [
            one for one, place, is_new in zip(plate.members, places, new, strict=True) if place < 0 and not is_new
        ]
        if lacking:
            raise _unknown(plate, lacking, f"Name them as well: {plate.new([*chosen, *lacking])}.")
        return np.where(new, -1, places)
    if plate.named != (plate.known is not None and not plate.counted):
        which, other = ("model", "posterior") if plate.named else ("posterior", "model")
        raise SamplingError(
            f"The members of plate {plate.name} have names in the {which} and none in the {other}, so that those which are "
            f"not new cannot be found. Give both names with hierarchical_link(..., members=[...])."
        )
    return np.where(new, -1, np.arange(len(new)))


def _where_known(plate: _Plate, stacklevel: int) -> np.ndarray[Any, Any]:
    """Where the members are that the posterior knows by their names; all others are new."""
    if not plate.by_name:
        return np.full(len(plate.members), -1)
    places = _find(plate)
    if (places >= 0).all():
        warn(
            NewMemberWarning(
                f"new= names plate {plate.name}, but the posterior knows all of its members by their names, so that they keep "
                f"their draws. To draw them anew, name them: {plate.new(plate.members[:3])}."
            ),
            stacklevel=stacklevel,
        )
    return places


def _where_all_known(plate: _Plate, refuse: bool, stacklevel: int) -> np.ndarray[Any, Any]:
    places = _find(plate)
    lacking = [member for member, place in zip(plate.members, places, strict=True) if place < 0]
    if not lacking:
        return places
    if refuse:
        raise _unknown(plate, lacking, "Leave them out.")
    for member in lacking:
        near = [one for one in _known(plate) if str(one).casefold().strip() == str(member).casefold().strip()]
        if near:
            raise _unknown(plate, [member], f"Is it {near[0]}? If it is another: {plate.new([member])}.")
    warn(
        NewMemberWarning(
            f"The posterior has no draws of plate {plate.name} for {', '.join(map(str, lacking))}; it has {plate.listed}. "
            f"What it lacks is drawn from the population. If that is meant, say {plate.new(lacking)}."
        ),
        stacklevel=stacklevel,
    )
    return places


def _known(plate: _Plate) -> Sequence[Any]:
    return () if plate.known is None else tuple(plate.known)


def _find(plate: _Plate) -> np.ndarray[Any, Any]:
    known = {one: place for place, one in enumerate(_known(plate))}
    return np.array([known.get(member, -1) for member in plate.members])


def _unknown(plate: _Plate, members: Sequence[Any], then: str) -> SamplingError:
    return SamplingError(
        f"The posterior has no draws of plate {plate.name} for {', '.join(map(str, members))}; it has {plate.listed}. {then}"
    )


def _shown(member: Any) -> Any:
    """A member for messages, where those of numpy are like Python's own."""
    return member.item() if isinstance(member, np.generic) else member
