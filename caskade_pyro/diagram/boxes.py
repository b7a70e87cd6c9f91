"""From the plates around each node to boxes inside of boxes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .specification import Box

__all__ = ["nest"]

Path = tuple[str, ...]


def nest(plates: Mapping[str, Path], sizes: Mapping[str, int | None], required: Iterable[Path] = ()) -> tuple[Box, ...]:
    """The boxes in which every node stands in exactly its plates.

    The plates of a node, outermost first, are a path in a tree of boxes. So a plate that crosses another, or that some
    nodes lie in without the plate around it, has a box in each place where it occurs.

    Args:
        plates: The plates of every node, by id.
        sizes: The size of every plate.
        required: Paths whose boxes are drawn even if no node stands in them.

    Returns:
        The outermost boxes, in the order in which their plates first occur.

    Example:
        >>> [outer] = nest({"mean": (), "town": ("towns",), "school": ("towns", "schools")}, {"towns": 3, "schools": 8})
        >>> outer.label, outer.nodes, outer.boxes[0].label, outer.boxes[0].nodes
        ('towns = 3', ('town',), 'schools = 8', ('school',))
    """
    nodes: dict[Path, list[str]] = {(): []}
    inner: dict[Path, list[Path]] = {(): []}
    for path in (*plates.values(), *required):
        _open(path, nodes, inner)
    for node, path in plates.items():
        nodes[path].append(node)
    built: dict[Path, Box] = {}
    for path in sorted(nodes, key=len, reverse=True):  # what is inside comes first
        if path:
            boxes = tuple(built[one] for one in inner[path])
            built[path] = Box("/".join(path), path[-1], sizes[path[-1]], tuple(nodes[path]), boxes)
    return tuple(built[path] for path in inner[()])


def _open(path: Path, nodes: dict[Path, list[str]], inner: dict[Path, list[Path]]) -> None:
    """Make room for the box of a path and for those around it that are not there yet."""
    missing = []
    while path not in nodes:
        missing.append(path)
        path = path[:-1]
    for one in reversed(missing):
        nodes[one], inner[one] = [], []
        inner[one[:-1]].append(one)
