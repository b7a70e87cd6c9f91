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

from ..bridge.distributions import NotFactorisedError
from ..errors import SamplingError
from ..graph.plates.distributions import without_validation
from .closeness import first_line
from .flat import Flat, FromFlat

__all__ = ["find_start", "prior_points"]

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
    undefined: Tensor | None = None  # the gradient at a point where the density is finite
    with torch.random.fork_rng(devices=sorted(devices, key=str)):
        torch.manual_seed(seed)
        for tries, strategy in rounds:
            for _ in range(tries):
                try:
                    z = _vector(flat, strategy)
                except NotFactorisedError:
                    continue
                value, gradient = value_and_grad(z)
                if bool(torch.isfinite(value)):
                    if bool(torch.isfinite(gradient).all()):
                        return z
                    undefined = gradient
    if undefined is not None:
        raise SamplingError(_without_gradient(flat, undefined))
    raise SamplingError(
        f"No starting point has a finite log density{_culprits(flat, z)}: the data are impossible under the params that the "
        "priors allow, the simulator returns NaN, or a covariance is not positive definite. Look at "
        "ck.prior_predictive(bound)."
    )


def _without_gradient(flat: Flat, gradient: Tensor) -> str:
    """What is wrong where the density is finite but its gradient is not."""
    parts = {name: slot.of(gradient) for name, slot in flat.slots.items()}
    wrong = [name for name, part in parts.items() if not bool(torch.isfinite(part).all())]
    first = parts[wrong[0]].reshape(-1)
    seen = "NaN" if bool(torch.isnan(first).any()) else "infinite"
    return (
        f"The log density is finite, but its gradient by {', '.join(wrong)} is {seen}, so that no sampler and no fit can "
        "follow it. "
        "A choice such as torch.where(x > 0, torch.sqrt(x), 0) does that: the branch that is not taken has the slope of a root at "
        "zero or of a negative number, and zero times NaN is NaN. Give that branch a number that it can take, too: "
        "torch.where(x > 0, torch.sqrt(torch.where(x > 0, x, 1)), 0). A norm or a root at exactly zero has no slope either."
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
            found.append(f"{name} ({node['log_prob'][index].item():g} at index {index})")
    return f"; none have {', '.join(found)}" if found else ""


def _vector(flat: Flat, strategy: Any) -> Tensor:
    with pyro.validation_enabled(False), without_validation(), torch.no_grad(), poutine.block():
        trace = poutine.trace(InitMessenger(strategy)(flat.model)).get_trace()
        return flat.vector(trace)


def prior_points(flat: Flat, count: int, seed: int = 0) -> Tensor:
    """Vectors ``(n, dim)`` drawn from the priors: as many as asked for, or fewer where they are not finite."""
    found = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for _ in range(count):
            try:
                with pyro.validation_enabled(False), without_validation(), torch.no_grad(), poutine.block():
                    z = flat.vector(poutine.trace(flat.model).get_trace())
            except NotFactorisedError:
                continue
            if bool(torch.isfinite(z).all()):
                found.append(z)
    return torch.stack(found) if found else torch.zeros(0, flat.dim, dtype=flat.dtype)
