"""Draws of all members from a guide that sees a few of them at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from ..bridge.plan import Plan

__all__ = ["draw_in_pieces", "pieces"]


def draw_in_pieces(
    guide: Callable[[], Any], sites: Sequence[str], plan: Plan, sizes: Mapping[str, int]
) -> dict[str, Tensor]:
    """One draw of all members, from runs of a guide that each see a few: params that members share are drawn once.

    Args:
        guide: A guide that opens its plates itself, a few members of each.
        sites: What it samples.
        plan: Of the model, with all members.
        sizes: How many members of each plate the guide sees.
    """
    found: dict[str, Tensor] = {}
    shared: dict[str, Tensor] = {}
    for picked in pieces(plan, sizes):
        trace: Any = poutine.trace(poutine.condition(guide, data={**shared, **picked})).get_trace()
        for name in sites:
            node = trace.nodes[name]
            value = node["value"]
            frames = [frame for frame in node["cond_indep_stack"] if frame.name in picked]
            if not frames:
                found[name] = shared[name] = value
                continue
            own = len(node["fn"].event_shape)
            if name not in found:
                whole = list(value.shape)
                for frame in frames:
                    whole[value.ndim - own + frame.dim] = plan.sizes[frame.name]
                found[name] = value.new_empty(whole)
            _put(found[name], value, {value.ndim - own + frame.dim: picked[frame.name] for frame in frames})
    return found


def pieces(plan: Plan, sizes: Mapping[str, int]) -> Iterator[dict[str, Tensor]]:
    """The members that each run is to see; the last ones of a plate together with others, so that they are as many."""
    parts = {}
    for name, size in sizes.items():
        starts = [min(first, plan.sizes[name] - size) for first in range(0, plan.sizes[name], size)]
        parts[name] = [torch.arange(first, first + size) for first in starts]
    for chosen in product(*parts.values()):
        yield dict(zip(parts, chosen, strict=True))


def _put(whole: Tensor, part: Tensor, members: Mapping[int, Tensor]) -> None:
    """Write the values of some members into those of all."""
    index: list[Any] = [torch.arange(size) for size in whole.shape]
    for dim, picked in members.items():
        index[dim] = picked
    whole[torch.meshgrid(*index, indexing="ij")] = part
