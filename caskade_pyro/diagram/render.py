"""From the specification of a picture to Graphviz."""

from __future__ import annotations

import re
from html import escape

import graphviz

from .picture import Picture
from .specification import Box, Diagram, DiagramNode
from .style import BARS, BOX, EDGE, GRAPH, NODE, NODES, SMALL_TEXT, SOFT_TEXT, box_style, direction, edge_style

__all__ = ["render"]

TABLE = '<table border="0" cellborder="0" cellspacing="0" cellpadding="0"'
BAR_WIDTH, EIGHTH = 7, 2
"""The width of the bars of a histogram and an eighth of its height, in points."""


def render(diagram: Diagram) -> Picture:
    """Draw a specification.

    Args:
        diagram: What the picture shows.

    Returns:
        A graphviz object; equal specifications give the same source, letter by letter.

    Example:
        >>> from caskade_pyro.diagram.specification import Box, Diagram, DiagramNode, NodeKind
        >>> node = DiagramNode("flux", NodeKind.LATENT, ("flux", "~ Normal(0, 1)"))
        >>> picture = render(Diagram("survey", (node,), (), (Box("stars", "stars", 3, ("flux",)),)))
        >>> "subgraph cluster_stars {" in picture.source
        True
    """
    picture = Picture(
        identifier(diagram.name),
        graph_attr=GRAPH | {"rankdir": direction(diagram)},
        node_attr=NODE,
        edge_attr=EDGE,
    )
    picture.specification = diagram
    nodes = {node.id: node for node in diagram.nodes}
    boxed = {node for box, _ in diagram.walk() for node in box.nodes}
    for node in diagram.nodes:
        if node.id not in boxed:
            _add(picture, node)
    for cluster in _clusters(diagram, nodes):
        picture.subgraph(cluster)
    of_graph = diagram.of_graph
    for edge in diagram.edges:
        picture.edge(identifier(edge.tail), identifier(edge.head), **edge_style(edge.kind, of_graph))
    return picture


def identifier(text: str) -> str:
    """A name in the language of Graphviz, where a colon means something; different texts keep different names."""
    return re.sub(r"[^\w.]", lambda found: f"-{ord(found[0]):x}-", text)


def _clusters(diagram: Diagram, nodes: dict[str, DiagramNode]) -> list[graphviz.Digraph]:
    """The outermost boxes with all that is in them, built from the innermost outwards."""
    built: dict[str, graphviz.Digraph] = {}
    styles = box_style(diagram)
    for box, _ in reversed(list(diagram.walk())):
        cluster = graphviz.Digraph(
            f"cluster_{identifier(box.id)}", graph_attr=BOX | styles[box.id] | {"label": _box_label(box)}
        )
        for one in box.nodes:
            _add(cluster, nodes[one])
        for inner in box.boxes:
            cluster.subgraph(built.pop(inner.id))
        if not box.nodes and not box.boxes:  # Graphviz drops a cluster without nodes
            cluster.node(f"{identifier(box.id)}-empty", label="", style="invis", width="1", height="0.3")
        built[box.id] = cluster
    return [built[box.id] for box in diagram.boxes]


def _add(graph: graphviz.Digraph, node: DiagramNode) -> None:
    graph.node(identifier(node.id), label=_label(node), tooltip=graphviz.escape(node.tooltip), **NODES[node.kind])


def _label(node: DiagramNode) -> str:
    """The name, and under it in smaller letters the rest."""
    name, *rest = (escape(line) for line in node.lines)
    gap = (
        '<br/><font point-size="4"> </font>' if rest else ""
    )  # keeps the second line clear of an underscore in the first
    text = name + gap + "".join(map(_soft, rest)) + "".join(map(_small, map(escape, node.summary)))
    if not node.histogram:
        return f"<{text}>"
    return f"<{TABLE}><tr><td>{text}</td></tr><tr><td>{_bars(node.histogram)}</td></tr></table>>"


def _soft(line: str) -> str:
    return f'<br/><font point-size="{SMALL_TEXT}" color="{SOFT_TEXT}">{line}</font>'


def _small(line: str) -> str:
    return f'<br/><font point-size="{SMALL_TEXT}">{line}</font>'


def _bars(heights: tuple[int, ...]) -> str:
    """A histogram as a row of cells with a filled one in each, which stands on the bottom."""
    width, height = BAR_WIDTH * len(heights), EIGHTH * 8
    cells = "".join(f"<td>{_bar(EIGHTH * filled, height - EIGHTH * filled)}</td>" for filled in heights)
    return f'{TABLE} fixedsize="true" width="{width}" height="{height}"><tr>{cells}</tr></table>'


def _bar(filled: int, free: int) -> str:
    rows = [("", free), (f' bgcolor="{BARS}"', filled)]
    size = f'width="{BAR_WIDTH}" fixedsize="true"'
    cells = [f'<tr><td {size} height="{high}"{fill}></td></tr>' for fill, high in rows if high]
    return f"{TABLE}>{''.join(cells)}</table>"


def _box_label(box: Box) -> str:
    return f"<<i>{escape(box.name)}</i>{'' if box.size is None else f' = {box.size}'}>"
