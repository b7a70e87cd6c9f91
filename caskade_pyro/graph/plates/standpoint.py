"""From where a call sees the graph, worked out once and kept until the graph is edited."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..nodes.node import Node
    from .layout import PlateLayout

__all__ = ["Standpoint", "remaining_chain"]


class Standpoint:
    """From where a call sees the graph: the module that it runs, and the plates of which it sees one member.

    Args:
        root: The module.
        layout: The plate layout of the outermost module, which gives batch dims their meaning.
        inside: The plates of ``layout``, outermost first, of which one member is seen.
        carries: Whether static params have a dim for plates that were entered on the way from the caller.

    Attributes:
        online: The nodes that the call runs itself, without crossing a hierarchical link.
        members: All nodes at and below the module.
        asks_for: How many dynamic params the module has.
        repeated: What is remembered of linked children whose members are seen from here.
    """

    __slots__ = ("_entered", "asks_for", "carries", "inside", "layout", "members", "online", "repeated", "root")

    def __init__(self, root: Node, layout: PlateLayout, inside: tuple[str, ...] = (), carries: bool = False) -> None:
        self.root = root
        self.layout = layout
        self.inside = inside
        self.carries = carries
        structure = root.structure
        self.online = structure.online
        self.members = structure.members
        self.asks_for = len(structure.dynamic_params)
        self.repeated: dict[Node, Any] = {}
        self._entered: dict[Node, Standpoint] = {}

    def enter(self, module: Node) -> Standpoint:
        """The standpoint of a call of a module below that is made from here."""
        known = self._entered.get(module)
        if known is None:
            ahead = remaining_chain(self.layout, self.inside, module)
            carries = any(self.layout.statics_with_dim(plate) for plate in ahead)
            known = self._entered[module] = Standpoint(module, self.layout, (*self.inside, *ahead), carries)
        return known


def remaining_chain(layout: PlateLayout, inside: tuple[str, ...], node: Node) -> tuple[str, ...]:
    """The plates around a node that are still ahead for an evaluation inside of some plates."""
    return tuple(plate for plate in layout.chains[node] if plate not in inside)
