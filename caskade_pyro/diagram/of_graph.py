"""The picture of a simulator: its modules and params, their links, and a box around every plate."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from hashlib import sha256
from typing import Any

from ..graph.nodes.node import Node
from ..graph.nodes.shapes import show
from ..graph.nodes.structure import is_param
from ..graph.nodes.traversal import topological_order
from ..graph.plates.layout import Placement, PlateLayout, plate_layout
from .boxes import nest
from .collapse import Collapse, collapsed_modules, merge
from .specification import Diagram, DiagramEdge, DiagramNode, EdgeKind, NodeKind, with_units

__all__ = ["graph_diagram"]

Plates = tuple[str, ...]

LONGEST_PATH = 120


def graph_diagram(root: Node, collapse: Collapse = (), depth: int | None = None) -> Diagram:
    """What a picture of the graph at and below a node shows.

    Args:
        root: A node, ours or a module of the package ``caskade``.
        collapse: Modules to draw as one node with all that they alone own: paths, names, or the modules themselves.
        depth: How many links from the root the picture goes; modules at the end of that many are drawn as one node.

    Returns:
        Every node once, every link and every argument of a prior as an edge, and a box for every plate. What collapsed
        modules share with others is drawn still.

    Raises:
        PlateError: The plates of the graph contradict each other.
        CaskadeException: ``collapse`` names no module, or ``depth`` is negative.

    Example:
        >>> import caskade_pyro as ck
        >>> galaxy, survey = ck.Module("galaxy"), ck.Module("survey")
        >>> galaxy.flux = ck.Param("flux", shape=())
        >>> survey.hierarchical_link("galaxies", galaxy, size=58)
        >>> [box] = graph_diagram(survey).boxes
        >>> box.label, box.nodes
        ('galaxies = 58', ('survey.galaxies', 'survey.galaxies.flux'))
        >>> [node.lines for node in graph_diagram(survey, depth=1).nodes]
        [('survey', 'Module'), ('galaxy', 'Module', '1 dynamic')]
    """
    layout = plate_layout(root)
    order = topological_order(root)
    ids = {node: _id(root, layout.paths[node]) for node in order}
    plates = _plates_of_nodes(layout, order)
    closed = collapsed_modules(layout.paths, collapse, depth)
    everything = Diagram(
        name=root.name,
        nodes=tuple(_drawn(node, ids[node], layout) for node in order),
        edges=tuple(_edges(order, ids)),
        boxes=nest(
            {ids[node]: plates[node] for node in order},
            {plate.name: plate.size for plate in layout.plates},
            _missing_boxes(layout, plates.values()),
        ),
    )
    if not closed:
        return everything
    owners = _owners(order, closed)
    hidden: dict[Node, list[Node]] = {module: [] for module in closed}
    for node, owner in owners.items():
        hidden[owner].append(node)
    merged = {ids[module]: _closed(module, ids[module], inside) for module, inside in hidden.items()}
    return merge(everything, {ids[node]: ids[owner] for node, owner in owners.items()}, merged, {})


def _id(root: Node, path: str) -> str:
    """The path; in a very deep graph its end and a digest, so that pictures grow with the graph and not its square."""
    if len(path) > LONGEST_PATH:
        path = f"{sha256(path.encode()).hexdigest()[:12]}.{path[-LONGEST_PATH // 2 :].partition('.')[2]}"
    return f"{root.name}.{path}" if path else root.name


# Nodes


def _kind(node: Any) -> NodeKind:
    if not is_param(node):
        return NodeKind.MODULE
    if node.pointer:
        return NodeKind.POINTER
    if node.dynamic:
        return NodeKind.DYNAMIC
    live = getattr(node, "live", None)  # params of the package `caskade` do not have it
    if live is None:
        live = node.value is None
    return NodeKind.LIVE if live else NodeKind.STATIC


def _drawn(node: Node, node_id: str, layout: PlateLayout) -> DiagramNode:
    kind = _kind(node)
    notes = [node_id, f"{kind.value} {type(node).__name__}" if is_param(node) else type(node).__name__]
    if kind is NodeKind.MODULE:
        lines = [node.name] if type(node).__name__ == node.name else [node.name, type(node).__name__]
    else:
        lines = [with_units(node.name, getattr(node, "units", None))]
        # The shape of a pointer is known only once its function has run, and drawing runs nothing.
        shape = () if kind is NodeKind.POINTER else layout.placement(node).shape  # type: ignore[arg-type]
        lines += [f"shape {show(shape)}"] if shape else []
        prior = getattr(node, "prior", None)
        notes += [f"~ {prior}"] if prior is not None else []
    description = getattr(node, "description", "")
    notes += [description] if description else []
    return DiagramNode(node_id, kind, tuple(lines), "\n".join(notes))


# Modules drawn as one node


def _owners(order: Sequence[Node], closed: Collection[Node]) -> dict[Node, Node]:
    """For every node that is not drawn, the collapsed module that alone leads to it.

    What two of them lead to, or one and an open module, is shared, and stays in the picture. A pointer uses its params
    and does not own them.
    """
    leads: dict[Node, set[Node | None]] = {node: set() for node in order}
    used: dict[Node, set[Node | None]] = {node: set() for node in order}
    found: dict[Node, Node] = {}
    for node in order:
        through = leads[node] or used[node]
        owner = next(iter(through)) if len(through) == 1 else None
        if owner is not None:
            found[node] = owner
        by = found.get(node, node if node in closed else None)
        for child in node.children.values():
            (used if _kind(node) is NodeKind.POINTER else leads)[child].add(by)
    return found


def _closed(module: Node, node_id: str, hidden: Sequence[Node]) -> DiagramNode:
    """A module that says how many params it hides."""
    kinds = [_kind(node) for node in hidden]
    counts = [f"{kinds.count(kind)} {kind.value}" for kind in _COUNTED if kind in kinds]
    modules = kinds.count(NodeKind.MODULE)
    counts += [f"{modules} module{'s' * (modules > 1)}"] if modules else []
    lines = [module.name] if type(module).__name__ == module.name else [module.name, type(module).__name__]
    lines += [", ".join(counts)] if counts else []
    notes = [node_id, type(module).__name__, *(node.name for node in hidden[:_NAMED])]
    return DiagramNode(node_id, NodeKind.COLLAPSED, tuple(lines), "\n".join(notes + ["..."] * (len(hidden) > _NAMED)))


_COUNTED = (NodeKind.DYNAMIC, NodeKind.STATIC, NodeKind.LIVE, NodeKind.POINTER)
_NAMED = 12

# Edges


def _edges(order: Sequence[Node], ids: dict[Node, str]) -> Iterator[DiagramEdge]:
    for node in order:
        kind = EdgeKind.POINTER if _kind(node) is NodeKind.POINTER else EdgeKind.LINK
        for child in node.children.values():
            yield DiagramEdge(ids[node], ids[child], kind)
        for parent in _prior_parents(node):
            if parent in ids:
                yield DiagramEdge(ids[parent], ids[node], EdgeKind.PRIOR)


def _prior_parents(node: Node) -> tuple[Any, ...]:
    """The params that the prior of a param uses; that of a param which is fixed or tied is not in use."""
    if _kind(node) is not NodeKind.DYNAMIC:
        return ()
    return tuple(getattr(getattr(node, "prior", None), "parents", ()))


# Boxes


def _plates_of_nodes(layout: PlateLayout, order: Sequence[Node]) -> dict[Node, Plates]:
    """The plates in whose boxes each node is drawn, outermost first."""
    replicas = {plate.name for plate in layout.plates if plate.module is layout.root}
    unsized = {plate.name for plate in layout.plates if plate.size is None}
    hosts = _hosts(layout, replicas)
    found: dict[Node, Plates] = {}
    for node in order:
        kind, chain = _kind(node), layout.chains[node]
        placement = layout.placement(node) if kind in _PLACED else None  # type: ignore[arg-type]
        own = () if placement is None else _replicas(placement, replicas)
        if placement is not None and kind is NodeKind.DYNAMIC:
            # As long as nothing tells the size of a plate, nothing tells either what is repeated along it.
            found[node] = (*own, *(plate for plate in chain if plate in placement.plates or plate in unsized))
        else:
            found[node] = (*(own or hosts.get(chain, ())), *chain)
    return found


_PLACED = (NodeKind.DYNAMIC, NodeKind.STATIC, NodeKind.LIVE)


def _replicas(placement: Placement, replicas: set[str]) -> Plates:
    return tuple(plate for plate in placement.plates if plate in replicas)


def _hosts(layout: PlateLayout, replicas: set[str]) -> dict[Plates, Plates]:
    """The plates of the root that hold all that is repeated inside of a chain of plates.

    What is not repeated itself there, modules and fixed params, is drawn with what is, so that their common plate
    has one box rather than two.
    """
    hosts: dict[Plates, Plates] = {}
    if not replicas:
        return hosts
    for placement in layout.placements:
        if placement.param.dynamic:
            own = _replicas(placement, replicas)
            for length in range(1, len(placement.chain) + 1):
                chain = placement.chain[:length]
                hosts[chain] = tuple(plate for plate in hosts.get(chain, own) if plate in own)
    return hosts


def _missing_boxes(layout: PlateLayout, drawn: Any) -> list[Plates]:
    """Plates without a node: their module is linked a second time, nearer to the root, and is drawn there."""
    seen = {plate for plates in drawn for plate in plates}
    around: dict[str | None, Plates] = {None: ()}
    for plate in layout.plates:
        around[plate.name] = (*around[plate.parent], plate.name)
    return [around[plate.name] for plate in layout.plates if plate.name not in seen]
