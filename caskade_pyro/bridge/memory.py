"""What is remembered of a model from run to run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from .data import Data, prepare
from .plan import Plan

__all__ = ["Memory", "Seen"]


@dataclass(frozen=True)
class Seen:
    """What was found out of a model with its inputs and data, as long as the graph and their shapes stay.

    Attributes:
        key: The graph, and the shapes.
        plan: What is known of the model.
        data: The data, looked at once.
        views: By the sizes of subsamples, the plan of a run that looks at these.
        parents: By site, those that it depends on; empty until Pyro asks.
    """

    key: Any
    plan: Plan
    data: dict[str, Data] = field(default_factory=dict)
    views: dict[Any, Plan] = field(default_factory=dict)
    parents: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def prepared(self, data: Mapping[str, Tensor]) -> dict[str, Data]:
        """The data, looked at once."""
        for name, given in data.items():
            if name not in self.data or self.data[name].source is not given:
                self.data[name] = prepare(self.plan.observations[name], given)
        return {name: self.data[name] for name in data}


class Memory:
    """A place for what was seen last: every bound model has one, so that several of one model do not disturb each other.

    Copies and pickles begin with nothing.
    """

    seen: Seen | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {}
