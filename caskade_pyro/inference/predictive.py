"""Predictions: what the data would look like for given params, or for params from the priors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import torch
from pyro import poutine
from torch import Tensor

from ..bridge.bound import BoundModel
from ..bridge.improper import is_improper
from ..bridge.many import chunks, natural, trace_of_many
from ..bridge.plan import InnerSite
from ..bridge.turns import in_turn
from ..errors import SamplingError
from .failures import warn_of_failures
from .given import Given
from .progress import progress_bar
from .seeds import seeded, stream_seed

__all__ = ["draw_predictions"]

Arrays = dict[str, np.ndarray[Any, Any]]


def draw_predictions(
    bound: BoundModel,
    params: Mapping[str, np.ndarray[Any, Any]],
    draws: int,
    seed: int,
    progress: bool,
    chunk_size: int | None = None,
    known: Mapping[str, np.ndarray[Any, Any]] | None = None,
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
        known: Of sites that are given for some members of their plates only, which: a mask over these. The params of the
            others are drawn from their priors.

    A simulator that fails for some draws leaves NaN there, and a warning says so.

    Returns:
        By latent site, by what the model reports, and by observation, ``(draws, *plates, *shape)``. Of a quantity that has
        another shape in each draw, such as the members of a population, the missing entries are NaN.

    Raises:
        SamplingError: A prior is improper, so that nothing can be drawn from it.
        Exception: What the simulator raises, where it does so for all draws.
    """
    some = {name: torch.as_tensor(mask) for name, mask in (known or {}).items()}
    given = Given({name: torch.as_tensor(value) for name, value in params.items()}, some)
    with in_turn(), torch.no_grad(), progress_bar(draws, "predict", "draw", progress) as bar:
        try:
            if not bound.plan.inner:
                try:
                    with seeded(stream_seed(seed, 1)):
                        return _side_by_side(bound, given, draws, chunk_size, bar)
                except Exception:  # noqa: BLE001 - whatever the user's simulator raises
                    bar.reset()  # the loop raises it again if the simulator itself is at fault
            with seeded(stream_seed(seed, 1)):
                return _one_by_one(bound, given, draws, bar)
        except NotImplementedError as error:
            raise SamplingError(_cannot_draw(bound, given.wholly, error)) from error


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


def _side_by_side(bound: BoundModel, params: Given, draws: int, chunk_size: int | None, bar: Any) -> Arrays:
    own = _own_dims(bound)
    found: dict[str, list[Tensor]] = {name: [] for name in own}
    for part in chunks(bound.plan, draws, chunk_size):
        chosen = params.of_draws(slice(part.start, part.stop))
        with chosen.partly(bound, (len(part),), padded=True):
            trace = trace_of_many(bound, chosen.wholly, len(part), predict=True)
        for name, dims in own.items():
            found[name].append(natural(bound.plan, name, trace.nodes[name]["value"], dims, 1))
        bar.update(len(part))
    return {name: torch.cat(values).numpy() for name, values in found.items()}


def _one_by_one(bound: BoundModel, params: Given, draws: int, bar: Any) -> Arrays:
    plan, own = bound.plan, _own_dims(bound)
    inner = {site.name: site for site in plan.latent_inner}
    found: dict[str, list[Tensor | None]] = {name: [] for name in (*own, *inner)}
    failed: dict[int, Exception] = {}
    for draw in range(draws):
        chosen = params.of_draws(draw)
        tracer = poutine.trace(_at(bound, chosen.wholly))
        with chosen.partly(bound, (), padded=False):
            try:
                nodes = tracer.get_trace().nodes
            except NotImplementedError:
                raise  # a distribution that cannot draw does so for no params
            except Exception as error:  # noqa: BLE001 - whatever the user's simulator raises
                failed[draw], nodes = error, tracer.msngr.trace.nodes  # the params were drawn before
        for name, values in found.items():
            if name not in nodes:  # the simulator draws no members this time; or a function failed
                values.append(torch.zeros(0) if name in inner and draw not in failed else None)
                continue
            value = cast("Tensor", nodes[name]["value"])
            values.append(_compact(value, inner[name]) if name in inner else natural(plan, name, value, own[name], 0))
        bar.update()
    warn_of_failures(failed, draws, "what is predicted is NaN there")
    return {name: _stacked(values) for name, values in found.items() if any(value is not None for value in values)}


def _at(bound: BoundModel, params: Mapping[str, Tensor]) -> Callable[[], Any]:
    values = {
        site.name: params[site.name].reshape(site.plates.batch_shape + site.shape)
        for site in bound.plan.latents
        if site.name in params
    }
    return cast("Callable[[], Any]", poutine.condition(bound.predictive, data=values))


def _compact(value: Tensor, site: InnerSite) -> Tensor:
    """A value without the dims that are no plates of its site."""
    own = value.ndim - len(site.shape)
    kept = [value.shape[own + dim] for dim in site.plates.dims if -dim <= own]
    return value.reshape((*kept, *value.shape[own:]))


def _stacked(values: list[Tensor | None]) -> np.ndarray[Any, Any]:
    """Values of all draws; where they differ in shape, or one is lacking, filled up with NaN."""
    there = [value for value in values if value is not None]
    if len(there) == len(values) and len({value.shape for value in there}) == 1:
        return cast("np.ndarray[Any, Any]", torch.stack(there).numpy())
    rank = max(value.ndim for value in there)
    whole = tuple(max(value.shape[dim] for value in there if value.ndim == rank) for dim in range(rank))
    filled = np.full((len(values), *whole), np.nan)
    for row, value in zip(filled, values, strict=True):
        if value is not None and value.ndim == rank:
            row[tuple(slice(size) for size in value.shape)] = value.numpy()
    return filled
