"""Walks over the graph: iterative, each node once, linear in nodes + edges."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .node import Node

__all__ = ["mark_stale", "reaches", "topological_order"]


def topological_order(root: Node) -> tuple[Node, ...]:
    """All nodes at and below ``root``, every parent before its children, siblings in the order of their links."""
    finished: list[Node] = []
    visited = {root}
    stack: list[tuple[Node, Iterator[Node]]] = [(root, _backwards(root))]
    while stack:
        node, children = stack[-1]
        for child in children:
            if child not in visited:
                visited.add(child)
                if child.children:
                    stack.append((child, _backwards(child)))
                    break
                finished.append(child)
        else:
            finished.append(node)
            stack.pop()
    return tuple(reversed(finished))


def _backwards(node: Node) -> Iterator[Node]:
    return reversed(list(node.children.values()))


def reaches(start: Node, target: Node) -> bool:
    """Whether a path leads from ``start`` down to ``target``.

    Walks down from the one and up from the other in turn, so that the cost is that of the smaller side: a graph built
    from the leaves, or from the root, costs a constant for each link.
    """
    if start is target:
        return True
    below, above = {start}, {target}
    down, up = deque([start]), deque([target])
    while down and up:
        for child in down.popleft().children.values():
            if child is target:
                return True
            if child not in below:
                below.add(child)
                down.append(child)
        for parent in up.popleft().parents:
            if parent is start:
                return True
            if parent not in above:
                above.add(parent)
                up.append(parent)
    return False


def mark_stale(node: Node) -> None:
    """Drop what ``node`` and everything above it remember of the graph.

    A stale node has only stale ancestors (computing a structure freshens all nodes below), so the walk stops there.
    """
    stack = [node]
    while stack:
        current = stack.pop()
        if not current._stale:
            # Past the attribute setters of nodes, which look for links: this runs for all ancestors at each edit.
            attributes = current.__dict__
            attributes["_stale"], attributes["_structure"] = True, None
            stack.extend(current.parents)
