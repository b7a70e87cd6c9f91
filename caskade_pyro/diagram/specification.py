"""What a picture shows, in plain data: testable without Graphviz, and equal for equal graphs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

__all__ = ["Box", "Diagram", "DiagramEdge", "DiagramNode", "EdgeKind", "NodeKind", "with_units"]


class NodeKind(Enum):
    """What a node stands for; the first five in the graph of a simulator, the last four in the diagram of a model."""

    MODULE = "module"
    DYNAMIC = "dynamic"
    STATIC = "static"
    LIVE = "live"
    POINTER = "pointer"
    COLLAPSED = "collapsed"
    """A module whose parts are not drawn, in both."""
    LATENT = "latent"
    DETERMINISTIC = "deterministic"
    OBSERVED = "observed"
    PREDICTED = "predicted"


class EdgeKind(Enum):
    """What an edge says of its two nodes."""

    LINK = "link"
    """The head is a child of the tail."""
    POINTER = "pointer"
    """The tail takes its value from the head."""
    PRIOR = "prior"
    """The prior of the head has the tail as an argument."""
    DETERMINISTIC = "deterministic"
    """The head is computed from the tail."""
    FORWARD = "forward"
    """The tail enters the forward method that predicts the head."""


def with_units(name: str, units: str | None) -> str:
    """A name and its units; that it has none goes without saying."""
    return f"{name} [{units}]" if units and units != "unitless" else name


@dataclass(frozen=True)
class DiagramNode:
    """A node of the picture.

    Attributes:
        id: Its name in edges and boxes, made of its path: the same for the same graph.
        kind: What it stands for.
        lines: Its label, the name first.
        tooltip: What is shown of it when pointed at.
        statement: What a model says of it, written out in full, such as ``stars.flux ~ Normal(mean, scatter)``.
        summary: What draws of it come to, in lines of the label after the others.
        histogram: The heights of bars to be drawn in it, in eighths of the highest.
    """

    id: str
    kind: NodeKind
    lines: tuple[str, ...]
    tooltip: str = ""
    statement: str = ""
    summary: tuple[str, ...] = ()
    histogram: tuple[int, ...] = ()


@dataclass(frozen=True)
class DiagramEdge:
    """An arrow from one node to another, both given by their ids."""

    tail: str
    head: str
    kind: EdgeKind


@dataclass(frozen=True)
class Box:
    """The box of a plate.

    Where plates cross, or a quantity is repeated along an inner plate only, one plate has several boxes.

    Attributes:
        id: The names of the plates around it and its own: the same for the same graph.
        name: The name of the plate.
        size: How many members it has; None as long as nothing says so.
        nodes: The ids of the nodes directly in it.
        boxes: The boxes directly in it.
    """

    id: str
    name: str
    size: int | None
    nodes: tuple[str, ...] = ()
    boxes: tuple[Box, ...] = ()

    @property
    def label(self) -> str:
        """What is written in the corner of the box."""
        return self.name if self.size is None else f"{self.name} = {self.size}"


@dataclass(frozen=True)
class Diagram:
    """A picture of a graph or of a model.

    Attributes:
        name: The name of the module or model.
        nodes: All nodes, parents first.
        edges: All edges.
        boxes: The outermost boxes; nodes that no box names stand outside of all.
    """

    name: str
    nodes: tuple[DiagramNode, ...]
    edges: tuple[DiagramEdge, ...]
    boxes: tuple[Box, ...]

    def walk(self) -> Iterator[tuple[Box, tuple[str, ...]]]:
        """Every box, outer ones first, with the names of the plates from the outermost one to its own."""
        stack: list[tuple[Box, tuple[str, ...]]] = [(box, (box.name,)) for box in reversed(self.boxes)]
        while stack:
            box, plates = stack.pop()
            yield box, plates
            stack.extend((inner, (*plates, inner.name)) for inner in reversed(box.boxes))

    def plates(self) -> dict[str, tuple[str, ...]]:
        """For the id of every node, the plates whose boxes it stands in, outermost first."""
        found: dict[str, tuple[str, ...]] = {node.id: () for node in self.nodes}
        for box, plates in self.walk():
            found |= dict.fromkeys(box.nodes, plates)
        return found

    @property
    def of_graph(self) -> bool:
        """Whether it shows the links of a graph, rather than a model."""
        return any(edge.kind is EdgeKind.LINK for edge in self.edges)

    def boxes_by_plate(self) -> dict[str, tuple[str, ...]]:
        """The ids of the boxes of every plate, the outermost one first: the others are the same plate once more."""
        found: dict[str, list[tuple[int, str]]] = {}
        for box, plates in self.walk():
            found.setdefault(box.name, []).append((len(plates), box.id))
        return {
            name: tuple(one for _, one in sorted(boxes, key=lambda found: found[0])) for name, boxes in found.items()
        }

    def sizes(self) -> dict[str, int | None]:
        """The size of every plate that has a box, by name."""
        return {box.name: box.size for box, _ in self.walk()}
