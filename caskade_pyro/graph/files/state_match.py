"""Whether a file was saved from the graph at hand, and in what they differ."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...errors import ParamConfigurationError
from ..nodes.shapes import show
from ..nodes.structure import is_param
from .state_file import COUNT, RESERVED, Stored, h5

if TYPE_CHECKING:
    from ..nodes.node import Node
    from ..nodes.param import Param

__all__ = ["Match", "append_difference", "load_difference", "match"]


@dataclass
class Match:
    """The groups of a file that belong to the nodes of a graph.

    Attributes:
        root: The topmost node.
        groups: The group of each node that the file has.
        differences: What is not the same in both, a line each.
    """

    root: Node
    groups: dict[Node, Any]
    differences: list[str] = field(default_factory=list)
    _differing: set[Node] = field(default_factory=set)
    _routes: dict[Node, tuple[Node, str]] = field(default_factory=dict)

    @property
    def datasets(self) -> list[Any]:
        """The values of the params that the file has."""
        return [self.groups[node]["value"] for node in self.groups if is_param(node) and node not in self._differing]

    def differs(self, node: Node) -> bool:
        """Whether a difference of this node itself has been found."""
        return node in self._differing

    def add(self, node: Node, difference: str | None) -> None:
        """Note in what a node differs, if it does."""
        if difference is not None:
            self.differences.append(f"{self.path(node)}: {difference}")
            self._differing.add(node)

    def path(self, node: Node, key: str | None = None) -> str:
        """The keys that lead to a node, or to what it has under a key."""
        keys = [] if key is None else [key]
        while node in self._routes:
            node, step = self._routes[node]
            keys.append(step)
        return ".".join([self.root.name, *reversed(keys)])


def match(root: Node, top: Any) -> Match:
    """Find the group of each node, and all differences in what there is and how it is linked."""
    found = Match(root, {root: top})
    owners = {top.id: root}
    for node in root.structure.order:
        if node in found.groups:
            _match_children(node, found, owners)
            _match_kind(node, found)
    return found


def _match_children(node: Node, found: Match, owners: dict[Any, Node]) -> None:
    here = found.groups[node]
    for key, child in node.children.items():
        group = _subgroup(here, key)
        if group is None:
            found.differences.append(f"{found.path(node, key)}: in the graph only")
        elif child in found.groups:
            if found.groups[child].id != group.id:
                found.differences.append(
                    f"{found.path(node, key)}: in the graph the same node as {found.path(child)}, in the file another"
                )
        else:
            found._routes[child] = (node, key)
            found.groups[child] = group
            owner = owners.setdefault(group.id, child)
            if owner is not child:
                found.add(child, f"in the file the same node as {found.path(owner)}, in the graph another")
    own = RESERVED if is_param(node) else ()
    for key in here:
        if key not in node.children and key not in own:
            found.differences.append(f"{found.path(node, key)}: in the file only")


def _subgroup(group: Any, key: str) -> Any:
    """The group at a key; None if there is none, or only a reference to somewhere else."""
    link = group.get(key, getlink=True)
    if not isinstance(link, h5().HardLink):
        return None
    found = group[key]
    return found if isinstance(found, h5().Group) else None


def _match_kind(node: Node, found: Match) -> None:
    group = found.groups[node]
    dataset = "value" in group and isinstance(group["value"], h5().Dataset)
    if is_param(node) and not dataset:
        found.add(node, "a param in the graph only")
    for name in group.attrs:
        if name != COUNT and name not in node.saveattrs:
            found.differences.append(
                f"{found.path(node)}: the attribute {name!r} in the file only; load it with saveattrs.add({name!r})"
            )


def load_difference(param: Param, stored: Stored) -> str | None:
    """Why a param cannot take what a file says of it; None if it can."""
    if stored.role not in ("static", "dynamic", "pointer"):
        return f"of the unknown role {stored.role!r} in the file"
    if param.pointer != (stored.role == "pointer"):
        return f"{param.role.value} in the graph, {stored.role} in the file"
    if param.pointer or stored.value is None:
        return None
    declared = param._dtype
    if declared is not None and torch.promote_types(declared, stored.value.dtype) != declared:
        return f"{declared} in the graph cannot hold {stored.value.dtype} of the file"
    try:
        param._accept(stored.value, param.role)
    except ParamConfigurationError as error:
        return f"the file has a value of shape {show(stored.value.shape)} ({error})"
    return None


def append_difference(param: Param, value: Tensor | None, group: Any) -> str | None:
    """Why the value of a param is no further row of what a file holds; None if it is."""
    dataset = group["value"]
    role = dataset.attrs.get("node_type", "")
    if param.role.value not in role:
        return f"{param.role.value} in the graph, {role} in the file"
    held = dataset.dtype.kind != "O"
    if param.pointer and not (held and value is not None):
        return None  # the value of a pointer only informs
    if held != (value is not None):
        return f"{'no value' if held else 'a value'} in the graph, {'a value' if held else 'no value'} in the file"
    if value is not None and tuple(value.shape) != tuple(dataset.shape[1:]):
        return f"a value of shape {show(value.shape)} in the graph, of {show(dataset.shape[1:])} in the file"
    dtype = dataset.attrs.get("dtype")
    if value is not None and dtype is not None and str(value.dtype) != f"torch.{dtype}":
        return f"{value.dtype} in the graph, torch.{dtype} in the file"
    return None
