"""Modules drawn as one node each, so that large graphs and models stay readable."""

from __future__ import annotations

import numbers
from collections.abc import Collection, Mapping

from ..errors import CaskadeException
from ..graph.nodes.node import Node
from ..graph.nodes.structure import is_param
from .boxes import Path, nest
from .specification import Diagram, DiagramEdge, DiagramNode

__all__ = ["Collapse", "collapsed_modules", "merge"]

Collapse = str | Node | Collection[str | Node]
"""Modules to draw as one node: paths from the root, names, or the modules themselves; one of them, or several."""

SHOWN = 20


def collapsed_modules(paths: Mapping[Node, str], collapse: Collapse = (), depth: int | None = None) -> dict[Node, str]:
    """The modules that are drawn as one node each.

    Args:
        paths: The path of every node of the graph from its root.
        collapse: Modules: by path, by name (all modules that have it), or themselves.
        depth: How many links from the root the picture goes: modules at the end of that many are drawn as one node.

    Returns:
        The modules and their paths.

    Raises:
        CaskadeException: ``collapse`` names no module, or ``depth`` is negative.
    """
    if depth is not None and (isinstance(depth, bool) or not isinstance(depth, numbers.Integral) or depth < 0):
        raise CaskadeException(f"depth= counts links from the root, from 0 upwards; got {depth!r}.")
    modules = {node: path for node, path in paths.items() if not is_param(node) and node.children}
    given = list(collapse) if isinstance(collapse, (list, tuple, set, frozenset)) else [collapse]
    found = {node: path for node, path in modules.items() if depth is not None and _length(path) >= depth}
    for one in given:
        wanted = {node: path for node, path in modules.items() if one in (path, node.name) or one is node}
        if not wanted:
            known = [path or node.name for node, path in modules.items()]
            listing = ", ".join(known[:SHOWN]) + (", ..." if len(known) > SHOWN else "")
            raise CaskadeException(f"collapse= names {one!r}, but the modules with parts are {listing or 'none'}.")
        found |= wanted
    return found


def _length(path: str) -> int:
    return path.count(".") + 1 if path else 0


def merge(
    diagram: Diagram, into: Mapping[str, str], merged: Mapping[str, DiagramNode], plates: Mapping[str, Path]
) -> Diagram:
    """Draw one node in place of several.

    Args:
        diagram: The picture with all nodes.
        into: For the ids of the nodes that disappear, the id of the node that stands for them.
        merged: The nodes that stand for others, by id.
        plates: Their plates.

    Returns:
        The picture without the nodes of ``into``; their edges lead from and to what stands for them, each once.
    """
    nodes: dict[str, DiagramNode] = {}
    for node in diagram.nodes:
        shown = into.get(node.id, node.id)
        nodes.setdefault(shown, merged.get(shown, node))
    edges: dict[DiagramEdge, None] = {}
    for edge in diagram.edges:
        tail, head = into.get(edge.tail, edge.tail), into.get(edge.head, edge.head)
        if tail != head:
            edges[DiagramEdge(tail, head, edge.kind)] = None
    stands = diagram.plates() | dict(plates)
    empty = [around for box, around in diagram.walk() if not box.nodes and not box.boxes]
    boxes = nest({node: stands[node] for node in nodes}, diagram.sizes(), empty)
    return Diagram(diagram.name, tuple(nodes.values()), tuple(edges), boxes)
