"""Which parts of the flat vector the graph lets depend on which: shared params, and those of each member of a plate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..bridge.bound import BoundModel
from ..bridge.plates import SitePlates
from ..bridge.reparametrise import NonCentered
from .flat import Slot

__all__ = ["Block", "find_blocks", "places_of_sites"]

Indices = np.ndarray[Any, np.dtype[np.int64]]

LARGEST = 30
"""A site with more values than this for each member gives no block: a short warm-up does not show so many correlations."""


@dataclass(frozen=True, eq=False)
class Block:
    """The values of each member of some plates, and those that they may depend on.

    Attributes:
        own: Their places in the vector, ``(members, size)``.
        parents: The places of what lies in fewer of these plates, of the same members, ``(members, count)``.
    """

    own: Indices
    parents: Indices


def find_blocks(bound: BoundModel, noncentered: NonCentered, slots: Mapping[str, Slot]) -> tuple[Block, ...]:
    """The blocks of a model: one for the shared values, and one for each combination of plates; parents come first.

    Given their parents, members of a plate are independent in the prior, and in the posterior wherever each has its own data.

    Args:
        bound: The model.
        noncentered: Which sites are sampled as offsets.
        slots: By sampled site, its part of the vector.
    """
    tables: dict[tuple[str, ...], Indices] = {}
    alone: list[Indices] = []
    for names, places in places_of_sites(bound, noncentered, slots).values():
        table = places.reshape((*places.shape[: len(names)], -1))
        before = tables.get(names)
        if table.shape[-1] + (0 if before is None else before.shape[-1]) > LARGEST:
            alone.append(table.reshape(-1))
        else:
            tables[names] = table if before is None else np.concatenate([before, table], axis=-1)
    found = [_block(names, tables) for names in sorted(tables, key=len)]
    if alone:
        places = np.concatenate(alone)[:, None]
        found.append(Block(places, np.zeros((len(places), 0), dtype=np.int64)))
    return tuple(found)


def places_of_sites(
    bound: BoundModel, noncentered: NonCentered, slots: Mapping[str, Slot]
) -> dict[str, tuple[tuple[str, ...], Indices]]:
    """By sampled site, its plates and the places of its values in the vector, ``(*plates, *unconstrained shape)``."""
    plan, decisions = bound.plan, bound.decisions(noncentered)
    plates = {decisions[site.name].sampled_as: site.plates for site in plan.sites}
    plates |= {site.name: site.plates for site in plan.latent_inner}
    return {name: (plates[name].names, _places(slot, plates[name])) for name, slot in slots.items()}


def _places(slot: Slot, plates: SitePlates) -> Indices:
    batch = plates.batch_shape
    event = slot.shape[len(batch) :]
    places = np.arange(slot.slice.start, slot.slice.stop).reshape((*batch, *event))
    ahead = np.moveaxis(places, [len(batch) + dim for dim in plates.dims], range(len(plates.dims)))
    return ahead.reshape((*plates.sizes, *event))


def _block(names: tuple[str, ...], tables: Mapping[tuple[str, ...], Indices]) -> Block:
    own = tables[names]
    sizes = own.shape[:-1]
    members = np.indices(sizes)
    parents = [np.zeros((*sizes, 0), dtype=np.int64)]
    for outer, table in tables.items():
        if set(outer) < set(names):
            of_member = table[tuple(members[names.index(plate)] for plate in outer)]
            parents.append(np.broadcast_to(of_member, (*sizes, table.shape[-1])))
    together = np.concatenate(parents, axis=-1)
    count = math.prod(sizes)
    return Block(own.reshape(count, -1), together.reshape(count, together.shape[-1]))
