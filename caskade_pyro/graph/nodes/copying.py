"""Copies of graphs: ``copy``, ``deepcopy`` and ``pickle`` of any node, with all that hangs below it.

A graph is copied as a flat table of its nodes and their states, not by following links from node to node, so that its
depth costs no recursion. Nodes outside, above it for example, stay outside: a copied module has no parents. What is
remembered of the graph is worked out anew for the copy, and the values of a call that runs are no part of it.

Pickle has no place to keep a table for the time of one dump. A node therefore reduces to an empty node and the
table of the graph at whose top pickle has met it; the table is known to the other nodes of that graph until its
last item, an `_End`, is pickled. By then pickle has met all of them and asks none again.
"""

from __future__ import annotations

import copyreg
import threading
import weakref
from collections.abc import Iterable
from copy import copy, deepcopy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .node import Node

__all__ = ["GraphTable", "copied", "deep_copied", "reduced"]

NOT_COPIED = ("_parents", "_stale", "_structure")
"""Attributes that belong to a node's place in one graph, or are worked out of it."""

State = tuple[dict[str, Any], "list[Any] | dict[str, Any] | None", tuple["Node", ...]]
"""The attributes of a node, its members where it is a list or a dict, and its parents within the copied graph."""


def _state(node: Node, inside: Iterable[Node]) -> State:
    attributes = {key: value for key, value in vars(node).items() if key not in NOT_COPIED}
    members: list[Any] | dict[str, Any] | None = None
    if isinstance(node, list):
        members = list(list.__iter__(node))
    elif isinstance(node, dict):
        members = dict(dict.items(node))
    return attributes, members, tuple(parent for parent in node.parents if parent in inside)


def _restore(node: Node, state: State) -> None:
    attributes, members, parents = state
    vars(node).update(attributes)
    vars(node).update(_parents=dict.fromkeys(parents, 1), _stale=True, _structure=None)
    if isinstance(node, list):
        list.__setitem__(node, slice(None), list(members or ()))  # pickle may fill one node through two tables
    elif isinstance(node, dict):
        dict.update(node, members or ())


def _adopt(nodes: Iterable[Node]) -> None:
    """Make nodes the parents of their children, also of those that another table holds."""
    for node in nodes:
        for child in node.children.values():
            vars(child).setdefault("_parents", {}).setdefault(node, 1)


def _empty(node: Node, members: Iterable[Node] = ()) -> Any:
    """A node of the same class without anything in it; only a tuple has its members from the start."""
    cls = type(node)
    return cls.__new__(cls, *((tuple(members),) if isinstance(node, tuple) else ()))


# copy


def copied(node: Node) -> Any:
    """Another node with the same children and attributes."""
    new = _empty(node, tuple.__iter__(node) if isinstance(node, tuple) else ())
    attributes, members, _ = _state(node, ())
    attributes["_children"] = dict(attributes["_children"])
    attributes["_plates"] = dict(attributes["_plates"])
    attributes["meta"] = copy(attributes["meta"])
    _restore(new, (attributes, members, ()))
    _adopt([new])
    return new


def deep_copied(node: Node, memo: dict[int, Any]) -> Any:
    """Another graph with copies of all nodes at and below a node; ``memo`` holds what was copied already."""
    nodes = [one for one in node.structure.order if id(one) not in memo]
    for one in reversed(nodes):  # the members of a tuple come before it
        members = [memo[id(member)] for member in tuple.__iter__(one)] if isinstance(one, tuple) else ()
        memo[id(one)] = _empty(one, members)
    for one in nodes:
        _restore(memo[id(one)], deepcopy(_state(one, ()), memo))
    for one in node.structure.order:
        parents = (memo[id(parent)] for parent in one.parents if id(parent) in memo)
        vars(memo[id(one)])["_parents"] = dict.fromkeys(parents, 1)
    return memo[id(node)]


# pickle


class _Started(threading.local):
    def __init__(self) -> None:
        self.tables: list[weakref.ref[GraphTable]] = []


_started = _Started()


class GraphTable:
    """The nodes at and below one node, with their states, for pickle."""

    def __init__(self, top: Node | None = None) -> None:
        self.top = top
        self.members: frozenset[Node] = frozenset() if top is None else top.structure.members

    def __reduce__(self) -> tuple[Any, ...]:
        before = [table for table in _alive() if table is not self]
        order = () if self.top is None else self.top.structure.order
        nodes = [node for node in order if not any(node in table.members for table in before)]
        return GraphTable, (), (nodes, [_state(node, self.members) for node in nodes], _End(self))

    def __setstate__(self, state: tuple[list[Node], list[State], object]) -> None:
        """Fill the nodes, all of which exist by now."""
        nodes, states, _ = state
        for node, one in zip(nodes, states, strict=True):
            earlier = vars(node).get("_parents", {})
            _restore(node, one)
            vars(node)["_parents"].update(earlier)
        _adopt(nodes)


class _End:
    """The last item of a table: once it is pickled, so is all that belongs to the table."""

    def __init__(self, table: GraphTable | None = None) -> None:
        self.table = table

    def __reduce__(self) -> tuple[Any, ...]:
        _started.tables = [known for known in _started.tables if known() not in (None, self.table)]
        return _End, ()


def _alive() -> list[GraphTable]:
    tables = [known() for known in _started.tables]
    return [table for table in tables if table is not None]


def reduced(node: Node) -> tuple[Any, ...]:
    """What pickle needs to know of a node: how to make an empty one, and the table of the graph that it is part of."""
    table = next((table for table in _alive() if node in table.members), None)
    if table is None:
        table = GraphTable(node)
        _started.tables.append(weakref.ref(table))
    members = (tuple(tuple.__iter__(node)),) if isinstance(node, tuple) else ()
    return copyreg.__newobj__, (type(node), *members), table  # type: ignore[attr-defined]
