"""Constants and inputs that single precision rounds so coarsely that predictions move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from ..errors import CaskadeException
from ..graph.plates.distributions import without_validation
from ..graph.plates.layout import PlateLayout
from .distributions import base_of
from .inputs import named_inputs
from .observations import Observation
from .resolution import share_lost, too_coarse
from .simulate import Simulator, Values, simulate

__all__ = ["coarse_constants"]

LARGE = 1e3
"""Below, single precision has four digits behind the point."""


def coarse_constants(
    layout: PlateLayout,
    simulator: Simulator,
    values: Values,
    predicted: Mapping[str, Any],
    found: Sequence[Observation],
) -> tuple[str, ...]:
    """What is in single precision in a model in double, and large, so that its rounding shows in predictions.

    Each of these is moved to the next number of single precision, and the simulator is run again.

    Args:
        layout: The plates of the graph.
        simulator: The forward method with its inputs.
        values: The values of all params at the preflight.
        predicted: What was predicted there.
        found: What is known of the observations.

    Returns:
        A message for each.
    """
    scales = {one.name: one.fixed_scale for one in found if one.fixed_scale is not None}
    if not layout.double or not scales:
        return ()
    values = {param: value.detach() for param, value in values.items()}
    runs: dict[str, tuple[Tensor, Simulator, Values]] = {}
    for param, value in values.items():
        if param.static and _is_large_single(value):
            name = f"The constant {layout.paths[param]}"
            runs[name] = value, simulator, values | {param: _next(value)}
    inputs = named_inputs(simulator.method, simulator.args, simulator.kwargs)
    for name, value in inputs.items():
        if _is_large_single(value):
            runs[f"The input {name}"] = value, _with_input(simulator, value, _next(value)), values
    messages = []
    for name, (value, moved, at) in runs.items():
        share = _moved(layout, moved, at, predicted, scales) / 2  # a number is rounded by half a step at most
        if too_coarse(share):
            _, apart, where = share_lost(value, torch.ones(()))
            messages.append(
                f"{name} is in single precision (float32), whose numbers lie {apart:.2g} apart at {where:.9g}: rounding moves "
                f"predictions by up to {share:.2g} times the scale of their likelihood. Give it in double precision, as numpy, "
                "lists of numbers or torch.tensor(..., dtype=torch.float64) are."
            )
    return tuple(messages)


def _is_large_single(value: Any) -> bool:
    single = isinstance(value, Tensor) and value.dtype == torch.float32 and value.numel() > 0
    return single and bool((value.abs() >= LARGE).any())


def _next(value: Tensor) -> Tensor:
    return torch.nextafter(value, torch.full_like(value, torch.inf))


def _with_input(simulator: Simulator, former: Tensor, value: Tensor) -> Simulator:
    args = tuple(value if one is former else one for one in simulator.args)
    return replace(
        simulator,
        args=args,
        kwargs={name: value if one is former else one for name, one in simulator.kwargs.items()},
    )


def _moved(
    layout: PlateLayout, simulator: Simulator, values: Values, before: Mapping[str, Any], scales: Mapping[str, Tensor]
) -> float:
    """How far predictions move, in units of their scale, at most; zero where that cannot be told."""
    try:
        with torch.no_grad(), without_validation(), poutine.block():
            after = simulate(layout, simulator.with_copies(), values).predicted
            moves = [
                (_location(after[name]) - _location(before[name])).double().abs() / scale
                for name, scale in scales.items()
            ]
    except (CaskadeException, ArithmeticError, LookupError, AttributeError, RuntimeError, TypeError, ValueError):
        return 0.0
    return max((float(one[torch.isfinite(one)].max()) for one in moves if bool(torch.isfinite(one).any())), default=0.0)


def _location(distribution: Any) -> Tensor:
    base = base_of(distribution)
    found: Tensor = base.loc if isinstance(getattr(base, "loc", None), Tensor) else base.mean
    return found.detach()
