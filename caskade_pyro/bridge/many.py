"""A model at many values of its params at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pyro
import torch
from pyro import poutine
from torch import Tensor

from ..errors import SamplingError
from ..graph.nodes.shapes import show
from .plan import Plan

if TYPE_CHECKING:
    from .bound import BoundModel

__all__ = ["chunks", "log_density", "natural", "trace_of_many", "traces"]

DRAWS = "_draws"
"""The plate in whose members a model runs at different values."""

NUMBERS_AT_ONCE = 4_000_000
"""How many predicted numbers are computed at once, unless one says otherwise."""


def chunks(plan: Plan, draws: int, chunk_size: int | None) -> Iterator[range]:
    """The draws in portions, so that memory stays bounded."""
    if chunk_size is None:
        shapes = [one.batch_shape + one.event_shape for one in plan.observations.values()]
        numbers = sum(torch.Size(shape).numel() for shape in shapes)
        chunk_size = max(1, min(500, NUMBERS_AT_ONCE // max(1, numbers)))
    for first in range(0, draws, chunk_size):
        yield range(first, min(draws, first + chunk_size))


def trace_of_many(bound: BoundModel, params: Mapping[str, Tensor], draws: int, predict: bool) -> Any:
    """Pyro's trace of a model that runs for many draws side by side.

    Args:
        bound: The model.
        params: By site, ``(draws, *plates, *shape)``; sites that are left out are sampled.
        draws: How many.
        predict: Whether data are sampled rather than observed.

    Returns:
        The trace; the draws are the first dim of all values, in front of the dims of Pyro's plates.
    """
    plan = bound.plan
    values = {}
    for site in plan.sites:
        if site.name in params:
            shape = site.plates.padded(plan.depth) + site.shape
            values[site.name] = params[site.name].reshape((draws, *shape))
    model = bound.predictive if predict else bound.joint

    def many() -> None:
        with pyro.plate(DRAWS, draws, dim=-plan.depth - 1):
            model()

    with torch.no_grad():
        return poutine.trace(poutine.condition(many, data=values)).get_trace()


def natural(plan: Plan, name: str, value: Tensor, own: int, front: int) -> Tensor:
    """A value with the dims of its plates in the user's order: those of Pyro may be spread out, or lie in another one.

    Args:
        plan: Of the model.
        name: A site, something reported, or an observation.
        value: Its value.
        own: How many dims at the right belong to one member.
        front: How many dims are in front of those of the plates: of draws.
    """
    observation = plan.observations.get(name)
    names = observation.dims if observation is not None else _plates(plan, name)
    at = [plan.dims[one] for one in names]
    depth = value.ndim - own - front
    sizes = tuple(value.shape[front + depth + dim] if -dim <= depth else 1 for dim in at)
    order = sorted(range(len(at)), key=at.__getitem__)
    lead, rest = tuple(value.shape[:front]), tuple(value.shape[value.ndim - own :])
    compact = value.reshape(lead + tuple(sizes[index] for index in order) + rest)
    back = [front + order.index(index) for index in range(len(at))]
    moved = compact.permute((*range(front), *back, *range(front + len(at), compact.ndim)))
    return moved.expand(lead + tuple(plan.sizes[one] for one in names) + rest)


def _plates(plan: Plan, name: str) -> tuple[str, ...]:
    return next(one.plate_names for one in plan.in_plates if one.name == name)


def log_density(bound: BoundModel, params: Mapping[str, Any], chunk_size: int | None) -> Tensor:
    """The joint log density of params and data, at many params."""
    plan = bound.plan
    given = {name: torch.as_tensor(value) for name, value in params.items()}
    lengths = set()
    for site in plan.latents:
        if site.name not in given:
            raise SamplingError(f"The log density needs a value of {site.name}; got {', '.join(given) or 'none'}.")
        value = given[site.name]
        if value.ndim == 0 or tuple(value.shape[1:]) != site.draw_shape:
            raise SamplingError(
                f"Site {site.name}: expected values of shape (n, {', '.join(map(str, site.draw_shape))}), one for each of n "
                f"param sets; got {show(value.shape)}."
            )
        lengths.add(value.shape[0])
    if len(lengths) > 1:
        raise SamplingError(f"The params count the sets differently: {', '.join(map(str, sorted(lengths)))}.")
    found: list[Tensor] = []
    for trace, count in traces(bound, given, lengths.pop(), chunk_size):
        trace.compute_log_prob()
        terms = [site["log_prob"] for site in trace.nodes.values() if site["type"] == "sample" and "log_prob" in site]
        found.append(torch.stack([_by_draw(term, count, plan.depth) for term in terms]).sum(0))
    return torch.cat(found)


def traces(
    bound: BoundModel,
    params: Mapping[str, Tensor],
    draws: int,
    chunk_size: int | None,
    failed: dict[int, Exception] | None = None,
) -> Iterator[tuple[Any, int]]:
    """Traces of a model with its data, each for as many draws as run side by side, and how many these are.

    A simulator that samples sites of its own, or cannot be mapped over draws (it branches on values, or writes into a
    tensor of its own), runs for one draw after the other; such a trace has no dim of draws.

    Args:
        bound: The model.
        params: By site, draws ``(draws, *plates, *shape)``.
        draws: How many.
        chunk_size: How many to run side by side.
        failed: Takes note of draws for which the simulator fails, whose trace is None; otherwise that is an error.
    """
    one_by_one = bool(bound.plan.inner)
    for part in chunks(bound.plan, draws, chunk_size):
        if not one_by_one:
            chosen = {name: value[part.start : part.stop] for name, value in params.items()}
            try:
                trace = trace_of_many(bound, chosen, len(part), predict=False)
            except Exception:  # noqa: BLE001 - whatever the user's simulator raises
                one_by_one = True  # the loop raises it again if the simulator itself is at fault
            else:
                yield trace, len(part)
                continue
        for draw in part:
            try:
                trace = _trace_of_one(bound, params, draw)
            except Exception as error:
                if failed is None:
                    raise
                failed[draw], trace = error, None
            yield trace, 1


def _trace_of_one(bound: BoundModel, params: Mapping[str, Tensor], draw: int) -> Any:
    values = {
        site.name: params[site.name][draw].reshape(site.plates.batch_shape + site.shape) for site in bound.plan.latents
    }
    return poutine.trace(poutine.condition(bound.joint, data=values)).get_trace()


def _by_draw(term: Tensor, draws: int, depth: int) -> Tensor:
    """The sum of a term for each draw; one without a dim of draws belongs to a single one, or is the same for all."""
    if draws == 1 or term.ndim <= depth:  # a single draw may have plates of the simulator's own further left
        return term.sum().expand(draws)
    return term.reshape(term.shape[0], -1).sum(-1).expand(draws)
