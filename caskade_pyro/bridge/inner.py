"""The sites that a simulator samples itself, besides those that its params become."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyro.poutine.messenger import Messenger
from torch import Tensor

from ..graph.plates.layout import PlateLayout
from .dependencies import dependencies, write_out
from .plan import InnerSite
from .plates import SitePlates
from .simulate import Values

__all__ = ["TrackedDraws", "inner_sites", "is_subsample", "tracked"]


class TrackedDraws(Messenger):
    """Gives what a simulator draws derivatives of its own, which tell where it goes.

    Attributes:
        values: By site, the values drawn.
    """

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, Tensor] = {}

    def _pyro_post_sample(self, message: Any) -> None:
        if not message["is_observed"] and not is_subsample(message):
            message["value"] = self.values[message["name"]] = tracked(message["value"])


def tracked(value: Tensor) -> Tensor:
    """A copy whose derivatives tell where it goes."""
    return value.detach().clone().requires_grad_(value.is_floating_point())


def inner_sites(trace: Any, layout: PlateLayout, params: Values, draws: Mapping[str, Tensor]) -> tuple[InnerSite, ...]:
    """The sites in a trace of the simulator alone.

    Args:
        trace: Pyro's trace.
        layout: The plates of the graph.
        params: The values of the params, tracked.
        draws: What the simulator drew, tracked.
    """
    found = []
    for name, site in trace.nodes.items():
        if site["type"] != "sample" or is_subsample(site):
            continue
        distribution = site["fn"]
        frames = sorted((frame for frame in site["cond_indep_stack"] if frame.vectorized), key=lambda frame: frame.dim)
        plates = SitePlates(
            tuple(frame.name for frame in frames),
            tuple(int(frame.size) for frame in frames),
            tuple(frame.dim for frame in frames),
        )
        drawn_before = {one: value for one, value in draws.items() if one != name}
        reached = dependencies(distribution, {**params, **drawn_before})
        found.append(
            InnerSite(
                name=name,
                distribution=distribution,
                text=write_out(distribution, params),
                plates=plates,
                shape=tuple(site["value"].shape[site["value"].ndim - len(distribution.event_shape) :]),
                observed=bool(site["is_observed"]),
                parents=tuple(one if isinstance(one, str) else layout.paths[one] for one in reached if _varies(one)),
                reads=tuple(one for one in reached if not isinstance(one, str)),
            )
        )
    return tuple(found)


def _varies(param: Any) -> bool:
    return isinstance(param, str) or bool(param.dynamic)


def is_subsample(site: Any) -> bool:
    """Whether a site of a trace only picks members of a plate."""
    return type(site["fn"]).__name__ == "_Subsample"
