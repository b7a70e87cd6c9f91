"""Pictures of simulators and of models, drawn from the plate layout: boxes are the plates of the model.

Importing this package makes ``Node.graphviz`` and ``BoundModel.diagram`` draw.
"""

from __future__ import annotations

import os
from typing import Any

from ..graph.nodes.node import Node
from ..graph.views.description import ModelDescription
from ..graph.views.drawing import install_renderer
from .collapse import Collapse
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
    "draw",
    "graph_diagram",
    "model_diagram",
    "render",
]


class Drawing:
    """Draws graphs and models; the renderer that ``Node.graphviz`` and ``BoundModel.diagram`` use."""

    def graph(
        self,
        node: Node,
        saveto: str | os.PathLike[str] | None = None,
        *,
        collapse: Collapse = (),
        depth: int | None = None,
    ) -> Picture:
        """Draw the graph at and below a node, ours or one of the package ``caskade``.

        Args:
            node: The node.
            saveto: A file to write, its format taken from the ending.
            collapse: Modules to draw as one node: paths from the root, names, or the modules themselves.
            depth: How many links from the root the picture goes.

        Returns:
            A graphviz object, which shows itself in a notebook.

        Raises:
            PlateError: The plates of the graph contradict each other.
            CaskadeException: The ending of ``saveto`` is no known format, or ``collapse`` names no module.
            MissingDependencyError: A file is to be written and there is no Graphviz.
        """
        return _saved(graph_diagram(node, collapse, depth), saveto)

    def model(
        self,
        description: ModelDescription,
        saveto: str | os.PathLike[str] | None = None,
        *,
        collapse: Collapse = (),
        depth: int | None = None,
        posterior: Any = None,
    ) -> Picture:
        """Draw the plate diagram of a model.

        Args:
            description: The model in plain data.
            saveto: A file to write, its format taken from the ending.
            collapse: Modules whose sites are drawn as one node: paths from the root, names, or the modules themselves.
            depth: How many links from the root the picture goes.
            posterior: Draws whose mean, standard deviation and histogram are put into the nodes.

        Returns:
            A graphviz object, which shows itself in a notebook.

        Raises:
            CaskadeException: The ending of ``saveto`` is no known format, ``collapse`` names no module, or ``posterior`` has
                draws of no site.
            MissingDependencyError: A file is to be written and there is no Graphviz.
        """
        return _saved(model_diagram(description, collapse, depth, posterior), saveto)


def draw(
    module: Node,
    saveto: str | os.PathLike[str] | None = None,
    *,
    collapse: Collapse = (),
    depth: int | None = None,
) -> Picture:
    """Draw a graph, such as that of a module of the package ``caskade``; ours have ``module.graphviz()`` for it.

    Args:
        module: The module, or a param.
        saveto: A file to write, its format taken from the ending.
        collapse: Modules to draw as one node: paths from the root, names, or the modules themselves.
        depth: How many links from the root the picture goes.

    Returns:
        A graphviz object, which shows itself in a notebook.

    Raises:
        PlateError: The plates of the graph contradict each other.
        CaskadeException: The ending of ``saveto`` is no known format, or ``collapse`` names no module.
        MissingDependencyError: A file is to be written and there is no Graphviz.

    Example:
        >>> import caskade
        >>> lens = caskade.Module("lens")
        >>> lens.mass = caskade.Param("mass", shape=())
        >>> [node.lines for node in draw(lens).specification.nodes]
        [('lens', 'Module'), ('mass',)]
    """
    return Drawing().graph(module, saveto, collapse=collapse, depth=depth)


def _saved(diagram: Diagram, saveto: str | os.PathLike[str] | None) -> Picture:
    picture = render(diagram)
    if saveto is not None:
        picture.save_as(saveto)
    return picture


install_renderer(Drawing())
