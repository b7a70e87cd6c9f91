"""Starting points: where a sampler or a check of the density may begin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer.autoguide.initialization import (
    InitMessenger,
    init_to_feasible,
    init_to_median,
    init_to_uniform,
    init_to_value,
)
from torch import Tensor

from ..bridge.distributions import NotFactorisedError, base_of
from ..bridge.ranges import is_outside
from ..errors import SamplingError
from ..graph.plates.distributions import without_validation
from .closeness import first_line
from .flat import Flat, FromFlat

__all__ = ["OF_SINGLE", "find_start"]

TRIES = 100
TRIES_NEAR_MEDIANS = 10
"""Fewer, since priors so wide that these fail always fail."""

ValueAndGradient = Callable[[Tensor], tuple[Tensor, Tensor]]


def find_start(
    flat: Flat,
    value_and_grad: ValueAndGradient,
    seed: int,
    values: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """A point where the density and its gradient are finite.

    Tried in turn: the given values, medians of draws from the priors, random points near zero, and zero itself; medians of
    draws from priors that are hardly proper may overflow.

    Args:
        flat: The model.
        value_and_grad: Its density.
        seed: The same seed gives the same point.
        values: Values of sampled sites to start at, as far as they are known.

    Raises:
        SamplingError: There is none.
    """
    near_medians = init_to_median(num_samples=10)
    rounds: list[tuple[int, Callable[..., Any]]] = [
        (TRIES_NEAR_MEDIANS, near_medians), (TRIES, init_to_uniform()), (1, init_to_feasible())
    ]  # fmt: skip
    if values is not None:
        rounds.insert(0, (1, init_to_value(values=dict(values), fallback=near_medians)))
    devices = {node.device for node in (values or {}).values() if node.is_cuda}
    z: Tensor | None = None
    with torch.random.fork_rng(devices=sorted(devices, key=str)):
        torch.manual_seed(seed)
        for tries, strategy in rounds:
            for _ in range(tries):
                try:
                    z = _vector(flat, strategy)
                except NotFactorisedError:
                    continue
                value, gradient = value_and_grad(z)
                if bool(torch.isfinite(value)) and bool(torch.isfinite(gradient).all()):
                    return z
    single = "" if flat.dtype == torch.float64 else f", or numbers leave single precision (float32), {OF_SINGLE}"
    raise SamplingError(
        f"No starting point has a finite log density{_culprits(flat, z)}: the data are impossible under the params that the "
        f"priors allow, the simulator returns NaN, or a covariance is not positive definite{single}. Look at "
        "ck.prior_predictive(bound)."
    )


OF_SINGLE = (
    "which holds nothing above 3e38 or below 1e-45, squares included: take units in which numbers are near 1, or double "
    "precision, torch.set_default_dtype(torch.float64) before the model is built"
)


def _culprits(flat: Flat, z: Tensor | None) -> str:
    """Which sites have no finite density at a vector, for the message of an error."""
    if z is None:
        return ""
    try:
        with pyro.validation_enabled(False), without_validation(), torch.no_grad(), poutine.block():
            trace: Any = poutine.trace(FromFlat(flat.slots, flat.fixed, z)(flat.model)).get_trace()
            trace.compute_log_prob()
    except NotFactorisedError as error:
        return f" ({first_line(error)})"
    found = []
    for name, node in trace.nodes.items():
        wrong = ~torch.isfinite(node["log_prob"]) if "log_prob" in node else torch.zeros(0)
        if bool(wrong.any()):
            index = tuple(wrong.nonzero()[0].tolist())
            beyond = "".join(
                f", whose {argument} of {value.item():g} is outside of where {type(base_of(node['fn'])).__name__} is defined"
                for argument, value in is_outside(node["fn"])
            )
            found.append(f"{name} ({node['log_prob'][index].item():g} at index {index}{beyond})")
    return f"; none have {', '.join(found)}" if found else ""


def _vector(flat: Flat, strategy: Any) -> Tensor:
    with pyro.validation_enabled(False), without_validation(), torch.no_grad(), poutine.block():
        trace = poutine.trace(InitMessenger(strategy)(flat.model)).get_trace()
        return flat.vector(trace)
