"""The log density of each single observation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro
import torch
from torch import Tensor

from ..bridge.bound import BoundModel
from ..bridge.many import natural, traces
from ..bridge.masks import observations_left
from ..bridge.randomness import own_numbers
from ..bridge.turns import in_turn
from ..errors import ObservationError
from .failures import warn_of_failures
from .progress import progress_bar

__all__ = ["Pointwise", "pointwise_log_likelihood"]


@dataclass(frozen=True)
class Pointwise:
    """Log densities of the single observations of a data set.

    Attributes:
        values: ``(draws, *dims)``; they mean nothing where there are no data.
        present: Which observations are data, over the dims: those that are neither missing nor left out by a mask.
    """

    values: np.ndarray[Any, Any]
    present: np.ndarray[Any, Any]


def pointwise_log_likelihood(
    bound: BoundModel, params: Mapping[str, np.ndarray[Any, Any]], draws: int, progress: bool, chunk_size: int | None
) -> dict[str, Pointwise]:
    """The log density of each single observation at each draw.

    Args:
        bound: The model.
        params: By site, draws ``(draws, *plates, *shape)``.
        draws: How many.
        progress: Whether to show how far it is.
        chunk_size: How many draws to run side by side.

    Raises:
        ObservationError: Which observations a mask leaves out differs between draws.
        Exception: What the simulator raises, where it does so for all draws.
    """
    found: dict[str, list[Tensor]] = {name: [] for name in bound.data}
    left: dict[str, Tensor] = {}
    failed: dict[int, Exception] = {}
    given = {name: torch.as_tensor(value) for name, value in params.items()}
    with (
        in_turn(),
        own_numbers(0),
        pyro.validation_enabled(False),
        progress_bar(draws, "log likelihood", "draw", progress) as bar,
    ):
        for trace, count in traces(bound, given, draws, chunk_size, failed):
            for name, values in found.items():
                if trace is None:
                    values.append(torch.full((1, *bound.plan.observations[name].batch_shape), torch.nan))
                    continue
                distribution = trace.nodes[name]["fn"]
                term = distribution.log_prob(trace.nodes[name]["value"])
                values.append(_by_draw(bound, name, term, count))
                mask = observations_left(distribution)
                if mask is not None:
                    _keep(left, name, _by_draw(bound, name, mask.expand(term.shape), count))
            bar.update(count)
    warn_of_failures(failed, draws, "the log likelihoods are NaN there: leave these draws out of comparisons")
    return {
        name: Pointwise(torch.cat(values).numpy(), _present(bound, name, left.get(name)))
        for name, values in found.items()
    }


def _by_draw(bound: BoundModel, name: str, term: Tensor, count: int) -> Tensor:
    """What there is for each observation at each of some draws, in the order of the data."""
    plan = bound.plan
    return natural(plan, name, term.reshape((count, *term.shape[term.ndim - plan.depth :])), 0, 1)


def _keep(left: dict[str, Tensor], name: str, masks: Tensor) -> None:
    """Take note of what the masks of some draws leave, which must be the same for all."""
    known = left.setdefault(name, masks[0])
    if bool((masks != known).any()):
        raise ObservationError(
            f"The mask of {name!r} leaves out other observations for some draws than for others: it depends on params, so that "
            "nobody can say which observations the log likelihood is of. Mask by the inputs alone."
        )


def _present(bound: BoundModel, name: str, left: Tensor | None) -> np.ndarray[Any, Any]:
    observation = bound.plan.observations[name]
    there = ~torch.isnan(bound.data[name]).expand(observation.batch_shape + observation.event_shape)
    if observation.event_shape:
        there = there.flatten(len(observation.batch_shape)).any(-1)
    found: np.ndarray[Any, Any] = (there if left is None else there & left).numpy()
    return found
