"""The sites that a simulator samples itself, besides those that its params become."""

from __future__ import annotations

from typing import Any

from .dependencies import dependencies
from .plan import InnerSite
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
        frames = [frame for frame in reversed(site["cond_indep_stack"]) if frame.vectorized]
        plates = tuple((frame.name, int(frame.size)) for frame in frames)
        depth = max((-frame.dim for frame in frames), default=0)
        own = tuple(site["value"].shape[site["value"].ndim - len(distribution.event_shape) :])
        reads = dependencies(distribution, tracked)
        found.append(InnerSite(name, distribution, plates, depth, own, bool(site["is_observed"]), reads))
    return tuple(found)
