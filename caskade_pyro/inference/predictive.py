"""Predictions: what the data would look like for given params, or for params from the priors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import pyro
import torch
from pyro import poutine
from torch import Tensor

from ..bridge.bound import BoundModel
from ..bridge.improper import is_improper
from ..bridge.many import chunks, natural, trace_of_many, traces
from ..bridge.plan import InnerSite
from ..bridge.randomness import own_numbers
from ..bridge.turns import in_turn
from ..errors import ModelError, SamplingError
from .progress import progress_bar
from .seeds import seeded, stream_seed

__all__ = ["draw_predictions", "missing_observations", "pointwise_log_likelihood"]

Arrays = dict[str, np.ndarray[Any, Any]]


def draw_predictions(
    bound: BoundModel,
    params: Mapping[str, np.ndarray[Any, Any]],
    draws: int,
    seed: int,
    progress: bool,
    chunk_size: int | None = None,
) -> Arrays:
    """Run a model without its data, once for each draw.

    Many draws run side by side where the simulator can; one that cannot (which samples sites of its own, or branches on
    values) runs for one after the other.

    Args:
        bound: The model.
        params: By site, draws ``(draws, *plates, *shape)`` to run it at; the others are drawn from their priors.
        draws: How many.
        seed: Of the predictions.
        progress: Whether to show how far it is.
        chunk_size: How many draws to run side by side; by default as many as fit into a bounded amount of memory.

    Returns:
        By latent site, by what the model reports, and by observation, ``(draws, *plates, *shape)``. Of a quantity that has
        another shape in each draw, such as the members of a population, the missing entries are NaN.

    Raises:
        SamplingError: A prior is improper, so that nothing can be drawn from it.
    """
    given = {name: torch.as_tensor(value) for name, value in params.items()}
    with in_turn(), torch.no_grad(), progress_bar(draws, "predict", "draw", progress) as bar:
        try:
            if not bound.plan.inner:
                try:
                    with seeded(stream_seed(seed, 1)):
                        return _side_by_side(bound, given, draws, chunk_size, bar)
                except (ModelError, RuntimeError, ValueError):
                    bar.reset()  # the loop raises it again if the simulator itself is at fault
            with seeded(stream_seed(seed, 1)):
                return _one_by_one(bound, given, draws, bar)
        except NotImplementedError as error:
            raise SamplingError(_cannot_draw(bound, given, error)) from error


def _cannot_draw(bound: BoundModel, params: Mapping[str, Tensor], error: NotImplementedError) -> str:
    """Why nothing can be drawn."""
    left = [site for site in bound.plan.sites if site.name not in params]
    improper = [site.name for site in left if is_improper(site.template)]
    if not improper:
        return f"A distribution of {bound!r} cannot draw: {str(error).splitlines()[0]}."
    return (
        f"The prior of {', '.join(improper)} is improper, so that nothing can be drawn from it. Give a proper one for "
        f'predictions: PyroModel(..., priors={{"{improper[0]}": ...}}).'
    )


def _own_dims(bound: BoundModel) -> dict[str, int]:
    """How many dims of each quantity belong to one member."""
    plan = bound.plan
    own = {one.name: len(one.shape) for one in plan.in_plates}
    return own | {one.name: len(one.event_shape) for one in plan.observations.values()}


def _side_by_side(
    bound: BoundModel, params: Mapping[str, Tensor], draws: int, chunk_size: int | None, bar: Any
) -> Arrays:
    own = _own_dims(bound)
    found: dict[str, list[Tensor]] = {name: [] for name in own}
    for part in chunks(bound.plan, draws, chunk_size):
        chosen = {name: value[part.start : part.stop] for name, value in params.items()}
        trace = trace_of_many(bound, chosen, len(part), predict=True)
        for name, dims in own.items():
            found[name].append(natural(bound.plan, name, trace.nodes[name]["value"], dims, 1))
        bar.update(len(part))
    return {name: torch.cat(values).numpy() for name, values in found.items()}


def _one_by_one(bound: BoundModel, params: Mapping[str, Tensor], draws: int, bar: Any) -> Arrays:
    plan, own = bound.plan, _own_dims(bound)
    inner = {site.name: site for site in plan.latent_inner}
    found: dict[str, list[Tensor]] = {name: [] for name in (*own, *inner)}
    for draw in range(draws):
        trace = poutine.trace(_at(bound, params, draw)).get_trace()
        for name, values in found.items():
            value = cast("Tensor", trace.nodes[name]["value"] if name in trace.nodes else torch.zeros(0))
            values.append(_compact(value, inner[name]) if name in inner else natural(plan, name, value, own[name], 0))
        bar.update()
    return {name: _stacked(values) for name, values in found.items()}


def _at(bound: BoundModel, params: Mapping[str, Tensor], draw: int) -> Callable[[], Any]:
    values = {
        site.name: params[site.name][draw].reshape(site.plates.batch_shape + site.shape)
        for site in bound.plan.latents
        if site.name in params
    }
    return cast("Callable[[], Any]", poutine.condition(bound.predictive, data=values))


def _compact(value: Tensor, site: InnerSite) -> Tensor:
    """A value without the dims that are no plates of its site."""
    own = value.ndim - len(site.shape)
    kept = [value.shape[own + dim] for dim in site.plates.dims if -dim <= own]
    return value.reshape((*kept, *value.shape[own:]))


def _stacked(values: list[Tensor]) -> np.ndarray[Any, Any]:
    """Values of all draws; where they differ in shape, filled up with NaN."""
    if len({value.shape for value in values}) == 1:
        return cast("np.ndarray[Any, Any]", torch.stack(values).numpy())
    rank = max(value.ndim for value in values)
    whole = tuple(max(value.shape[dim] for value in values if value.ndim == rank) for dim in range(rank))
    filled = np.full((len(values), *whole), np.nan)
    for row, value in zip(filled, values, strict=True):
        if value.ndim == rank:
            row[tuple(slice(size) for size in value.shape)] = value.numpy()
    return filled


def pointwise_log_likelihood(
    bound: BoundModel, params: Mapping[str, np.ndarray[Any, Any]], draws: int, progress: bool, chunk_size: int | None
) -> Arrays:
    """The log density of each single observation at each draw.

    Args:
        bound: The model.
        params: By site, draws ``(draws, *plates, *shape)``.
        draws: How many.
        progress: Whether to show how far it is.
        chunk_size: How many draws to run side by side.

    Returns:
        By observation, ``(draws, *dims)``; NaN where data are missing.
    """
    plan = bound.plan
    found: dict[str, list[Tensor]] = {name: [] for name in bound.data}
    given = {name: torch.as_tensor(value) for name, value in params.items()}
    with (
        in_turn(),
        own_numbers(0),
        pyro.validation_enabled(False),
        progress_bar(draws, "log likelihood", "draw", progress) as bar,
    ):
        for trace, count in traces(bound, given, draws, chunk_size):
            for name, values in found.items():
                term = trace.nodes[name]["fn"].log_prob(trace.nodes[name]["value"])
                values.append(natural(plan, name, term.reshape((count, *term.shape[term.ndim - plan.depth :])), 0, 1))
            bar.update(count)
    return {name: _without_missing(bound, name, torch.cat(values)) for name, values in found.items()}


def missing_observations(bound: BoundModel, name: str) -> Tensor:
    """Which single observations are missing, all components of them: a mask over the dims of the observation."""
    observation = bound.plan.observations[name]
    missing = torch.isnan(bound.data[name]).expand(observation.batch_shape + observation.event_shape)
    return missing.flatten(len(observation.batch_shape)).all(-1) if observation.event_shape else missing


def _without_missing(bound: BoundModel, name: str, found: Tensor) -> np.ndarray[Any, Any]:
    return cast("np.ndarray[Any, Any]", torch.where(missing_observations(bound, name), torch.nan, found).numpy())
