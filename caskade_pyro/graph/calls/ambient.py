"""What contexts around calls have set in this thread: overridden values, and modules that take unconstrained values.

Both are replaced as a whole on entry and put back on exit, so that an exception leaves nothing behind, and both are
thread-local, so that one thread's contexts never touch another's calls.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from ..nodes.node import Node
    from ..nodes.param import Param

__all__ = ["Override", "Unconstrained", "override_of", "overrides_below", "replace", "state", "takes_unconstrained"]

Unconstrained = tuple["Node", "Node | None"]
"""A module that takes unconstrained values, and the module whose call ran when that was asked for."""


Override = tuple["Param", "Tensor"]
"""A param and the value that it has instead of its own."""


class _Ambient(threading.local):
    def __init__(self) -> None:
        # In every thread's own dict from the start: the compiler guards on whether they are there.
        self.overrides: tuple[Override, ...] = ()
        self.unconstrained: tuple[Unconstrained, ...] = ()


state = _Ambient()


def replace(overrides: tuple[Override, ...], unconstrained: tuple[Unconstrained, ...]) -> None:
    """Set what holds in this thread from now on."""
    state.overrides, state.unconstrained = overrides, unconstrained


def override_of(param: Param) -> Tensor | None:
    """The value that a context around calls gives a param; None if there is none."""
    for overridden, value in reversed(state.overrides):
        if overridden is param:
            return value
    return None


def overrides_below(node: Node) -> dict[Param, Tensor]:
    """The overridden values that a call of a module is to see."""
    if not state.overrides:
        return {}
    members = node.structure.members
    return {param: value for param, value in state.overrides if param in members}


def takes_unconstrained(node: Node, where: Node | None) -> bool:
    """Whether values given to a module, and asked of it, in a call of another one (or of none) are unconstrained.

    A context concerns what is exchanged where it was entered: what the modules pass to each other inside of a call
    are values as they are.
    """
    if not state.unconstrained:
        return False
    return any(entered is where and node in module.structure.members for module, entered in state.unconstrained)
