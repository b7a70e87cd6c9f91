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
)
from torch import Tensor

from ..bridge.distributions import NotFactorisedError, base_of
from ..bridge.randomness import own_numbers
from ..bridge.ranges import is_outside
from ..errors import SamplingError
from ..graph.plates.distributions import without_validation
from .closeness import first_line
from .flat import Flat, FromFlat

__all__ = ["OF_SINGLE", "find_start", "prior_points"]

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

    Tried in turn: medians of draws from the priors, random points near zero, and zero itself; medians of draws from priors
    that are hardly proper may overflow. Values that are given stay as they are.

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
    if values:
        rounds = rounds[:1] if values.keys() >= flat.slots.keys() else rounds
    z: Tensor | None = None
    undefined: Tensor | None = None  # the gradient at a point where the density is finite
    with own_numbers(seed):
        for tries, strategy in rounds:
            for _ in range(tries):
                try:
                    z = _vector(flat, strategy, values or {})
                except NotFactorisedError:
                    continue
                value, gradient = value_and_grad(z)
                if bool(torch.isfinite(value)):
                    if bool(torch.isfinite(gradient).all()):
                        return z
                    undefined = gradient
    single = "" if flat.dtype == torch.float64 else f", or numbers leave single precision (float32), {OF_SINGLE}"
    if undefined is not None:
        raise SamplingError(_without_gradient(flat, undefined, single))
    kept = f" with the values that were given for {', '.join(values)}" if values else ""
    raise SamplingError(
        f"No starting point{kept} has a finite log density{_culprits(flat, z)}: the data are impossible under the params that "
        f"the priors allow, the simulator returns NaN, or a covariance is not positive definite{single}. Look at "
        "ck.prior_predictive(bound)."
    )


OF_SINGLE = (
    "which holds nothing above 3e38 or below 1e-45, squares included: take units in which numbers are near 1, or double "
    "precision, torch.set_default_dtype(torch.float64) before the model is built"
)


def _without_gradient(flat: Flat, gradient: Tensor, single: str) -> str:
    """What is wrong where the density is finite but its gradient is not."""
    parts = {name: slot.of(gradient) for name, slot in flat.slots.items()}
    wrong = [name for name, part in parts.items() if not bool(torch.isfinite(part).all())]
    first = parts[wrong[0]].reshape(-1)
    seen = "NaN" if bool(torch.isnan(first).any()) else "infinite"
    return (
        f"The log density is finite, but its gradient by {', '.join(wrong)} is {seen}, so that no sampler and no fit can "
        "follow it. A choice such as torch.where(x > 0, torch.sqrt(x), 0) does that: the branch that is not taken has the "
        "slope of a root at zero or of a negative number, and zero times NaN is NaN. Give that branch a number that it can "
        "take, too: torch.where(x > 0, torch.sqrt(torch.where(x > 0, x, 1)), 0). A norm or a root at exactly zero has no "
        f"slope either{single}."
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


def _vector(flat: Flat, strategy: Any, values: Mapping[str, Tensor]) -> Tensor:
    # Pyro asks a strategy for the values of sites that are sampled as offsets, never for offsets: these are conditioned on.
    with pyro.validation_enabled(False), without_validation(), torch.no_grad(), poutine.block():
        model = poutine.condition(InitMessenger(strategy)(flat.model), data=dict(values))
        trace = poutine.trace(model).get_trace()
        return flat.vector(trace)


def prior_points(flat: Flat, count: int, seed: int = 0) -> Tensor:
    """Vectors ``(n, dim)`` drawn from the priors: as many as asked for, or fewer where they are not finite."""
    found = []
    with own_numbers(seed):
        for _ in range(count):
            try:
                with pyro.validation_enabled(False), without_validation(), torch.no_grad(), poutine.block():
                    z = flat.vector(poutine.trace(flat.model).get_trace())
            except NotFactorisedError:
                continue
            if bool(torch.isfinite(z).all()):
                found.append(z)
    return torch.stack(found) if found else torch.zeros(0, flat.dim, dtype=flat.dtype)
