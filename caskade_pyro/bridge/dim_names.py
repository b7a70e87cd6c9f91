"""The names of dims: those that users give to batch dims of data, and what may not have one name in the draws."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..errors import CaskadeException, ModelError, ObservationError, PlateError
from ..graph.plates.layout import PlateLayout
from ..graph.plates.naming import Named, close_to, look_up
from .plan import Plan

__all__ = ["OF_DRAWS", "check_names_of_draws", "find_plate", "resolve_dims"]

OF_DRAWS = ("chain", "draw", "sample")
"""The dims that draws have of their own, in ArviZ."""


def resolve_dims(observation: str, given: Sequence[str], layout: PlateLayout) -> tuple[str, ...]:
    """The names of an observation's batch dims, plates of the graph by their whole names.

    Args:
        observation: Its name.
        given: What the user calls them: plates by their paths, or by ends of these that no other has; or data plates.
        layout: The plates of the graph.

    Raises:
        ObservationError: A name is no plate's, but like one, or that of several.
    """
    return tuple(_resolve(observation, name, layout) for name in given)


def _resolve(observation: str, given: str, layout: PlateLayout) -> str:
    known = tuple(plate.name for plate in layout.plates)
    named = look_up(given, known)
    if named.name is not None:
        return named.name
    if "." in given and not named.near:  # a path; data plates have none
        named = Named(None, look_up(given.rpartition(".")[2], known).near or known)
    if not named.near:
        return given
    raise ObservationError(
        f"dims of {observation!r} names {given!r}, {_near(given, named)}. Give the whole name of the plate; a data plate, "
        "which is none of the graph, needs another name."
    )


def _near(given: str, named: Named) -> str:
    listed = ", ".join(named.near)
    if all(path.endswith(f".{given}") for path in named.near):
        return f"which is the end of {listed}"
    return f"which is no plate of the graph, but close to {listed}"


def find_plate(asking: str, given: str, known: Iterable[str]) -> str:
    """The plate that a user means.

    Args:
        asking: Where which name was given, for messages: ``"new= names wards"``.
        given: The name, or the end of one that no other plate has.
        known: The names of the plates.

    Raises:
        PlateError: There is no such plate, or several.
    """
    known = tuple(known)
    named = look_up(given, known)
    if named.name is not None:
        return named.name
    raise PlateError(f"{asking}, but the plates are {', '.join(known) or 'none'}{close_to(given, named)}.")


@dataclass(frozen=True)
class _Use:
    """A name that draws are stored under.

    Attributes:
        name: The name.
        what: Whose it is.
        mend: How to give that another one.
        error: What to raise where the name is taken.
    """

    name: str
    what: str
    mend: str
    error: type[CaskadeException]

    def taken(self, why: str) -> CaskadeException:
        return self.error(
            f"The name {self.name!r} of {self.what} is taken: it is {why}, so that draws could not be stored. {self.mend}"
        )


def check_names_of_draws(plan: Plan) -> None:
    """Check that the plates and quantities of a model have names that differ, and differ from those of the dims of draws.

    Raises:
        PlateError: A plate of the graph, or of the simulator, has such a name.
        ObservationError: A dim of the data has one.
        ModelError: A param, an observation or a site of the simulator has one.
    """
    variables, dims = tuple(_variables(plan)), tuple(_dims(plan))
    stored = {use.name: use.what for use in variables}
    made = dict(_made(plan))
    for use in (*variables, *dims):
        if use.name in OF_DRAWS:
            raise use.taken(f"that of a dim of all draws ({', '.join(OF_DRAWS)})")
        if use.name in made:
            raise use.taken(f"also that of {made[use.name]}")
    for use in dims:
        if use.name in stored:
            raise use.taken(f"also that of {stored[use.name]}")


def _variables(plan: Plan) -> Iterator[_Use]:
    """What draws hold besides dims."""
    for quantity in plan.in_plates:
        yield _Use(quantity.name, f"param {quantity.name}", "Link the param under another key.", ModelError)
    for inner in plan.inner:
        what = f"site {inner.name!r} of the simulator"
        yield _Use(inner.name, what, "Give it another name where the simulator samples it.", ModelError)
    for name in plan.observations:
        mend = 'Return it under another name, as in {"data": distribution}.'
        yield _Use(name, f"the observation {name!r}", mend, ModelError)


def _dims(plan: Plan) -> Iterator[_Use]:
    """The dims of draws besides their own."""
    for plate in plan.layout.plates:
        mend = "Link the module under another key: hierarchical_link(key, ...)."
        if plate.module is plan.layout.root:
            mend = "It counts replicates of the whole model: give the module another name."
        yield _Use(plate.name, f"plate {plate.name}", mend, PlateError)
    for inner in plan.inner:
        for name in inner.plate_names:
            if name not in plan.layout.plate_names:
                yield _Use(name, f"plate {name} of the simulator", "Give the plate another name there.", PlateError)
    for observation in plan.observations.values():
        for name in observation.dims:
            if name not in plan.layout.plate_names:
                what = f"a dim of the observation {observation.name!r}"
                yield _Use(name, what, "Give the dim another name in dims=.", ObservationError)


def _made(plan: Plan) -> Iterator[tuple[str, str]]:
    """The names that the package makes for further dims, and what they count."""
    own = [(quantity.name, 0, len(quantity.shape)) for quantity in (*plan.in_plates, *plan.latent_inner)]
    own += [(one.name, len(one.dims), len(one.event_shape)) for one in plan.observations.values()]
    for name, first, count in own:
        for index in range(first, first + count):
            yield f"{name}_dim_{index}", f"dim {index} of {name}"
    for name in plan.observations:
        yield f"{name}_observed", f"the dim of those of {name} that are not missing"
