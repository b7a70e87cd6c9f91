"""Calls under torch.compile: what is known of the graph is worked out beside the trace, not in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..nodes.structure import is_param
from .packing import cached_slots

if TYPE_CHECKING:
    from ..nodes.node import Node
    from ..plates.standpoint import Standpoint

__all__ = ["read_graph"]


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def read_graph(module: Node) -> None:
    """Fill everything that is remembered of the graph below a module.

    The compiler runs this as it is while it traces a call. The trace then finds plain tuples and dicts, which it can
    read, and guards them: an edit of the graph replaces them, so that the next call is traced anew.
    """
    layout = module.structure.layout
    layout.fill()
    standpoint = layout.standpoint
    for node in module.structure.order:
        if not is_param(node):
            structure = node.structure
            structure.fill()
            cached_slots(layout, node, structure.dynamic_params, layout.chains[node])
            _enter(standpoint, node)


def _enter(standpoint: Standpoint, node: Node) -> None:
    """Work out how a node is entered, from the module and from each of the plates around the node."""
    layout = standpoint.layout
    standpoint.enter(node)
    for plate in layout.chains[node]:
        standpoint = standpoint.enter(layout.plate(plate).module)
        standpoint.enter(node)
