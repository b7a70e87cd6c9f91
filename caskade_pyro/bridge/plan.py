"""The plan of a model: everything about its sites, plates and observations that can be known before it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from torch.distributions import Distribution

from ..graph.nodes.shapes import Shape
from ..graph.plates.layout import PlateLayout
from ..graph.plates.subsample import Picks, resized
from .circles import Ends
from .observations import Observation
from .plates import Dims, SitePlates
from .priors import PriorFit
from .sites import Source

__all__ = ["InnerSite", "Plan", "Quantity", "Reported", "Site", "subsampled"]


class Quantity(Protocol):
    """Something that a model draws or reports: a site, or what is computed from sites."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def shape(self) -> Shape:
        """The shape of one value."""

    @property
    def plates(self) -> SitePlates:
        """The plates of whose members it has a value each, with their Pyro dims."""

    @property
    def plate_names(self) -> tuple[str, ...]:
        """The plates of whose members it has a value each, outermost first."""

    @property
    def draw_shape(self) -> Shape:
        """The shape of a draw as people see it: the sizes of the plates, then its own shape."""


@dataclass(frozen=True)
class Site:
    """A latent site of a model.

    Attributes:
        source: The param and its prior.
        plates: The plates of the site.
        fit: How the prior fills the param.
        value_shape: The shape of its value in the graph.
        constant: Its distribution, where that depends on no param.
        template: The distribution of one member with prior values of its parents, for reports.
        circle: The two ends of the circle on which it lies, if it does.
    """

    source: Source
    plates: SitePlates
    fit: PriorFit
    value_shape: Shape
    constant: Any | None
    template: Distribution
    circle: Ends | None = None

    @property
    def name(self) -> str:
        """The name of the site: the path of its param."""
        return self.source.name

    @property
    def shape(self) -> Shape:
        """The param's own shape."""
        return self.source.placement.shape

    @property
    def plate_names(self) -> tuple[str, ...]:
        """The plates of the site, outermost first."""
        return self.plates.names

    @property
    def draw_shape(self) -> Shape:
        """The shape of a draw as people see it: the sizes of the plates, then the param's own shape."""
        return self.plates.sizes + self.shape

    @property
    def discrete(self) -> bool:
        """Whether its values are counted rather than measured."""
        return bool(getattr(self.template.support, "is_discrete", False))


@dataclass(frozen=True)
class Reported:
    """A pointer, or a live param, whose value the model reports beside those of its sites.

    Attributes:
        name: The path of the param.
        param: The param.
        plates: The plates whose members its leading dims count.
        shape: Its own shape.
        parents: The dynamic params that it is computed from; empty for a live param.
        from_simulator: Whether it is known only after the simulator has run.
    """

    name: str
    param: Any = field(repr=False)
    plates: SitePlates
    shape: Shape
    parents: tuple[Any, ...]
    from_simulator: bool

    @property
    def plate_names(self) -> tuple[str, ...]:
        """The plates around it, outermost first."""
        return self.plates.names

    @property
    def draw_shape(self) -> Shape:
        """The shape of a value as people see it."""
        return self.plates.sizes + self.shape


@dataclass(frozen=True)
class InnerSite:
    """A site that the simulator samples itself, with `pyro.sample` or `ck.draw_members`.

    Attributes:
        name: Its name.
        distribution: Its distribution at the preflight.
        text: The distribution written out.
        plates: The simulator's own plates around it.
        shape: The shape of one value, of which there is one for each member of its plates.
        observed: Whether it has a fixed value there.
        parents: The names of the sites that it depends on.
        reads: All params that its distribution depends on.
    """

    name: str
    distribution: Any
    text: str
    plates: SitePlates
    shape: Shape
    observed: bool
    parents: tuple[str, ...]
    reads: tuple[Any, ...]

    @property
    def plate_names(self) -> tuple[str, ...]:
        """The simulator's own plates around it, outermost first."""
        return self.plates.names

    @property
    def draw_shape(self) -> Shape:
        """The shape of a draw as people see it."""
        return self.plates.sizes + self.shape


@dataclass(frozen=True)
class Plan:
    """What is known of a model before it runs.

    Attributes:
        layout: The plates of the graph.
        sites: The latent sites, parents first.
        observations: The data sets, by name.
        dims: The Pyro dim of every plate.
        sizes: The size of every plate that the model uses, outermost first.
        reported: Pointers and live params that are reported.
        inner: The sites that the simulator samples itself.
        coarse: Messages on constants and inputs that single precision rounds too coarsely.
    """

    layout: PlateLayout
    sites: tuple[Site, ...]
    observations: Mapping[str, Observation]
    dims: Dims
    sizes: Mapping[str, int]
    reported: tuple[Reported, ...] = ()
    inner: tuple[InnerSite, ...] = ()
    coarse: tuple[str, ...] = ()

    @property
    def depth(self) -> int:
        """How many dims the plates take at the right of every value."""
        return -min(self.dims.values(), default=0)

    @property
    def nesting(self) -> int:
        """As `depth`, with the simulator's own plates: Pyro's ``max_plate_nesting``."""
        return max([self.depth, *(len(site.plates.batch_shape) for site in self.inner)])

    def with_picks(self, picks: Picks) -> Plan:
        """The plan of a run that looks at these members."""
        # Shared by all runs of these sizes: what the layout remembers does not depend on which members they are.
        return replace(self, layout=replace(self.layout, picks=picks))

    @property
    def latents(self) -> tuple[Site | InnerSite, ...]:
        """All that is unknown: the sites of params, and those that the simulator samples itself."""
        return (*self.sites, *self.latent_inner)

    @property
    def in_plates(self) -> tuple[Quantity, ...]:
        """What has its place in the plates of the model, besides observations."""
        return (*self.sites, *self.reported)

    @property
    def has_data(self) -> bool:
        """Whether something is observed: data, or what the simulator observes or weighs itself."""
        return any(one.observed for one in self.observations.values()) or any(one.observed for one in self.inner)

    @property
    def latent_inner(self) -> tuple[InnerSite, ...]:
        """The sites without fixed values that the simulator samples itself."""
        return tuple(site for site in self.inner if not site.observed)


def subsampled(plan: Plan, sizes: Mapping[str, int]) -> Plan:
    """The plan of a run that sees so many members of some plates."""
    layout = resized(plan.layout, {name: size for name, size in sizes.items() if name in plan.layout.plate_names})
    return replace(
        plan,
        layout=layout,
        sites=tuple(_site(site, layout, sizes) for site in plan.sites),
        observations={name: _observation(one, sizes) for name, one in plan.observations.items()},
        sizes={name: sizes.get(name, size) for name, size in plan.sizes.items()},
        reported=tuple(replace(one, plates=_plates(one.plates, sizes)) for one in plan.reported),
    )


def _plates(plates: SitePlates, sizes: Mapping[str, int]) -> SitePlates:
    changed = tuple(sizes.get(name, size) for name, size in zip(plates.names, plates.sizes, strict=True))
    return replace(plates, sizes=changed)


def _site(site: Site, layout: PlateLayout, sizes: Mapping[str, int]) -> Site:
    placement = layout.placement(site.source.placement.param)
    return replace(
        site,
        source=replace(site.source, placement=placement),
        plates=_plates(site.plates, sizes),
        value_shape=placement.root_shape + placement.plate_shape + placement.shape,
    )


def _observation(observation: Observation, sizes: Mapping[str, int]) -> Observation:
    dims = zip(observation.dims, observation.batch_shape, strict=True)
    return replace(observation, batch_shape=tuple(sizes.get(name, size) for name, size in dims))
