"""A simulator runs again, to see whether it does the same for the same params."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pyro import poutine
from torch.distributions import Distribution

from ..errors import CaskadeException
from ..graph.plates.distributions import without_validation
from ..graph.plates.layout import PlateLayout
from .chance import Watch, check_same
from .inner import is_subsample
from .priors import draw_one
from .randomness import own_numbers
from .simulate import Outcome, Simulator, Values, simulate

__all__ = ["FAILURES", "Ran", "check_again", "other_values"]

FAILURES = (CaskadeException, ArithmeticError, LookupError, AttributeError, RuntimeError, TypeError, ValueError)
"""What a simulator may raise for params that it cannot take."""


@dataclass(frozen=True)
class Ran:
    """The first run of a simulator.

    Attributes:
        outcome: What it returned.
        trace: Its own sites.
        watch: What was seen of random numbers.
    """

    outcome: Outcome
    trace: Any
    watch: Watch


def other_values(layout: PlateLayout, templates: Mapping[str, Distribution], values: Values) -> Values:
    """Other values of the params, drawn from their priors once more.

    Args:
        layout: Where they stand.
        templates: The prior of one member, by site.
        values: Those that the first run was given.
    """
    placements = {one.param: one for one in layout.placements}
    others = {}
    for param, value in values.items():
        placement = placements[param]
        drawn = draw_one(templates[placement.site], param.value, placement.shape)
        own = drawn.ndim - len(placement.shape)
        others[param] = (drawn[(0,) * own] if own > 0 else drawn).expand(value.shape)
    return others


def check_again(layout: PlateLayout, simulator: Simulator, params: Values, others: Values, ran: Ran) -> None:
    """Check that a simulator does the same for the same params, also after it ran for others.

    Raises:
        ModelError: It draws random numbers that are no sites, or keeps state.
    """

    def run(values: Values) -> list[Any]:
        with own_numbers(1), poutine.trace() as second, poutine.replay(trace=ran.trace):
            found = simulate(layout, simulator.with_copies(), values)
        return [*found.predicted.values(), *_own_sites(second.trace)]

    def again() -> list[Any]:
        # What it keeps of its last run, as a solution to start the next one from, shows after a run for other params.
        with suppress(*FAILURES), without_validation():
            run(others)
        return run(params)

    check_same(simulator.name, [*ran.outcome.predicted.values(), *_own_sites(ran.trace)], again, ran.watch)


def _own_sites(trace: Any) -> list[Any]:
    return [node["fn"] for node in trace.nodes.values() if node["type"] == "sample" and not is_subsample(node)]
