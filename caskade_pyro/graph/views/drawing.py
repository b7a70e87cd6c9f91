"""The place where the diagram layer plugs in.

`Node.graphviz` belongs to the graph, but what draws it stands above the graph. So that imports go one way, the graph
only knows this protocol, and the diagram layer installs itself when it is imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from ...errors import MissingDependencyError

if TYPE_CHECKING:
    from os import PathLike

    import graphviz

    from ..nodes.node import Node
    from .description import ModelDescription

__all__ = ["Renderer", "install_renderer", "renderer"]


class Renderer(Protocol):
    """What draws graphs and models."""

    def graph(
        self, node: Node, saveto: str | PathLike[str] | None, *, collapse: Any, depth: int | None
    ) -> graphviz.Digraph:
        """Draw the graph below a node."""

    def model(
        self,
        description: ModelDescription,
        saveto: str | PathLike[str] | None,
        *,
        collapse: Any,
        depth: int | None,
        posterior: Any,
    ) -> graphviz.Digraph:
        """Draw the plate diagram of a model."""


_installed: list[Renderer] = []


def install_renderer(renderer: Renderer) -> None:
    """Make this the renderer of `Node.graphviz` and of models' diagrams."""
    _installed[:] = [renderer]


def renderer() -> Renderer:
    """The installed renderer."""
    if not _installed:
        raise MissingDependencyError("Nothing can draw yet: import caskade_pyro.diagram first.")
    return _installed[0]
