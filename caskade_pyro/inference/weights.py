"""Draws from a guide, and how much likelier the model finds them than the guide does."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoGuide
from torch import Tensor

from ..density.flat import Flat, FromFlat, Slot
from ..graph.plates.distributions import without_validation
from .flat_guide import make_flat_guide
from .svi_steps import UNTRACEABLE

__all__ = ["Weighed", "weigh"]

DRAWS_AT_ONCE = 50
"""Of how many draws the densities are computed side by side."""


@dataclass(frozen=True)
class Weighed:
    """Draws from a guide, and how much likelier they are under the model.

    Attributes:
        z: Unconstrained, ``(draws, dim)``.
        log_ratios: The log density of the model minus the guide's, ``(draws,)``.
        slots: Where sites stand in a draw.
    """

    z: np.ndarray[Any, Any]
    log_ratios: np.ndarray[Any, Any]
    slots: Mapping[str, Slot]


def weigh(guide: Any, flat: Flat, draws: int) -> Weighed | None:
    """Draw from a guide and compare its density with that of a model.

    Args:
        guide: The guide, of no arguments, with its params in Pyro's param store.
        flat: The model, of all members.
        draws: How many.

    Returns:
        The draws; None for a guide without width.
    """
    with warnings.catch_warnings():
        # Modules in a guide are not to be trained here.
        warnings.filterwarnings("ignore", ".*not registered in the param store", UserWarning)
        z, ratios = _drawn(guide, flat, draws)
    if not bool((z != z[:1]).any()):
        return None
    return Weighed(z.double().numpy(), ratios.double().numpy(), flat.slots)


def _drawn(guide: Any, flat: Flat, draws: int) -> tuple[Tensor, Tensor]:
    if isinstance(guide, AutoGuide):
        try:
            return _by_noise(guide, flat, draws)
        except (*UNTRACEABLE, KeyError):  # it cannot be written as a function of noise
            pass
    return _by_runs(guide, flat, draws)


def _by_noise(guide: AutoGuide, flat: Flat, draws: int) -> tuple[Tensor, Tensor]:
    """As `weigh`, of a guide that is a function of normal noise: many draws side by side."""
    as_function = make_flat_guide(guide, flat)
    noise = torch.zeros(draws, as_function.sizes[1], dtype=as_function.dtype)
    for row in noise:
        as_function.draw(row)
    params = as_function.params()

    def of_one(row: Tensor) -> tuple[Tensor, Tensor]:
        z, surprise = as_function.place(params, row)
        return z, flat.log_density(z) + surprise

    found: tuple[Tensor, Tensor] = _many(of_one, noise)
    return found


def _many(of_one: Callable[[Tensor], Any], rows: Tensor) -> Any:
    """A function of many rows, side by side where that is possible."""
    try:
        return torch.vmap(of_one, chunk_size=DRAWS_AT_ONCE)(rows)
    except UNTRACEABLE:  # of simulators that cannot be run side by side
        found = [of_one(row) for row in rows]
    return tuple(map(torch.stack, zip(*found, strict=True))) if isinstance(found[0], tuple) else torch.stack(found)


def _by_runs(guide: Callable[[], Any], flat: Flat, draws: int) -> tuple[Tensor, Tensor]:
    """As `weigh`, of any guide of Pyro's: its density is the sum over all that it samples, as in Pyro's loss."""
    values: dict[str, list[Tensor]] = {name: [] for name in flat.slots}
    surprises = []
    for _ in range(draws):
        trace: Any = poutine.trace(guide).get_trace()
        trace.compute_log_prob(site_filter=lambda _, site: not site["is_observed"])
        drawn = [site for site in trace.nodes.values() if site["type"] == "sample" and not site["is_observed"]]
        surprises.append(-torch.stack([site["log_prob_sum"].to(flat.dtype).reshape(()) for site in drawn]).sum())
        for name, found in values.items():
            found.append(trace.nodes[name]["value"])
    z = flat.from_sampled({name: torch.stack(found) for name, found in values.items()}).to(flat.dtype)

    def of_one(row: Tensor) -> Tensor:
        with pyro.validation_enabled(False), without_validation():
            placed = FromFlat(flat.slots, flat.fixed, row)
            trace: Any = poutine.trace(placed(flat.model)).get_trace()
            found: Tensor = flat.evaluator.log_prob(trace)
            return found

    return z, _many(of_one, z) + torch.stack(surprises)
