"""How the parts of a picture look.

Kinds differ in form, border or lightness and not in colour alone, so that they stay apart in grey print and for every
eye. The colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), which all kinds of colour vision tell
apart. Params look as people know them from ``caskade``; deterministic nodes have the double border of Koller and Friedman
(Probabilistic Graphical Models, 2009), and what leads to them the hollow arrow of BUGS.
"""

from __future__ import annotations

from .specification import Diagram, EdgeKind, NodeKind

__all__ = [
    "BARS",
    "BOX",
    "EDGE",
    "EDGES",
    "GRAPH",
    "INK",
    "NODE",
    "NODES",
    "SMALL_TEXT",
    "SOFT_TEXT",
    "box_style",
    "direction",
    "edge_style",
]

INK = "#1A1A1A"
GREY = "#8C8C8C"
BLUE = "#0072B2"
BARS = "#56B4E9"
SOFT_TEXT = "#4D4D4D"
# Of plates with several boxes, which have their own so that the boxes are seen to be the same plate.
PLATES = ("#D55E00", "#009E73", "#CC79A7", "#E69F00")
SMALL_TEXT = "10"
# Graphviz knows the widths of its letters, and every viewer of an SVG has it or one of the same widths.
FONT = "Helvetica"

# In points: what is wider is hard to read on a page, even across both columns.
WIDEST = 900
LETTER, SPACE = 7, 36
"""The width of a letter of a node's label and that of all around the label."""

GRAPH = {"nodesep": "0.18", "ranksep": "0.4", "pad": "0.15", "fontname": FONT, "bgcolor": "white"}
NODE = {
    "fontname": FONT,
    "fontsize": "13",
    "fontcolor": INK,
    "color": INK,
    "style": "filled",
    "margin": "0.10,0.06",
    "height": "0.36",
}
EDGE = {"color": INK, "arrowsize": "0.7", "penwidth": "0.9"}
BOX = {
    "style": "rounded,filled",
    "fillcolor": f"{BLUE}0D",  # nearly transparent: boxes inside of boxes grow darker
    "color": SOFT_TEXT,
    "penwidth": "1.1",
    "fontname": FONT,
    "fontsize": "12",
    "fontcolor": INK,
    "labelloc": "b",
    "labeljust": "r",
    "margin": "14",
}

# An ellipse around two lines of text is half as wide again, and then too small to read in the column of a journal.
SITE = {"shape": "box", "style": "rounded,filled", "margin": "0.11,0.06"}

NODES: dict[NodeKind, dict[str, str]] = {
    NodeKind.MODULE: {"shape": "ellipse", "fillcolor": "white"},
    NodeKind.DYNAMIC: {"shape": "box", "fillcolor": "white"},
    NodeKind.STATIC: {"shape": "box", "fillcolor": "#E0E0E0", "color": "#E0E0E0"},
    NodeKind.LIVE: {"shape": "box", "fillcolor": "#E0E0E0"},
    NodeKind.POINTER: {
        "shape": "rarrow",
        "fillcolor": "#E0E0E0",
        "color": GREY,
        "margin": "0.16,0.04",
        "height": "0.42",
    },
    NodeKind.COLLAPSED: {"shape": "box", "style": "rounded,filled", "fillcolor": "#F4F4F4", "penwidth": "2.2"},
    NodeKind.LATENT: SITE | {"fillcolor": "white"},
    NodeKind.DETERMINISTIC: SITE | {"fillcolor": "white", "peripheries": "2"},
    NodeKind.OBSERVED: SITE | {"fillcolor": "#C8C8C8"},
    NodeKind.PREDICTED: SITE | {"fillcolor": "white", "style": "rounded,filled,dashed"},
}

EDGES: dict[EdgeKind, dict[str, str]] = {
    EdgeKind.LINK: {},
    EdgeKind.POINTER: {"color": GREY},
    EdgeKind.PRIOR: {"color": BLUE, "penwidth": "1.2"},
    EdgeKind.DETERMINISTIC: {"arrowhead": "empty"},
    EdgeKind.FORWARD: {},
}


def edge_style(kind: EdgeKind, of_graph: bool) -> dict[str, str]:
    """How an edge looks: among links, which are solid, the arguments of priors are dashed."""
    return EDGES[kind] | ({"style": "dashed"} if kind is EdgeKind.PRIOR and of_graph else {})


def direction(diagram: Diagram) -> str:
    """Downwards as people draw such pictures, or to the right where rows of many nodes would be wider than a page."""
    widths: dict[int, int] = {}
    for node, row in zip(diagram.nodes, _rows(diagram), strict=True):
        width = LETTER * max(map(len, (*node.lines, *node.summary))) + SPACE
        widths[row] = widths.get(row, 0) + width
    return "TB" if max(widths.values(), default=0) <= WIDEST else "LR"


def _rows(diagram: Diagram) -> list[int]:
    """In which row each node will stand: below all its parents, or if it has none, right above its first child."""
    heads: dict[str, list[str]] = {node.id: [] for node in diagram.nodes}
    for edge in diagram.edges:
        heads[edge.tail].append(edge.head)
    rows: dict[str, int] = {}
    for node in diagram.nodes:
        for head in heads[node.id]:
            rows[head] = max(rows.get(head, 0), rows.get(node.id, 0) + 1)
    first = {node: min((rows[head] for head in below), default=1) - 1 for node, below in heads.items()}
    return [rows.get(node.id, first[node.id]) for node in diagram.nodes]


def box_style(diagram: Diagram) -> dict[str, dict[str, str]]:
    """How each box looks, by its id.

    Where plates cross, Graphviz cannot draw boxes that overlap. The plate that would overlap is drawn once more inside of
    the other: in the colour of its first box, and dashed.
    """
    styles: dict[str, dict[str, str]] = {}
    labels = _label_places(diagram)
    several = 0
    for boxes in diagram.boxes_by_plate().values():
        if len(boxes) == 1:
            styles[boxes[0]] = labels[boxes[0]]
            continue
        colour = PLATES[several % len(PLATES)]
        several += 1
        own = {"color": colour, "fontcolor": colour, "fillcolor": f"{colour}0D", "penwidth": "1.6"}
        styles[boxes[0]] = own | labels[boxes[0]]
        for box in boxes[1:]:
            styles[box] = own | labels[box] | {"style": "rounded,filled,dashed"}
    return styles


def _label_places(diagram: Diagram) -> dict[str, dict[str, str]]:
    """Labels stand at the lower right, where no edges come in; if more edges leave the box, on the side of those that come."""
    away = {"labelloc": "t"} if direction(diagram) == "TB" else {"labeljust": "l"}
    balance = {box.id: 0 for box, _ in diagram.walk()}
    around = {
        node: {"/".join(plates[:n]) for n in range(1, len(plates) + 1)} for node, plates in diagram.plates().items()
    }
    for edge in diagram.edges:
        for box in around[edge.tail] - around[edge.head]:
            balance[box] += 1
        for box in around[edge.head] - around[edge.tail]:
            balance[box] -= 1
    return {box: away if leaving > 0 else {} for box, leaving in balance.items()}
