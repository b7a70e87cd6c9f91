"""Where chains are told to start: at values, at draws of a fit, or where earlier chains ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import arviz as az
import numpy as np

from ..density import LogDensity
from ..errors import SamplingError
from ..graph.arguments import check_mapping, shown
from ..inference.seeds import stream_seed
from ..inference.starts import find_starts
from .fit import Fit
from .metric import draws_of_fit
from .posterior_draws import posterior_draws

__all__ = ["Start", "check_start", "starting_points"]

Start = Fit | Mapping[str, Any] | az.InferenceData
Points = tuple[np.ndarray[Any, Any], ...]

TAKEN = "a fit of ck.fit, ArviZ data of ck.sample, or a dict of values by site"


def check_start(start: Any) -> None:
    """Check that something is a start.

    Raises:
        SamplingError: It is none.
    """
    if start is None or isinstance(start, (Fit, az.InferenceData)):
        return
    if not isinstance(start, Mapping):
        raise SamplingError(f"start must be {TAKEN}; got {shown(start)}.")
    check_mapping("start", start, '{"mean": 0.0}')


def starting_points(density: LogDensity, start: Start | None, chains: int, seed: int) -> Points:
    """The starting points of the chains, ``(dim,)`` each.

    Args:
        density: The density to sample.
        start: Where to start; None to look for places near the posterior.
        chains: How many are wanted.
        seed: The same seed gives the same points.

    Raises:
        SamplingError: A value is outside of its support or no number, or no density is there.
    """
    if start is None:
        return find_starts(density, chains, seed)
    if isinstance(start, Fit):
        z = draws_of_fit(density, start, chains, stream_seed(seed, chains))
        return tuple(row.double().numpy() for row in z)
    each = _last_draws(density, start, chains) if isinstance(start, az.InferenceData) else [dict(start)] * chains
    points: list[np.ndarray[Any, Any]] = []
    for chain, values in enumerate(each):
        density.check_values(values, "start=")
        given = density.sampled_values(values)
        z = density.initial(stream_seed(seed, chain), given)
        points.append(z.cpu().double().numpy())
    return tuple(points)


def _last_draws(density: LogDensity, posterior: az.InferenceData, chains: int) -> list[dict[str, Any]]:
    """The last draw of each chain; where more are wanted, those before the last, and so on."""
    plan = density.bound.plan
    try:
        found = posterior_draws(plan, posterior)
    except SamplingError as error:
        raise SamplingError(f"start= cannot be taken up: {error}") from None
    continuous = {
        name: value
        for name, value in found.values.items()
        if name not in {site.name for site in plan.sites if site.discrete} and name in _sites(density)
    }
    count, draws = found.chains, found.draws
    if chains > count * draws:
        raise SamplingError(f"start= has {count * draws} draws, too few for {chains} chains.")
    at = [(chain % count) * draws + draws - 1 - chain // count for chain in range(chains)]
    return [{name: value[index] for name, value in continuous.items()} for index in at]


def _sites(density: LogDensity) -> set[str]:
    return {site.name for site in density.bound.plan.sites}
