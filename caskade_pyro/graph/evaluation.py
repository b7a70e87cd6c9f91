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
from typing import TYPE_CHECKING

import torch

from ..errors import ActiveStateError

if TYPE_CHECKING:
    from torch import Tensor

    from .layout import PlateLayout
    from .node import Node
    from .param import Param

__all__ = ["Evaluation", "active_evaluation", "current_evaluation", "functorch_level", "is_active"]


class _ThreadState(threading.local):
    current: Evaluation | None = None


_state = _ThreadState()


def current_evaluation() -> Evaluation | None:
    """The innermost evaluation of this thread, if a call runs."""
    return _state.current


def functorch_level() -> int:
    """How many ``torch.func`` transforms enclose this line; the compiler sees none and caches nothing instead."""
    if torch.compiler.is_compiling():
        return 0
    return torch._C._functorch.maybe_current_level() or 0


class Evaluation:
    """The values of one call of ``root``.

    Args:
        root: The module that is called.
        values: What the call is given, by param.
        outer: The evaluation whose values are seen where this one has none.
        inside: The plates of ``layout``, outermost first, of which this evaluation sees one member.
        layout: The plate layout of the outermost module, which gives batch dims their meaning.
    """

    __slots__ = ("_pointers", "_reading", "inside", "layout", "level", "online", "outer", "previous", "root", "values")

    def __init__(
        self,
        root: Node,
        values: dict[Param, Tensor],
        outer: Evaluation | None = None,
        inside: tuple[str, ...] = (),
        layout: PlateLayout | None = None,
    ) -> None:
        self.root = root
        self.online = root.structure.online
        self.values = values
        self.outer = outer
        self.inside = inside
        self.layout = root.structure.layout if layout is None else layout
        self.level = functorch_level()
        self.previous: Evaluation | None = None
        self._pointers: dict[Param, tuple[Tensor, frozenset[Param]]] = {}
        self._reading: list[set[Param]] = []

    def __enter__(self) -> Evaluation:
        """Make this the current evaluation of the thread."""
        self.previous = _state.current
        _state.current = self
        return self

    def __exit__(self, *_: object) -> None:
        """Make the former evaluation the current one again, whatever happened."""
        _state.current = self.previous

    def scope(self, values: dict[Param, Tensor]) -> Evaluation:
        """An evaluation of the same call in which some values differ and new ones do not outlive it."""
        return Evaluation(self.root, values, outer=self, inside=self.inside, layout=self.layout)

    def value(self, param: Param) -> Tensor | None:
        """The value of a param in this call; None if it has none."""
        for reads in self._reading:
            reads.add(param)
        evaluation: Evaluation | None = self
        while evaluation is not None:
            value = evaluation.values.get(param)
            if value is not None:
                return value
            evaluation = evaluation.outer
        return self._pointer_value(param) if param.pointer else param.stored_value

    def _pointer_value(self, param: Param) -> Tensor | None:
        """Follow a pointer, once for each call, keeping what it read so that a live value can drop it again."""
        if torch.compiler.is_compiling() or functorch_level() != self.level:
            return param.follow()
        if param in self._pointers:
            value, read = self._pointers[param]
        else:
            self._reading.append(set())
            try:
                followed = param.follow()
            finally:
                reads = self._reading.pop()
            if followed is None:
                return None
            value, read = self._pointers[param] = (followed, frozenset(reads))
        for outer_reads in self._reading:
            outer_reads.update(read)
        return value

    def set_live(self, param: Param, value: Tensor) -> None:
        """Set a live param for the rest of this call and forget the pointers that read it."""
        if functorch_level() != self.level:
            raise ActiveStateError(
                f"Live param {param.name!r} is set under a torch transform (vmap, grad, ...) that was entered outside of "
                "any forward method, so its value would not make sense after it. Transform a @forward method instead."
            )
        self.values[param] = value
        for pointer in [p for p, (_, read) in self._pointers.items() if param in read]:
            del self._pointers[pointer]


def active_evaluation(node: Node) -> Evaluation | None:
    """The innermost evaluation of this thread that involves a node."""
    evaluation = _state.current
    while evaluation is not None and node not in evaluation.root.structure.members:
        evaluation = evaluation.previous
    return evaluation


def is_active(node: Node) -> bool:
    """Whether a call that involves this node runs in this thread."""
    return active_evaluation(node) is not None
