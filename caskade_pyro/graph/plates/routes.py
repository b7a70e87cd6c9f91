"""The shortest way from the root of a graph to each of its nodes, counted in plates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..nodes.structure import is_param
from ..nodes.traversal import topological_order

if TYPE_CHECKING:
    from ..nodes.node import Node

__all__ = ["Route", "find_routes", "is_pointer", "online_nodes"]


@dataclass(frozen=True)
class Route:
    """The best path to a node so far: not through a pointer, fewest plates, fewest links.

    ``borrowed`` says that it leads through a pointer, which uses a param and does not own it; ``rival`` is another
    chain just as short.
    """

    path: str
    links: int
    chain: tuple[str, ...]
    borrowed: bool = False
    rival: tuple[str, ...] | None = None

    @property
    def rank(self) -> tuple[bool, int]:
        """The less, the better."""
        return self.borrowed, len(self.chain)


def find_routes(root: Node) -> tuple[dict[Node, Route], dict[str, tuple[Node, str]]]:
    """The shortest path to every node, and for every plate name the parent and key of its link."""
    routes = {root: Route("", 0, ())}
    links: dict[str, tuple[Node, str]] = {}
    for node in topological_order(root):
        here = routes[node]
        subgraphs = node.subgraphs
        borrowed = here.borrowed or is_pointer(node)
        for key, child in node.children.items():
            path = f"{here.path}.{key}" if here.path else key
            chain = here.chain
            if child in subgraphs:
                links[path] = (node, key)
                chain = (*chain, path)
            route = Route(path, here.links + 1, chain, borrowed, _extended(here, chain))
            routes[child] = _shorter(routes.get(child), route)
    return routes, links


def is_pointer(node: Node) -> bool:
    """Whether a node is a param that takes its value from others."""
    return is_param(node) and bool(node.pointer)  # type: ignore[attr-defined]


def online_nodes(root: Node) -> frozenset[Node]:
    """The nodes that a call of ``root`` runs itself: those that lie in none of its plates."""
    return frozenset(node for node, route in find_routes(root)[0].items() if not route.chain)


def _extended(here: Route, chain: tuple[str, ...]) -> tuple[str, ...] | None:
    """The rival of a node's parent leads to the node as well."""
    return None if here.rival is None else here.rival + chain[len(here.chain) :]


def _shorter(former: Route | None, new: Route) -> Route:
    if former is None or new.rank < former.rank:
        return new
    if new.rank > former.rank:
        return former
    best = new if new.links < former.links else former
    other = former if best is new else new
    rival = best.rival or other.rival or (other.chain if other.chain != best.chain else None)
    return replace(best, rival=rival)
