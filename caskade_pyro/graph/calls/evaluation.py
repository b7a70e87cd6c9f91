"""The values of one call.

A call never writes into the graph. What it is given, what it sets (live params) and what it computes (pointers) lives
in an `Evaluation`, which the params find through thread-local state. So calls are re-entrant and thread-safe, and an
exception leaves nothing behind.

Evaluations nest. A call of a hierarchically linked child opens one *inside* that of its parent: it sees the parent's
values where it has none of its own. So does a scope: an override, or a forward method that runs under a
``torch.vmap`` which its caller does not, whose values would make no sense after it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, cast

from torch._C._functorch import maybe_current_level
from torch.compiler import is_compiling

from ...errors import ActiveStateError, GraphError
from ..nodes.arrays import in_double
from .ambient import overrides_below

if TYPE_CHECKING:
    from torch import Tensor

    from ..nodes.node import Node
    from ..nodes.param import Param
    from ..plates.layout import PlateLayout
    from ..plates.standpoint import Standpoint

__all__ = [
    "Evaluation",
    "active_evaluation",
    "current_evaluation",
    "current_root",
    "functorch_level",
    "is_active",
    "outside_of_calls",
]


class _ThreadState(threading.local):
    def __init__(self) -> None:
        # In every thread's own dict from the start: the compiler guards on whether it is there.
        self.current: Evaluation | None = None


_state = _ThreadState()


def current_evaluation() -> Evaluation | None:
    """The innermost evaluation of this thread, if a call runs."""
    return _state.current


def current_root() -> Node | None:
    """The module whose call runs innermost in this thread."""
    return None if _state.current is None else _state.current.root


def functorch_level() -> int:
    """How many ``torch.func`` transforms enclose this line; the compiler sees none and caches nothing instead."""
    return 0 if is_compiling() else maybe_current_level() or 0


class Evaluation:
    """The values of one call.

    Args:
        standpoint: From where the call sees the graph.
        values: What it is given, by param.
        outer: The evaluation whose values are seen where this one has none.

    Attributes:
        double: Whether values that were given as numbers of Python are seen in double.
    """

    __slots__ = ("_known", "_reading", "double", "level", "outer", "previous", "scoped", "standpoint", "values")

    def __init__(self, standpoint: Standpoint, values: dict[Param, Tensor], outer: Evaluation | None = None) -> None:
        self.standpoint = standpoint
        self.values = values
        self.outer = outer
        self.double: bool = standpoint.layout.double or (outer is not None and outer.double)
        self.level = functorch_level()
        self.scoped = False
        self.previous: Evaluation | None = None
        self._known: dict[Hashable, tuple[Any, frozenset[Param]]] = {}
        self._reading: list[set[Param]] = [] if outer is None else outer._reading

    @property
    def root(self) -> Node:
        """The module that is called."""
        return self.standpoint.root

    @property
    def layout(self) -> PlateLayout:
        """The plate layout of the outermost module, which gives batch dims their meaning."""
        return self.standpoint.layout

    @property
    def inside(self) -> tuple[str, ...]:
        """The plates of the layout, outermost first, of which this evaluation sees one member."""
        return self.standpoint.inside

    def __enter__(self) -> Evaluation:
        """Make this the current evaluation of the thread."""
        self.previous = _state.current
        _state.current = self
        return self

    def __exit__(self, *_: object) -> None:
        """Make the former evaluation the current one again, whatever happened."""
        _state.current = self.previous

    def widen(self) -> Evaluation:
        """Look at numbers of Python in double from now on, those that the call was given too."""
        self.double = True
        self.values = {param: in_double(value) for param, value in self.values.items()}
        return self

    def scope(self, values: dict[Param, Tensor]) -> Evaluation:
        """An evaluation of the same call in which some values differ and new ones do not outlive it."""
        scope = Evaluation(self.standpoint, values, self)
        scope.scoped = scope.level == self.level
        return scope

    def value(self, param: Param) -> Tensor | None:
        """The value of a param in this call; None if it has none.

        Raises:
            GraphError: It is a pointer at the end of a chain of pointer functions that is too long for Python.
        """
        while True:
            if self._reading:
                self._reading[-1].add(param)
            value = self.values.get(param)
            evaluation = self.outer
            while value is None and evaluation is not None:
                value = evaluation.values.get(param)
                evaluation = evaluation.outer
            if value is not None:
                return value
            if not param.pointer:
                return param.exact_value if self.double else param.stored_value
            target = param.target
            if target is None or self.standpoint.layout.plates:
                return self._pointer_value(param)
            param = target

    def _pointer_value(self, param: Param) -> Tensor | None:
        """Follow a pointer, once for each call, keeping what it read so that a new value can drop it again."""
        if is_compiling():
            return self._follow(param)
        try:
            return cast("Tensor | None", self.remember(param, lambda: self._follow(param)))
        except RecursionError as error:
            if self._reading:  # another pointer asked for this one
                raise
            raise GraphError(
                f"Pointer {self.layout.paths.get(param, param.name)} cannot be followed: Python's recursion limit was reached "
                f"on the way through it and the {len(param.structure.pointer_params) - 1} pointers that it may ask for. "
                "Compute a long chain in one function, or in a forward method."
            ) from error

    def remember(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """Compute something once for this call, as long as the params that it reads keep their values.

        Args:
            key: What is computed: a pointer, or a module and its method.
            compute: Computes it. Under a torch transform that was entered after this evaluation nothing is kept.
        """
        known = self._computed_before(key)
        if known is None:
            self._reading.append(set())
            try:
                value = compute()
            finally:
                read = self._reading.pop()
            known = value, frozenset(read)
            if functorch_level() == self.level:
                self._known[key] = known
        if self._reading:
            self._reading[-1].update(known[1])
        return known[0]

    def _computed_before(self, key: Hashable) -> tuple[Any, frozenset[Param]] | None:
        """What was computed earlier in this call, if it read nothing that has another value here."""
        evaluation: Evaluation = self
        inner: list[Evaluation] = []
        while key not in evaluation._known:
            if evaluation.outer is None:
                return None
            inner.append(evaluation)
            evaluation = evaluation.outer
        known = evaluation._known[key]
        return known if all(known[1].isdisjoint(one.values) for one in inner) else None

    def _follow(self, param: Param) -> Tensor | None:
        """What a pointer gives where it stands: outside of a plate from all members, inside of it for each of them."""
        if not self.layout.plates:
            return in_double(param.follow()) if self.double else param.follow()
        from ..plates.members import pointer_over_plates

        return pointer_over_plates(self, param)

    def set_live(self, param: Param, value: Tensor) -> None:
        """Set a live param for the rest of this call and forget the pointers that read it.

        A scope gives some params other values for the time of one method; what the method sets beyond these is meant
        for the whole call.
        """
        if functorch_level() != self.level:
            raise ActiveStateError(
                f"Live param {param.name!r} is set under a torch transform (vmap, grad, ...) that was entered outside of "
                "any forward method, so its value would not make sense after it. Transform a @forward method instead."
            )
        evaluation = self
        evaluation._forget(param)
        while evaluation.scoped and param not in evaluation.values:
            evaluation = cast("Evaluation", evaluation.outer)
            evaluation._forget(param)
        evaluation.values[param] = value

    def fill(self, values: dict[Param, Tensor]) -> None:
        """Give params other values for the rest of this call, and forget all that was computed."""
        self.values.update(values)
        self._known.clear()

    def _forget(self, param: Param) -> None:
        for key in [key for key, (_, read) in self._known.items() if param in read]:
            del self._known[key]


def active_evaluation(node: Node) -> Evaluation | None:
    """The innermost evaluation of this thread that involves a node."""
    evaluation = _state.current
    while evaluation is not None and node not in evaluation.standpoint.members:
        evaluation = evaluation.previous
    return evaluation


def outside_of_calls(pointer: Param) -> Evaluation:
    """The evaluation of a pointer when no call runs: from the values that the graph holds, each pointer once."""
    from ..plates.layout import PlateLayout

    return Evaluation(PlateLayout(pointer, (), (), {}, {}).standpoint, overrides_below(pointer))


def is_active(node: Node) -> bool:
    """Whether a call that involves this node runs in this thread."""
    return active_evaluation(node) is not None
