"""From the specification of a picture to a Mermaid flowchart."""

from __future__ import annotations

from .specification import Box, Diagram, DiagramNode, EdgeKind, NodeKind
from .style import NODES, box_style, direction, edge_style

__all__ = ["mermaid"]

ROUND = ('(["', '"])')
SQUARE = ('["', '"]')
FORMS = dict.fromkeys(NodeKind, ROUND) | {
    NodeKind.DYNAMIC: SQUARE,
    NodeKind.STATIC: SQUARE,
    NodeKind.LIVE: SQUARE,
    NodeKind.POINTER: ('>"', '"]'),
    NodeKind.COLLAPSED: ('[["', '"]]'),
    NodeKind.DETERMINISTIC: ('{{"', '"}}'),
}
BLOCKS = "▁▁▂▃▄▅▆▇█"


def mermaid(diagram: Diagram) -> str:
    """A picture in the language of Mermaid, for web pages and README files.

    Args:
        diagram: What the picture shows.

    Returns:
        The flowchart, boxes as subgraphs.

    Example:
        >>> from caskade_pyro.diagram.specification import Box, DiagramNode
        >>> node = DiagramNode("flux", NodeKind.LATENT, ("flux", "~ Normal(0, 1)"))
        >>> print(mermaid(Diagram("survey", (node,), (), (Box("stars", "stars", 3, ("flux",)),))))
        flowchart TB
          subgraph b0["stars = 3"]
            n0(["flux<br/>~ Normal(0, 1)"]):::latent
          end
          classDef latent fill:white,stroke:#1A1A1A,color:#1A1A1A
        <BLANKLINE>
    """
    short = {node.id: f"n{index}" for index, node in enumerate(diagram.nodes)}
    drawn = {
        node.id: f"{short[node.id]}{_label(node).join(FORMS[node.kind])}:::{node.kind.value}" for node in diagram.nodes
    }
    boxed = {node for box, _ in diagram.walk() for node in box.nodes}
    lines = [
        f"flowchart {direction(diagram)}",
        *(f"  {drawn[node.id]}" for node in diagram.nodes if node.id not in boxed),
    ]
    lines += _subgraphs(diagram, drawn)
    of_graph = diagram.of_graph
    for index, edge in enumerate(diagram.edges):
        style = edge_style(edge.kind, of_graph)
        lines.append(f"  {short[edge.tail]} {_arrow(edge.kind, style)} {short[edge.head]}")
        if "color" in style:
            lines.append(f"  linkStyle {index} stroke:{style['color']}")
    kinds = {node.kind for node in diagram.nodes}
    lines += [f"  classDef {kind.value} {_class(kind)}" for kind in NodeKind if kind in kinds]
    return "\n".join([*lines, ""])


def _label(node: DiagramNode) -> str:
    bars = ["".join(BLOCKS[height] for height in node.histogram)] if node.histogram else []
    return "<br/>".join(map(_quoted, [*node.lines, *node.summary, *bars]))


def _arrow(kind: EdgeKind, style: dict[str, str]) -> str:
    dashed = "style" in style or kind is EdgeKind.DETERMINISTIC  # Mermaid has no hollow arrow
    return "-.->" if dashed else "-->"


def _subgraphs(diagram: Diagram, drawn: dict[str, str]) -> list[str]:
    lines: list[str] = []
    styles = box_style(diagram)
    borders: list[str] = []
    stack: list[tuple[Box | None, int]] = [(box, 1) for box in reversed(diagram.boxes)]
    opened = 0
    while stack:
        box, depth = stack.pop()
        indent = "  " * depth
        if box is None:
            lines.append(f"{indent}end")
            continue
        lines.append(f'{indent}subgraph b{opened}["{_quoted(box.label)}"]')
        if "color" in styles[box.id]:
            dashes = ",stroke-dasharray:6 4" if "style" in styles[box.id] else ""
            borders.append(f"  style b{opened} stroke:{styles[box.id]['color']},stroke-width:2px{dashes}")
        opened += 1
        lines += [f"{indent}  {drawn[node]}" for node in box.nodes]
        stack.append((None, depth))
        stack.extend((inner, depth + 1) for inner in reversed(box.boxes))
    return lines + borders


def _quoted(text: str) -> str:
    """Text as Mermaid shows it word for word."""
    return text.replace("#", "#35;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")


def _class(kind: NodeKind) -> str:
    style = NODES[kind]
    dashes = ",stroke-dasharray:4 3" if "dashed" in style.get("style", "") else ""
    return f"fill:{style['fillcolor']},stroke:{style.get('color', '#1A1A1A')},color:#1A1A1A{dashes}"
