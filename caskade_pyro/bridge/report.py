"""The preflight report of a model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

from pyro.distributions import Unit

from ..graph.nodes.shapes import show
from ..graph.views.description import ModelDescription, PlateDescription, SiteDescription
from .observations import Observation
from .plan import InnerSite, Plan, Reported, Site
from .reparametrise import Decision, decide
from .supports import describe_support

__all__ = ["Report", "describe", "with_idle_noted"]

HEADINGS = ("site", "distribution", "support", "shape", "plates", "parents", "sampled")


def describe(module: Any, plan: Plan) -> ModelDescription:
    """A model in plain data."""
    order = [plate.name for plate in plan.layout.plates]
    names = sorted(plan.sizes, key=lambda name: (plan.dims[name], order.index(name) if name in order else len(order)))
    decisions = decide(plan)
    sites = [_latent(site, plan, decisions[site.name]) for site in plan.sites]
    return ModelDescription(
        name=module.name,
        layout=plan.layout,
        plates=(*(PlateDescription(name, plan.sizes[name], name not in order) for name in names), *_inner_plates(plan)),
        sites=(
            *_parents_first([*sites, *(_reported(one, plan) for one in plan.reported), *map(_inner, plan.inner)]),
            *(_observation(one, plan) for one in plan.observations.values()),
        ),
    )


def _parents_first(sites: Sequence[SiteDescription]) -> tuple[SiteDescription, ...]:
    """The sites in their order, but each after those that it depends on, which are in no circle."""
    known = {site.name: site for site in sites}
    ordered: dict[str, SiteDescription] = {}
    for site in sites:
        stack = [site]
        while stack:
            waiting = [known[one] for one in stack[-1].parents if one in known and one not in ordered]
            if waiting:
                stack.append(waiting[0])
            else:
                done = stack.pop()
                ordered[done.name] = done
    return tuple(ordered.values())


def _inner_plates(plan: Plan) -> tuple[PlateDescription, ...]:
    """The plates that the simulator opens itself; how many members it draws may differ from run to run."""
    drawn = plan.layout.plate_names
    found = {
        name: None if name in drawn else size
        for site in plan.inner
        for name, size in zip(site.plates.names, site.plates.sizes, strict=True)
    }
    return tuple(PlateDescription(name, size) for name, size in found.items() if name not in plan.sizes)


def _inner(site: InnerSite) -> SiteDescription:
    factor = isinstance(site.distribution, Unit)
    return SiteDescription(
        name=site.name,
        distribution="pyro.factor" if factor else site.text,
        shape=() if factor else site.shape,
        plates=site.plate_names,
        parents=site.parents,
        support="-" if factor else describe_support(site.distribution.support),
        observed=site.observed,
        likelihood=site.observed,
        note="by the simulator",
    )


LEFT_OUT = "no part of the density; ck.predict draws it"

IDLE = "enters nothing: its posterior is its prior"


def with_idle_noted(description: ModelDescription) -> ModelDescription:
    """The description with a note at every param that no observation depends on, directly or through others."""
    parents = {site.name: site.parents for site in description.sites}
    reached: set[str] = set()
    said = [site for site in description.sites if site.likelihood]
    # What has no data says nothing, unless that is so of all, and the model is there to predict.
    stack = [site.name for site in said if site.observed] or [site.name for site in said]
    while stack:
        name = stack.pop()
        if name not in reached:
            reached.add(name)
            stack.extend(parents.get(name, ()))
    sites = tuple(
        site
        if site.name in reached or site.deterministic or site.likelihood
        else replace(site, note="; ".join(filter(None, [site.note, IDLE])))
        for site in description.sites
    )
    return replace(description, sites=sites)


def _note(site: Site, decision: Decision) -> str:
    notes = ["from valid="] if site.source.from_bounds else []
    if decision.circle is not None:
        notes.append("as a direction: it lies on a circle")
    elif site.source.parents:
        notes.append(f"{'non-centred' if decision.noncentered else 'centred'}: {decision.reason}")
    return "; ".join(notes)


def _latent(site: Site, plan: Plan, decision: Decision) -> SiteDescription:
    placement = site.source.placement
    return SiteDescription(
        name=site.name,
        distribution=str(site.source.prior),
        shape=placement.shape,
        plates=placement.plates,
        parents=_behind(site.source.prior.parents, plan),
        support=describe_support(site.template.support),
        units=getattr(placement.param, "units", None),
        note=_note(site, decision),
    )


def _behind(params: Iterable[Any], plan: Plan) -> tuple[str, ...]:
    """The sites, and the pointers that are reported, through which some params get their values."""
    reported = {one.param for one in plan.reported}
    found: dict[str, None] = {}
    seen = set()
    stack = [*reversed(tuple(params))]
    while stack:
        param = stack.pop()
        if param in seen:
            continue
        seen.add(param)
        if param.dynamic or param in reported:
            found[plan.layout.paths[param]] = None
        elif param.pointer:
            stack.extend(reversed(tuple(param.children.values())))
    return tuple(found)


def _reported(one: Reported, plan: Plan) -> SiteDescription:
    parents = () if one.param.live else _behind(one.param.children.values(), plan)
    return SiteDescription(
        name=one.name,
        distribution=f"f({', '.join(parent.rpartition('.')[2] for parent in parents)})" if parents else "",
        shape=one.shape,
        plates=one.plates.names,
        parents=parents,
        support="-",
        units=getattr(one.param, "units", None),
        deterministic=True,
    )


def _observation(observation: Observation, plan: Plan) -> SiteDescription:
    return SiteDescription(
        name=observation.name,
        distribution=observation.text,
        shape=observation.event_shape,
        plates=observation.dims,
        parents=(*(plan.layout.paths[parent] for parent in observation.parents), *observation.draws),
        support=describe_support(observation.distribution.support),
        observed=observation.observed,
        likelihood=True,
        note=LEFT_OUT if plan.has_data and not observation.observed else "",
    )


@dataclass(frozen=True)
class Report:
    """What a model says of itself before sampling; a table in a terminal and in a notebook."""

    description: ModelDescription

    def rows(self) -> list[tuple[str, ...]]:
        """The cells, a row for each site."""
        sizes = {plate.name: plate.size for plate in self.description.plates}
        return [_row(site, sizes) for site in self.description.sites]

    def __str__(self) -> str:
        rows = [HEADINGS, *self.rows()]
        widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([self._title(), "", *lines])

    def _title(self) -> str:
        latent = [site for site in self.description.sites if not site.likelihood and not site.deterministic]
        sizes = {plate.name: plate.size for plate in self.description.plates}
        scalars = sum(_count(site, sizes) for site in latent)
        plates = _sizes(plate for plate in self.description.plates if not plate.of_data)
        of_data = _sizes(plate for plate in self.description.plates if plate.of_data)
        title = (
            f"{self.description.name}: {len(latent)} latent sites, {scalars} latent scalars; plates: {plates or 'none'}"
        )
        return f"{title}; data plates: {of_data}" if of_data else title

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        head = "".join(f"<th style='text-align:left'>{escape(cell)}</th>" for cell in HEADINGS)
        body = "".join(
            "<tr>" + "".join(f"<td style='text-align:left'>{escape(cell)}</td>" for cell in row) + "</tr>"
            for row in self.rows()
        )
        return f"<p>{escape(self._title())}</p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _row(site: SiteDescription, sizes: dict[str, int | None]) -> tuple[str, ...]:
    name = f"{site.name} [{site.units}]" if site.units else site.name
    if site.likelihood:
        name += " (observed)" if site.observed else " (no data)"
    plates = ", ".join(plate if sizes[plate] is None else f"{plate} = {sizes[plate]}" for plate in site.plates)
    return (
        name,
        site.distribution or "set by the simulator",
        site.support,
        show(site.shape),
        plates or "-",
        _listing(site.parents),
        site.note,
    )


def _sizes(plates: Iterable[PlateDescription]) -> str:
    return ", ".join(one.name if one.size is None else f"{one.name} = {one.size}" for one in plates)


def _listing(names: Sequence[str]) -> str:
    shown = ", ".join(names[:4])
    return (shown + (f", ... ({len(names)})" if len(names) > 4 else "")) or "-"


def _count(site: SiteDescription, sizes: dict[str, int | None]) -> int:
    """How many numbers a site stands for; those of a plate whose size varies are not counted."""
    return math.prod((*site.shape, *(sizes[plate] or 0 for plate in site.plates)))
