"""The plate diagram of a model: its sites with their distributions, what depends on what, and its plates."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..graph.nodes.shapes import show
from ..graph.views.description import ModelDescription, SiteDescription
from .boxes import Path, nest
from .collapse import Collapse, collapsed_modules, merge
from .posterior import Summary, summarise
from .specification import Diagram, DiagramEdge, DiagramNode, EdgeKind, NodeKind, with_units

__all__ = ["model_diagram"]


def model_diagram(
    model: ModelDescription, collapse: Collapse = (), depth: int | None = None, posterior: Any = None
) -> Diagram:
    """What the plate diagram of a model shows.

    Args:
        model: The model in plain data.
        collapse: Modules whose sites are drawn as one node: paths, names, or the modules themselves.
        depth: How many links from the root the picture goes; the sites of modules at the end of that many are drawn as
            one node.
        posterior: Draws whose mean, standard deviation and histogram are put into the nodes: ArviZ data, or a mapping
            from sites to arrays.

    Returns:
        Every site once, an edge from each of its parents, and a box for every plate that a site lies in.

    Raises:
        CaskadeException: ``collapse`` names no module, ``depth`` is negative, or ``posterior`` has draws of no site.

    Example:
        >>> import caskade_pyro as ck, pyro.distributions as dist, torch
        >>> class Coin(ck.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.p = ck.Param("p", prior=dist.Uniform(0.0, 1.0))
        ...
        ...     @ck.forward
        ...     def flips(self, p):
        ...         return dist.Bernoulli(p)
        >>> bound = ck.PyroModel(Coin().flips, dims={"obs": ("flips",)}).bind(obs=torch.tensor([1.0, 0.0, 1.0]))
        >>> diagram = model_diagram(bound.describe(), posterior={"p": [0.5, 0.6, 0.7]})
        >>> [node.lines for node in diagram.nodes], diagram.nodes[0].summary, diagram.boxes[0].label
        ([('p', '~ Uniform(0, 1)'), ('obs', '~ Bernoulli(p)')], ('0.60 ± 0.10',), 'flips = 3')
    """
    sites = {site.name: site for site in model.sites}
    drawn = [site.name for site in model.sites if not site.likelihood]
    summaries = {} if posterior is None else summarise(posterior, drawn)
    everything = Diagram(
        name=model.name,
        nodes=tuple(_drawn(site, summaries.get(site.name)) for site in model.sites),
        edges=tuple(edge for site in model.sites for edge in _edges(site) if edge.tail in sites),
        boxes=nest(
            {site.name: site.plates for site in model.sites}, {plate.name: plate.size for plate in model.plates}
        ),
    )
    closed = collapsed_modules(model.layout.paths, collapse, depth)
    if not closed:
        return everything
    groups = _groups(model, {path: model.layout.chains[module] for module, path in closed.items()})
    into = {site.name: group for group, (_, inside) in groups.items() for site in inside}
    merged = {group: _closed(group, model.name, *found) for group, found in groups.items()}
    return merge(everything, into, merged, {group: plates for group, (plates, _) in groups.items()})


# Sites

_ARRAY = re.compile(r"<\d+(, \d+)*>")
"""A tensor among the arguments of a distribution, which is shown by its shape where there is room."""


def _drawn(site: SiteDescription, summary: Summary | None) -> DiagramNode:
    relation = _relation(site)
    lines = [with_units(_short_name(site.name, site.plates), site.units), *_wrapped(_ARRAY.sub("…", relation))]
    lines += [f"shape {show(site.shape)}"] if site.shape else []
    notes = [site.name, relation, f"support: {site.support}" if site.support else ""]
    notes += [f"shape: {show(site.shape)}"] if site.shape else []
    found = summary.lines if summary else ()
    notes += [site.note, *(f"posterior: {line}" for line in found)]
    return DiagramNode(
        id=site.name,
        kind=_kind(site),
        lines=tuple(lines),
        tooltip="\n".join(filter(None, notes)),
        statement=f"{site.name} {relation}",
        summary=found,
        histogram=summary.histogram if summary else (),
    )


def _kind(site: SiteDescription) -> NodeKind:
    if site.likelihood:
        return NodeKind.OBSERVED if site.observed else NodeKind.PREDICTED
    return NodeKind.DETERMINISTIC if site.deterministic else NodeKind.LATENT


def _relation(site: SiteDescription) -> str:
    """What is written of a site after its name."""
    if not site.deterministic:
        return f"~ {site.distribution}"
    if site.distribution or not site.parents:
        return f"= {site.distribution}" if site.distribution else "set by the simulator"
    return f"= f({', '.join(_last(parent) for parent in site.parents)})"


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def _short_name(name: str, plates: Sequence[str]) -> str:
    """The path from the innermost plate that the site lies in: the box tells the rest."""
    for plate in reversed(plates):
        if name.startswith(f"{plate}."):
            return name[len(plate) + 1 :]
    return name


def _wrapped(text: str, width: int = 28) -> list[str]:
    """Break a long distribution after commas, so that it does not make its node as wide as the page."""
    lines: list[str] = []
    for part in text.split(", "):
        if lines and len(lines[-1]) + 2 + len(part) <= width:
            lines[-1] += f", {part}"
        else:
            lines[-1:] = [f"{lines[-1]},"] if lines else []
            lines.append(part)
    return lines


def _edges(site: SiteDescription) -> Iterator[DiagramEdge]:
    kind = EdgeKind.DETERMINISTIC if site.deterministic else EdgeKind.FORWARD if site.likelihood else EdgeKind.PRIOR
    for parent in site.parents:
        yield DiagramEdge(parent, site.name, kind)


# Modules drawn as one node

_Group = tuple[Path, list[SiteDescription]]


def _groups(model: ModelDescription, closed: Mapping[str, Path]) -> dict[str, _Group]:
    """The sites that are drawn together, with the plates that they have in common, by the id of their node.

    The sites of a module that its members share stand outside of its plate, so they make a node of their own.
    """
    found: dict[tuple[str, Path], list[SiteDescription]] = {}
    inner = {plate.name for plate in model.layout.plates if plate.module is not model.layout.root}
    for site in model.sites:
        module = None if site.likelihood else _outermost(site.name, closed)
        if module is not None:
            around = tuple(plate for plate in site.plates if plate in closed[module] or plate not in inner)
            found.setdefault((module, around), []).append(site)
    several = {key: sites for key, sites in found.items() if len(sites) > 1}
    return {"/".join(("", *plates, module)): (plates, sites) for (module, plates), sites in several.items()}


def _outermost(site: str, closed: Mapping[str, Path]) -> str | None:
    """The collapsed module nearest to the root that a site belongs to."""
    path = ""
    for key in site.split("."):
        if path in closed:
            return path
        path = f"{path}.{key}" if path else key
    return None


def _closed(group: str, root: str, plates: Path, sites: Sequence[SiteDescription]) -> DiagramNode:
    path = group.rpartition("/")[2]
    name = _short_name(path, plates) if path else root
    names = [_last(site.name) for site in sites]
    listing = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
    lines = (name, f"{len(sites)} sites:", *_wrapped(listing))
    statements = [f"{site.name} {_relation(site)}" for site in sites]
    return DiagramNode(group, NodeKind.COLLAPSED, lines, "\n".join([path or root, *statements]), "; ".join(statements))


_NAMED = 5
