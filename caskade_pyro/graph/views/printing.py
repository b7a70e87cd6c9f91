"""A graph as text and as HTML, for people: each node once, a shared one by reference wherever it turns up again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...errors import CaskadeException
from ..nodes.shapes import show
from ..nodes.structure import is_param

if TYPE_CHECKING:
    from ..nodes.node import Node
    from ..nodes.param import Param

__all__ = ["Row", "graph_html", "graph_rows", "graph_text", "short"]

_INDENT = "    "
_DEEPEST = 30  # from this level on the level is written as a number, so that the text grows linearly with the graph
_STEPS = 6  # so many keys of a path are shown at most
_ENTRIES = 6  # so many entries of a tensor are shown one by one


@dataclass(frozen=True)
class Row:
    """A node at one of the places where it is linked.

    Attributes:
        level: How many links below the top.
        key: The key of the link; the name of the topmost node.
        kind: The role of a param, the class of another node.
        seen: Where the node was shown before; None at its first place.
        plate: The size of the plate, as text, where the link repeats the node.
        details: What is known of a param: value, shapes, units, bounds, prior, in this order, by name.
    """

    level: int
    key: str
    kind: str
    seen: str | None = None
    plate: str | None = None
    details: tuple[tuple[str, str], ...] = ()


def graph_rows(root: Node) -> Iterator[Row]:
    """The rows of a graph from the top down, one for each link."""
    sizes = _plate_sizes(root)
    routes: dict[Node, tuple[Node, str] | None] = {root: None}
    yield _row(root, 0, root.name, None)
    stack = [(root, 0, iter(root.children.items()))]
    while stack:
        parent, level, links = stack[-1]
        key, child = next(links, (None, None))
        if key is None or child is None:
            stack.pop()
            continue
        plate = sizes.get((parent, key))
        if child in routes:
            yield Row(level + 1, key, _kind(child), _path(child, routes), plate)
            continue
        routes[child] = (parent, key)
        yield _row(child, level + 1, key, plate)
        stack.append((child, level + 1, iter(child.children.items())))


def _row(node: Node, level: int, key: str, plate: str | None) -> Row:
    details = _details(node) if is_param(node) else ()  # type: ignore[arg-type]
    return Row(level, key, _kind(node), None, plate, details)


def _kind(node: Node) -> str:
    if not is_param(node):
        return type(node).__name__
    live = getattr(node, "live", False)
    return f"{node.role.value}, live" if live else str(node.role.value)  # type: ignore[attr-defined]


def _path(node: Node, routes: dict[Node, tuple[Node, str] | None]) -> str:
    """The keys that lead to the first place of a node; of a long path only the last ones."""
    keys: list[str] = []
    route = routes[node]
    while route is not None and len(keys) < _STEPS:
        keys.append(route[1])
        route = routes[route[0]]
    return ".".join([*([] if route is None else ["..."]), *reversed(keys)])


def _plate_sizes(root: Node) -> dict[tuple[Node, str], str]:
    """The size of the plate of each hierarchical link, as text: as far as it is known, and without complaint."""
    links = {
        (node, key): node.plate_declarations[key].size
        for node in root.structure.order
        for key in getattr(node, "plate_declarations", {})
    }
    try:
        found = {plate.module: plate.size for plate in root.structure.layout.plates} if links else {}
    except CaskadeException:  # a graph with a mistake in it prints all the same
        found = {}
    sizes = {(node, key): size or found.get(node.children[key]) for (node, key), size in links.items()}
    return {link: "?" if size is None else str(size) for link, size in sizes.items()}


# Params


def _details(param: Param) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    if param.pointer:
        found.append(("value", _target(param)))
    elif param.stored_value is not None:
        found.append(("value", short(param.stored_value)))
    if not param.pointer:
        shape = _shape(param)
        if shape != "()":
            found.append(("shape", shape))
        if param.batched:
            found.append(("batch", show(param.batch_shape)))
    if param.units is not None:
        found.append(("units", str(param.units)))
    low, high = param.valid
    if low is not None or high is not None:
        ends = ("-inf" if low is None else short(low)), ("inf" if high is None else short(high))
        found.append(("circle" if param.cyclic else "valid", f"{ends[0]} to {ends[1]}"))
    if param.prior is not None:
        found.append(("prior", str(param.prior)))
    return tuple(found)


def _shape(param: Param) -> str:
    try:
        return show(param.shape)
    except CaskadeException:  # it cannot be told from the prior
        return "unknown"


def _target(param: Param) -> str:
    """What a pointer points to, without following it, which may fail or take long."""
    targets = ", ".join(param.children) or "nothing linked"
    direct = getattr(param, "_pointer", None)
    return f"-> {targets}" if direct is not None and is_param(direct.target) else f"-> function of {targets}"


def short(value: Tensor) -> str:
    """A value in a few words: its entries, or of a large one its smallest and largest."""
    value = value.detach()
    if value.numel() <= _ENTRIES:
        return _entries(value.tolist())
    if value.is_complex() or value.dtype is torch.bool:
        return f"{value.numel()} entries"
    finite = value[torch.isfinite(value)]
    if finite.numel() == 0:
        return f"{value.numel()} entries, none finite"
    low, high = (_number(end.item()) for end in (finite.min(), finite.max()))
    odd = value.numel() - finite.numel()
    return f"{value.numel()} entries from {low} to {high}" + (f", {odd} not finite" if odd else "")


def _entries(value: object) -> str:
    return f"[{', '.join(map(_entries, value))}]" if isinstance(value, list) else _number(value)


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) and math.isfinite(value) else str(value)


# Text


def graph_text(root: Node) -> str:
    """The graph at and below a node as an indented tree."""
    return "\n".join(_line(row) for row in graph_rows(root))


def _line(row: Row) -> str:
    indent = _INDENT * row.level if row.level <= _DEEPEST else f"{_INDENT * _DEEPEST}[level {row.level}] "
    line = f"{indent}{row.key}|{row.kind}"
    if row.plate is not None:
        line += f", plate of {row.plate}"
    if row.seen is not None:
        return f"{line} (shared, shown at {row.seen})"
    details = dict(row.details)
    value = details.pop("value", None)
    if value is not None:
        line += f" {value}" if value.startswith("->") else f" = {value}"
    if "units" in details:
        line += f" {details.pop('units')}" if value is not None and not value.startswith("->") else ""
    rest = [f"{name} {text}" for name, text in details.items()]
    return f"{line}; {', '.join(rest)}" if rest else line


# HTML

_COLUMNS = ("node", "kind", "value", "shape", "batch", "units", "valid", "prior")


def graph_html(root: Node) -> str:
    """The graph at and below a node as a table for notebooks."""
    head = "".join(f'<th style="text-align:left">{name}</th>' for name in _COLUMNS)
    body = "\n".join(_html_row(row) for row in graph_rows(root))
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _html_row(row: Row) -> str:
    details = dict(row.details)
    if "circle" in details:
        details["valid"] = f"{details.pop('circle')}, cyclic"
    kind = row.kind if row.plate is None else f"{row.kind}, plate of {row.plate}"
    indent = 1.5 * min(row.level, _DEEPEST)
    mark = f"[level {row.level}] " if row.level > _DEEPEST else ""
    node = f'<td style="text-align:left;padding-left:{indent + 0.5:g}em"><b>{escape(mark + row.key)}</b></td>'
    if row.seen is not None:
        note = f"{kind}, shared: shown at {row.seen}"
        return f'<tr>{node}<td colspan="{len(_COLUMNS) - 1}" style="text-align:left"><i>{escape(note)}</i></td></tr>'
    cells = [kind, *(details.get(name, "") for name in _COLUMNS[2:])]
    shown = "".join(f'<td style="text-align:left">{escape(cell)}</td>' for cell in cells)
    return f"<tr>{node}{shown}</tr>"
