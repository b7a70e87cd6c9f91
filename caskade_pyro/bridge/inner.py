"""The sites that a simulator samples itself, besides those that its params become."""

from __future__ import annotations

from typing import Any

from .dependencies import dependencies
from .plan import InnerSite
from .plates import SitePlates
from .simulate import Values

__all__ = ["inner_sites"]


def inner_sites(trace: Any, tracked: Values) -> tuple[InnerSite, ...]:
    """The sites in a trace of the simulator alone.

    Args:
        trace: Pyro's trace.
        tracked: The values of params that the simulator was given.
    """
    found = []
    for name, site in trace.nodes.items():
        if site["type"] != "sample" or type(site["fn"]).__name__ == "_Subsample":
            continue
        distribution = site["fn"]
        frames = sorted((frame for frame in site["cond_indep_stack"] if frame.vectorized), key=lambda frame: frame.dim)
        plates = SitePlates(
            tuple(frame.name for frame in frames),
            tuple(int(frame.size) for frame in frames),
            tuple(frame.dim for frame in frames),
        )
        own = tuple(site["value"].shape[site["value"].ndim - len(distribution.event_shape) :])
        reads = dependencies(distribution, tracked)
        found.append(InnerSite(name, distribution, plates, own, bool(site["is_observed"]), reads))
    return tuple(found)
