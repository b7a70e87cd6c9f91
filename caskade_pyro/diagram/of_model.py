"""The plate diagram of a model: its sites with their distributions, what depends on what, and its plates."""

from __future__ import annotations

from collections.abc import Iterator

from ..graph.nodes.shapes import show
from ..graph.views.description import ModelDescription, SiteDescription
from .boxes import nest
from .specification import Diagram, DiagramEdge, DiagramNode, EdgeKind, NodeKind

__all__ = ["model_diagram"]


def model_diagram(model: ModelDescription) -> Diagram:
    """What the plate diagram of a model shows.

    Args:
        model: The model in plain data.

    Returns:
        Every site once, an edge from each of its parents, and a box for every plate that a site lies in.

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
        >>> diagram = model_diagram(bound.describe())
        >>> [node.lines for node in diagram.nodes], diagram.boxes[0].label
        ([('p', '~ Uniform(0, 1)'), ('obs', '~ Bernoulli(p)')], 'flips = 3')
    """
    sites = {site.name for site in model.sites}
    return Diagram(
        name=model.name,
        nodes=tuple(_drawn(site) for site in model.sites),
        edges=tuple(edge for site in model.sites for edge in _edges(site) if edge.tail in sites),
        boxes=nest(
            {site.name: site.plates for site in model.sites}, {plate.name: plate.size for plate in model.plates}
        ),
    )


def _drawn(site: SiteDescription) -> DiagramNode:
    kind = NodeKind.LATENT
    if site.likelihood:
        kind = NodeKind.OBSERVED if site.observed else NodeKind.PREDICTED
    distribution = f"~ {site.distribution}"
    name = _short_name(site)
    lines = [f"{name} [{site.units}]" if site.units else name, *_wrapped(distribution)]
    lines += [f"shape {show(site.shape)}"] if site.shape else []
    notes = [site.name, distribution, f"support: {site.support}"]
    notes += [f"shape: {show(site.shape)}"] if site.shape else []
    notes += [site.note] if site.note else []
    return DiagramNode(site.name, kind, tuple(lines), "\n".join(notes))


def _short_name(site: SiteDescription) -> str:
    """The path from the innermost plate that the site lies in: the box tells the rest."""
    for plate in reversed(site.plates):
        if site.name.startswith(f"{plate}."):
            return site.name[len(plate) + 1 :]
    return site.name


def _wrapped(text: str, width: int = 34) -> list[str]:
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
    kind = EdgeKind.FORWARD if site.likelihood else EdgeKind.PRIOR
    for parent in site.parents:
        yield DiagramEdge(parent, site.name, kind)
