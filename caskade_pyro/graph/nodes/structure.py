"""What a node knows of the graph below it, computed once after each edit."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from .traversal import topological_order

if TYPE_CHECKING:
    from ..plates.layout import PlateLayout
    from .node import Node
    from .param import Param

__all__ = ["Structure", "is_param"]


def is_param(node: Node) -> bool:
    """Whether a node is a param, ours or one of the package ``caskade``: it has a role and a batch shape."""
    # Asked of the class: asking the node would compute its batch shape.
    return hasattr(type(node), "batch_shape") and hasattr(type(node), "pointer")


class Structure:
    """A snapshot of the graph at and below a node; its parts are computed when first asked for.

    Attributes:
        root: The node.
        order: All nodes, parents before children.
        members: The same nodes as a set.
        wirings: What forward methods remember of the arguments that this graph fills, by their signatures.
    """

    def __init__(self, root: Node) -> None:
        self.root = root
        self.order: tuple[Node, ...] = topological_order(root)
        self.members: frozenset[Node] = frozenset(self.order)
        self.wirings: dict[object, Any] = {}

    def fill(self) -> None:
        """Work out now what is otherwise worked out when it is first asked for."""
        _ = self.online, self.params, self.dynamic_params, self.static_params, self.pointer_params, self.groups

    @cached_property
    def online(self) -> frozenset[Node]:
        """The nodes that a call runs itself, without crossing a hierarchical link."""
        from ..plates.routes import online_nodes

        return online_nodes(self.root)

    @cached_property
    def params(self) -> tuple[Param, ...]:
        """All params, in the order of the nodes."""
        return tuple(node for node in self.order if is_param(node))  # type: ignore[misc]

    @cached_property
    def dynamic_params(self) -> tuple[Param, ...]:
        """The params that a call is given, in the order in which it expects them."""
        return tuple(param for param in self.params if param.dynamic)

    @cached_property
    def static_params(self) -> tuple[Param, ...]:
        """The params with a fixed value, or a value set during the call."""
        return tuple(param for param in self.params if param.static)

    @cached_property
    def groups(self) -> tuple[int, ...]:
        """The groups of the dynamic params."""
        return tuple(sorted({param.group for param in self.dynamic_params}))

    @cached_property
    def pointer_params(self) -> tuple[Param, ...]:
        """The params that take their value from others."""
        return tuple(param for param in self.params if param.pointer)

    @cached_property
    def layout(self) -> PlateLayout:
        """The plates and where each param stands in them."""
        from ..plates.layout import plate_layout

        return plate_layout(self.root)
