"""How the parts of a picture look.

Kinds differ in form, border or lightness and not in colour alone, so that they stay apart in grey print and for every
eye; the one colour is a blue that all kinds of colour vision see. Params look as people know them from ``caskade``.
"""

from __future__ import annotations

from .specification import EdgeKind, NodeKind

__all__ = ["BOX", "EDGE", "EDGES", "GRAPH", "NODE", "NODES", "SMALL_TEXT", "SOFT_TEXT", "edge_style"]

INK = "#1A1A1A"
GREY = "#8C8C8C"
BLUE = "#0072B2"
SOFT_TEXT = "#4D4D4D"
SMALL_TEXT = "10"
# Graphviz knows the widths of its letters, and every viewer of an SVG has it or one of the same widths.
FONT = "Helvetica"

GRAPH = {"rankdir": "TB", "nodesep": "0.28", "ranksep": "0.45", "pad": "0.15", "fontname": FONT, "bgcolor": "white"}
NODE = {"fontname": FONT, "fontsize": "13", "fontcolor": INK, "color": INK, "style": "filled", "margin": "0.10,0.06"}
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
    NodeKind.LATENT: {"shape": "ellipse", "fillcolor": "white", "margin": "0.04,0.03"},
    NodeKind.OBSERVED: {"shape": "ellipse", "fillcolor": "#C8C8C8", "margin": "0.04,0.03"},
    NodeKind.PREDICTED: {"shape": "ellipse", "fillcolor": "white", "style": "filled,dashed", "margin": "0.04,0.03"},
}

EDGES: dict[EdgeKind, dict[str, str]] = {
    EdgeKind.LINK: {},
    EdgeKind.POINTER: {"color": GREY},
    EdgeKind.PRIOR: {"color": BLUE, "penwidth": "1.2"},
    EdgeKind.FORWARD: {},
}


def edge_style(kind: EdgeKind, head: NodeKind) -> dict[str, str]:
    """How an edge looks: among links, which are solid, the arguments of priors are dashed."""
    dashed = kind is EdgeKind.PRIOR and head is NodeKind.DYNAMIC
    return EDGES[kind] | ({"style": "dashed"} if dashed else {})
