"""Names of nodes for messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .node import Node

__all__ = ["node_path"]


def node_path(node: Node) -> str:
    """Where a node stands, as a person would point to it: the keys from the topmost module down to it.

    A node with several parents is named through the first that linked it.
    """
    keys: list[str] = []
    while True:
        parent = next(iter(node.parents), None)
        if parent is None:
            return ".".join([node.name, *reversed(keys)]) if keys else node.name
        keys.append(next(key for key, child in parent.children.items() if child is node))
        node = parent
