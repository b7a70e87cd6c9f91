"""Pointers and live params as quantities that a model reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ..errors import CaskadeException
from ..graph.calls.evaluation import Evaluation
from ..graph.plates.layout import PlateLayout
from ..graph.plates.members import value_over_members
from .plan import Reported
from .plates import Dims, SitePlates
from .simulate import Values

__all__ = ["Collector", "candidates", "computed", "replicates", "reports"]


def candidates(layout: PlateLayout) -> tuple[Any, ...]:
    """The pointers that are a function of params which vary; one that just is another param has nothing to add."""
    return tuple(
        node
        for node in layout.paths
        if getattr(node, "pointer", False)
        and hasattr(node, "follow")
        and getattr(node, "target", None) is None
        and any(param.dynamic or param.live for param in node.structure.params)
    )


class Collector:
    """Finds out, at the end of a run of the simulator, what can be reported.

    Attributes:
        plates: For each param that can, the plates whose members its value counts.
    """

    def __init__(self, layout: PlateLayout) -> None:
        self.layout = layout
        self.pointers = candidates(layout)
        self.plates: dict[Any, tuple[str, ...]] = {}

    def __call__(self, evaluation: Evaluation) -> Values:
        """The values at the end of a call."""
        found: Values = {}
        for param in self.pointers:
            mapped: list[str] = []
            value = _try(evaluation, param, mapped)
            if isinstance(value, Tensor):
                found[param], self.plates[param] = value, tuple(mapped)
        for param, value in evaluation.values.items():
            if param.live:
                found[param], self.plates[param] = value, ()
        return found


def _try(evaluation: Evaluation, param: Any, mapped: list[str]) -> Tensor | None:
    try:
        return value_over_members(evaluation, param, mapped)
    except (CaskadeException, ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        return None  # a function of the user's that needs what is not there at the end of the call, or fails for these values


def computed(evaluation: Evaluation, params: Sequence[Any]) -> Values:
    """The values of pointers and live params at the end of a call; those of functions that fail there are left out.

    They are for people to look at: what the simulator or a prior needs of them is computed, and fails, there.
    """
    values = ((param, _try(evaluation, param, [])) for param in params)
    return {param: value for param, value in values if value is not None}


def reports(
    layout: PlateLayout, plates: Mapping[Any, tuple[str, ...]], values: Values, dims: Dims
) -> tuple[Reported, ...]:
    """What a model reports, from what was found at the preflight.

    Args:
        layout: The plates of the graph.
        plates: For each param, the plates that its value counts, without the replicates of the model.
        values: The values, the replicates in front.
        dims: The Pyro dim of each plate.
    """
    found = []
    for param, own in plates.items():
        names = (*replicates(layout), *own)
        at = SitePlates(names, layout.sizes(names), tuple(dims[name] for name in names))
        varying = tuple(one for one in param.structure.params if one is not param)
        found.append(
            Reported(
                name=layout.paths[param],
                param=param,
                plates=at,
                shape=tuple(values[param].shape[len(names) :]),
                parents=tuple(one for one in varying if one.dynamic),
                from_simulator=param.live or any(one.live for one in varying),
            )
        )
    return tuple(found)


def replicates(layout: PlateLayout) -> tuple[str, ...]:
    """The plates of the replicates of the whole model."""
    return tuple(plate.name for plate in layout.plates if plate.module is layout.root)
