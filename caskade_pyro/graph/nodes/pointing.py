"""The part of a param that points to others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ...errors import GraphError
from .node import Node

__all__ = ["Pointer", "Pointing", "as_nodes"]


@dataclass(frozen=True)
class Pointer:
    """What a pointer points to, and the keys of the links that were made for it."""

    target: Node | Callable[[Any], Any]
    keys: tuple[str, ...] = ()


class Pointing(Node):
    """A node that may take its value from others, which it then links; `Param` is the one that is used."""

    _pointer: Pointer | None

    def _link_targets(self, nodes: Iterable[Node]) -> tuple[str, ...]:
        """Link what a pointer needs, all or nothing, each under its name or, where that is taken, a numbered one."""
        keys: list[str] = []
        try:
            for node in nodes:
                if node not in self._children.values():
                    key = self._free_key(node.name)
                    self._link(key, node)
                    keys.append(key)
        except GraphError:
            for key in keys:
                self._unlink(key)
            raise
        return tuple(keys)

    def _free_key(self, name: str) -> str:
        key, number = name, 2
        while key in self._children or hasattr(self, key):
            key, number = f"{name}_{number}", number + 1
        return key

    def _unlink_target(self) -> None:
        for key in self._pointer.keys if self._pointer else ():
            if key in self._children:
                self._unlink(key)


def as_nodes(link: Node | Iterable[Node]) -> list[Node]:
    """One node or several, as a list."""
    return [link] if isinstance(link, Node) else list(link)
