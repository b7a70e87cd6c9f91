"""From the specification of a picture to a Mermaid flowchart."""

from __future__ import annotations

from .specification import Box, Diagram, NodeKind
from .style import NODES, edge_style

__all__ = ["mermaid"]

ROUND = ('(["', '"])')
SQUARE = ('["', '"]')
FORMS = dict.fromkeys(NodeKind, ROUND) | {
    NodeKind.DYNAMIC: SQUARE,
    NodeKind.STATIC: SQUARE,
    NodeKind.LIVE: SQUARE,
    NodeKind.POINTER: ('>"', '"]'),
}


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
        node.id: f"{short[node.id]}{'<br/>'.join(map(_quoted, node.lines)).join(FORMS[node.kind])}:::{node.kind.value}"
        for node in diagram.nodes
    }
    boxed = {node for box, _ in diagram.walk() for node in box.nodes}
    lines = ["flowchart TB", *(f"  {drawn[node.id]}" for node in diagram.nodes if node.id not in boxed)]
    lines += _subgraphs(diagram, drawn)
    kinds = {node.id: node.kind for node in diagram.nodes}
    for index, edge in enumerate(diagram.edges):
        style = edge_style(edge.kind, kinds[edge.head])
        lines.append(f"  {short[edge.tail]} {'-.->' if 'style' in style else '-->'} {short[edge.head]}")
        if "color" in style:
            lines.append(f"  linkStyle {index} stroke:{style['color']}")
    lines += [f"  classDef {kind.value} {_class(kind)}" for kind in NodeKind if kind in kinds.values()]
    return "\n".join([*lines, ""])


def _subgraphs(diagram: Diagram, drawn: dict[str, str]) -> list[str]:
    lines: list[str] = []
    stack: list[tuple[Box | None, int]] = [(box, 1) for box in reversed(diagram.boxes)]
    opened = 0
    while stack:
        box, depth = stack.pop()
        indent = "  " * depth
        if box is None:
            lines.append(f"{indent}end")
            continue
        lines.append(f'{indent}subgraph b{opened}["{_quoted(box.label)}"]')
        opened += 1
        lines += [f"{indent}  {drawn[node]}" for node in box.nodes]
        stack.append((None, depth))
        stack.extend((inner, depth + 1) for inner in reversed(box.boxes))
    return lines


def _quoted(text: str) -> str:
    """Text as Mermaid shows it word for word."""
    return text.replace("#", "#35;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")


def _class(kind: NodeKind) -> str:
    style = NODES[kind]
    dashes = ",stroke-dasharray:4 3" if "dashed" in style.get("style", "") else ""
    return f"fill:{style['fillcolor']},stroke:{style.get('color', '#1A1A1A')},color:#1A1A1A{dashes}"
