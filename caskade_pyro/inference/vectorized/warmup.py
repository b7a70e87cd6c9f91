"""Warm-up of many chains together: in each step all chains make one draw, and what is learned is learned from all."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .adaptation import MOST_DIMS, DualAveraging, Moments, Scale, first_scale, learned_scale, windows
from .trajectory import Here, Target, begin, grow, leapfrog

__all__ = ["Density", "Tuned", "scaled", "warm_up"]

EARLY_DEPTH = 7
"""The greatest depth of trajectories before the scale has been learned twice, when long ones are of little use."""

STUCK = 0.2
"""A chain whose acceptance rate is below this, while the others' is above one half, takes smaller steps than they do."""

GOOD_ENOUGH = 0.8
"""The acceptance probability of one step that the first step size is looked for with."""


@dataclass(frozen=True)
class Density:
    """A log density at many points.

    Attributes:
        run: Values ``(n,)`` and gradients ``(n, dim)`` at ``(n, dim)``.
        by_row: Whether it pays to leave out chains that wait.
    """

    run: Target
    by_row: bool


@dataclass(frozen=True)
class Tuned:
    """What warm-up ends with.

    Attributes:
        here: Where the chains stand, in the coordinates of the scale.
        scale: The scale of the coordinates.
        step_size: The step size, of all chains.
    """

    here: Here
    scale: Scale
    step_size: float


def scaled(density: Density, scale: Scale) -> Target:
    """The density in the coordinates of a scale; its constant Jacobian is left out."""

    def target(x: Tensor) -> tuple[Tensor, Tensor]:
        values, gradients = density.run(scale.out(x))
        return values, scale.gradient(gradients)

    return target


def warm_up(
    density: Density,
    starts: Tensor,
    tune: int,
    target_accept: float,
    levels: int,
    generator: torch.Generator,
    scale: Scale | None = None,
    full: bool = True,
    report: Callable[[int, float], None] = lambda *_: None,
) -> Tuned:
    """Bring chains to the typical set and learn a step size and a scale.

    A chain that starts where the density is steep may not be able to move with the step size of all. It takes smaller steps,
    and nothing is learned from it, until it has come to where the others are.

    Args:
        density: The log density.
        starts: Starting points of finite density, ``(n, dim)``.
        tune: How many draws each chain makes.
        target_accept: The acceptance probability to adapt to.
        levels: The greatest depth of a trajectory.
        generator: Where chance comes from.
        scale: What the scale is at first; from the starting points by default.
        full: Whether the scale learns correlations, where there are draws enough to.
        report: Is told after each step how many there were, and the step size.
    """
    values, gradients = density.run(starts)
    scale = scale or first_scale(starts, gradients)
    full = full and starts.shape[1] <= MOST_DIMS
    here = Here(scale.into(starts), scale.gradient(gradients), values, -values)
    target = scaled(density, scale)
    step_size = first_step_size(here, target, generator)
    averaging = DualAveraging.around(step_size, target_accept)
    moments = Moments.none(here.x, full)
    ends = windows(tune)
    share = torch.ones_like(values)
    for step in range(1, tune + 1):
        early = len(ends) > 1 and step <= ends[1]
        depth = min(levels, EARLY_DEPTH) if early else levels
        sizes = share * math.exp(averaging.log_step)
        here, acceptance = _one_draw(here, target, sizes, depth, generator, density.by_row)
        share, common, mean = _shared(share, acceptance)
        averaging = averaging.update(mean)
        moments = moments.add(here.x[common], here.gradient[common])
        if not ends or step >= ends[-1]:  # the last steps are for the step size that all will take
            share = torch.ones_like(share)
        if step in ends:
            better = learned_scale(scale, moments)
            here = _in_other_scale(here, scale, better)
            scale, target = better, scaled(density, better)
            moments = Moments.none(here.x, full)
            averaging = DualAveraging.around(first_step_size(here, target, generator), target_accept)
        report(step, math.exp(averaging.log_step))
    return Tuned(here, scale, math.exp(averaging.averaged))


def _one_draw(
    here: Here,
    target: Target,
    step_sizes: Tensor,
    levels: int,
    generator: torch.Generator,
    by_row: bool,
) -> tuple[Here, Tensor]:
    """One draw of each chain, and the acceptance rates; those that are ready wait for the others."""
    momentum = torch.randn(here.x.shape, generator=generator, device=here.x.device, dtype=here.x.dtype)
    now = begin(here, momentum, levels)
    waiting = torch.zeros_like(here.log_density, dtype=torch.bool)
    acceptance = torch.zeros_like(here.log_density)
    active: Tensor | None = None
    while not bool(waiting.all()):
        now, ended = grow(now, target, step_sizes, generator, active)
        ready = ended & ~waiting
        here = now.draw.where(ready, here)
        acceptance = torch.where(ready, now.acceptance_rate, acceptance)
        waiting = waiting | ended
        if by_row and bool(ready.any()):
            active = (~waiting).nonzero()[:, 0]
    return here, acceptance


def _shared(share: Tensor, acceptance: Tensor) -> tuple[Tensor, Tensor, float]:
    """What share of the common step size each chain takes next.

    Args:
        share: What it took, ``(n,)``.
        acceptance: The acceptance rates that it got, ``(n,)``.

    Returns:
        The shares; which chains took the whole, or all where none did; and the mean acceptance rate of these.
    """
    whole = share == 1
    common = whole if bool(whole.any()) else torch.ones_like(whole)
    mean = float(acceptance[common].mean())
    if mean > 0.5:  # otherwise it is the common step size that is wrong
        share = torch.where(acceptance < STUCK, 0.5 * share, (2 * share).clamp(max=1))
    return share, common, mean


def first_step_size(here: Here, target: Target, generator: torch.Generator) -> float:
    """The step size, up to a factor of two, at which one step is accepted well enough in the mean over the chains."""
    momentum = torch.randn(here.x.shape, generator=generator, device=here.x.device, dtype=here.x.dtype)
    tip = torch.stack([here.x, momentum, here.gradient], 1)
    energy = 0.5 * (momentum**2).sum(1) - here.log_density

    def good(step_size: float) -> bool:
        there, log_density = leapfrog(tip, target, torch.full_like(energy, step_size))
        lost = 0.5 * (there[:, 1] ** 2).sum(1) - log_density - energy
        return float(torch.nan_to_num((-lost).clamp(max=0).exp(), nan=0.0).mean()) > GOOD_ENOUGH

    step_size = 1.0
    larger = good(step_size)
    while 1e-10 < step_size < 1e3:
        step_size *= 2.0 if larger else 0.5
        if good(step_size) != larger:
            break
    return step_size / 2 if larger else step_size


def _in_other_scale(here: Here, scale: Scale, other: Scale) -> Here:
    """Where chains stand, in the coordinates of another scale."""
    z = scale.out(here.x)
    return Here(other.into(z), other.gradient(scale.gradient_out(here.gradient)), here.log_density, here.energy)
