"""Pictures of simulators and of models, drawn from the plate layout: boxes are the plates of the model.

Importing this package makes ``Node.graphviz`` and ``BoundModel.diagram`` draw.
"""

from __future__ import annotations

import os

from ..graph.nodes.node import Node
from ..graph.views.description import ModelDescription
from ..graph.views.drawing import install_renderer
from .of_graph import graph_diagram
from .of_model import model_diagram
from .picture import Picture
from .render import render
from .specification import Box, Diagram, DiagramEdge, DiagramNode, EdgeKind, NodeKind

__all__ = [
    "Box",
    "Diagram",
    "DiagramEdge",
    "DiagramNode",
    "Drawing",
    "EdgeKind",
    "NodeKind",
    "Picture",
    "graph_diagram",
    "model_diagram",
    "render",
]


class Drawing:
    """Draws graphs and models; the renderer that ``Node.graphviz`` and ``BoundModel.diagram`` use."""

    def graph(self, node: Node, saveto: str | os.PathLike[str] | None = None) -> Picture:
        """Draw the graph at and below a node, ours or one of the package ``caskade``.

        Args:
            node: The node.
            saveto: A file to write, its format taken from the ending.

        Returns:
            A graphviz object, which shows itself in a notebook.

        Raises:
            PlateError: The plates of the graph contradict each other.
            CaskadeException: The ending of ``saveto`` is no known format.
            MissingDependencyError: A file is to be written and there is no Graphviz.
        """
        return _saved(graph_diagram(node), saveto)

    def model(self, description: ModelDescription, saveto: str | os.PathLike[str] | None = None) -> Picture:
        """Draw the plate diagram of a model.

        Args:
            description: The model in plain data.
            saveto: A file to write, its format taken from the ending.

        Returns:
            A graphviz object, which shows itself in a notebook.

        Raises:
            CaskadeException: The ending of ``saveto`` is no known format.
            MissingDependencyError: A file is to be written and there is no Graphviz.
        """
        return _saved(model_diagram(description), saveto)


def _saved(diagram: Diagram, saveto: str | os.PathLike[str] | None) -> Picture:
    picture = render(diagram)
    if saveto is not None:
        picture.save_as(saveto)
    return picture


install_renderer(Drawing())
