"""A picture as HTML: a page of its own, and boxes inside of boxes for where nothing draws."""

from __future__ import annotations

from html import escape

from .specification import Box, Diagram, DiagramNode, EdgeKind, NodeKind
from .style import INK, NODES, SOFT_TEXT, box_style

__all__ = ["fragment", "page"]

FONT = "font-family:Helvetica,Arial,sans-serif"
FLEX = "display:flex;flex-wrap:wrap;gap:8px;align-items:flex-start"
CELL = "text-align:left;padding:2px 14px 2px 0;vertical-align:top"
KINDS = {
    NodeKind.LATENT: "latent",
    NodeKind.OBSERVED: "observed",
    NodeKind.PREDICTED: "predicted, no data given",
    NodeKind.COLLAPSED: "module, drawn as one",
}


def page(diagram: Diagram, svg: str | None) -> str:
    """A page that needs nothing else: the picture, and under it all nodes written out.

    Args:
        diagram: What the picture shows.
        svg: The picture drawn; None where nothing can draw, and the page then has boxes without arrows.

    Returns:
        The page, in HTML.
    """
    picture = fragment(diagram) if svg is None else svg[svg.index("<svg") :]
    title = escape(diagram.name)
    return "\n".join(
        [
            "<!DOCTYPE html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>',
            f'<body style="{FONT};color:{INK};margin:2em"><h1 style="font-size:1.3em">{title}</h1>',
            picture,
            _table(diagram),
            "</body></html>",
            "",
        ]
    )


def fragment(diagram: Diagram) -> str:
    """The plates as boxes inside of boxes, with each node's parents in words, for where no arrow can be drawn.

    Args:
        diagram: What the picture shows.

    Returns:
        A piece of HTML without scripts, links or outside files.

    Example:
        >>> node = DiagramNode("stars.flux", NodeKind.LATENT, ("flux", "~ Normal(0, 1)"))
        >>> html = fragment(Diagram("survey", (node,), (), (Box("stars", "stars", 3, ("stars.flux",)),)))
        >>> "<i>stars</i> = 3" in html, "~ Normal(0, 1)" in html
        (True, True)
    """
    parents = _parents(diagram)
    chips = {node.id: _chip(node, parents[node.id]) for node in diagram.nodes}
    boxed = {node for box, _ in diagram.walk() for node in box.nodes}
    styles = box_style(diagram)
    built: dict[str, str] = {}
    for box, _ in reversed(list(diagram.walk())):
        inside = "".join([*(chips[node] for node in box.nodes), *(built.pop(inner.id) for inner in box.boxes)])
        built[box.id] = _frame(box, inside, styles[box.id])
    outside = "".join([*(chips[node.id] for node in diagram.nodes if node.id not in boxed), *built.values()])
    return f'<div style="{FONT};font-size:13px;color:{INK};{FLEX}">{outside}</div>'


def _parents(diagram: Diagram) -> dict[str, list[str]]:
    """For the id of each node, the ids of the nodes that it comes from: in a graph, of those that its prior uses."""
    found: dict[str, list[str]] = {node.id: [] for node in diagram.nodes}
    for edge in diagram.edges:
        if edge.kind not in (EdgeKind.LINK, EdgeKind.POINTER):
            found[edge.head].append(edge.tail)
        elif edge.kind is EdgeKind.POINTER:
            found[edge.tail].append(edge.head)
    return found


def _chip(node: DiagramNode, parents: list[str]) -> str:
    style = NODES[node.kind]
    line = "dashed" if "dashed" in style.get("style", "") else "double" if "peripheries" in style else "solid"
    width = "3px" if line == "double" else "1px"
    look = f"border:{width} {line} {style.get('color', INK)};background:{style['fillcolor']};border-radius:10px"
    name, *rest = map(escape, (*node.lines, *node.summary))
    small = "".join(f'<div style="color:{SOFT_TEXT};font-size:11px">{line}</div>' for line in rest)
    arrow = f'<div style="color:{SOFT_TEXT};font-size:11px">← {escape(", ".join(parents))}</div>' if parents else ""
    tip = escape(node.tooltip, quote=True)
    return f'<div title="{tip}" style="{look};padding:4px 9px;text-align:center"><div>{name}</div>{small}{arrow}</div>'


def _frame(box: Box, inside: str, style: dict[str, str]) -> str:
    colour = style.get("color", SOFT_TEXT)
    line = "dashed" if "style" in style else "solid"
    size = "" if box.size is None else f" = {box.size}"
    label = f'<div style="width:100%;text-align:right;color:{colour}"><i>{escape(box.name)}</i>{size}</div>'
    look = f"border:1.5px {line} {colour};border-radius:10px;padding:10px;background:#0072B20D;{FLEX}"
    return f'<div style="{look}">{inside}{label}</div>'


def _table(diagram: Diagram) -> str:
    """All nodes in words."""
    plates, sizes, parents = diagram.plates(), diagram.sizes(), _parents(diagram)
    rows = [("node", "", "plates", "depends on")]
    for node in diagram.nodes:
        around = [plate if sizes[plate] is None else f"{plate} = {sizes[plate]}" for plate in plates[node.id]]
        summary = f" ({'; '.join(node.summary)})" if node.summary else ""
        written = (node.statement or node.id) + summary
        rows.append((written, KINDS.get(node.kind, node.kind.value), ", ".join(around), ", ".join(parents[node.id])))
    lines = [_row("th", rows[0]), *(_row("td", row) for row in rows[1:])]
    return f'<table style="font-size:13px;margin-top:1.5em;border-collapse:collapse">{"".join(lines)}</table>'


def _row(tag: str, cells: tuple[str, ...]) -> str:
    return f"<tr>{''.join(f'<{tag} style={CELL!r}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"
