"""What a model is made of, in plain data: the input of reports and diagrams."""

from __future__ import annotations

from dataclasses import dataclass

from ..nodes.shapes import Shape
from ..plates.layout import PlateLayout

__all__ = ["ModelDescription", "PlateDescription", "SiteDescription"]


@dataclass(frozen=True)
class SiteDescription:
    """One quantity of a model: random, or computed from others.

    Attributes:
        name: The name of its site.
        distribution: The distribution, written out with the names of its parents; of a deterministic quantity, how it is
            computed, or nothing where nobody can say.
        shape: The shape of one value.
        plates: The plates that it lies in, outermost first.
        parents: The sites that it depends on directly: its distribution does, or its value.
        support: Where its values lie.
        observed: Whether data are given.
        likelihood: Whether it comes from the forward method rather than from a prior.
        deterministic: Whether it is computed from its parents, as a pointer is, and not drawn.
        units: Of its values.
        note: What else a person should know.
    """

    name: str
    distribution: str
    shape: Shape
    plates: tuple[str, ...]
    parents: tuple[str, ...]
    support: str
    observed: bool = False
    likelihood: bool = False
    deterministic: bool = False
    units: str | None = None
    note: str = ""


@dataclass(frozen=True)
class PlateDescription:
    """A plate of a model: one of the graph, of the data, or of the simulator's own, whose size may vary.

    Attributes:
        name: Its name.
        size: How many members it has; None where that varies.
        of_data: Whether it counts data alone, and is none of the graph or of the simulator.
    """

    name: str
    size: int | None
    of_data: bool = False


@dataclass(frozen=True)
class ModelDescription:
    """A model: its plates, outermost first, and its sites, parents first."""

    name: str
    layout: PlateLayout
    plates: tuple[PlateDescription, ...]
    sites: tuple[SiteDescription, ...]
