"""One No-U-Turn trajectory of each of many chains, grown together by one leapfrog step at a time.

The recursion of Hoffman and Gelman (2014) is unrolled as in Phan, Pradhan and Jankowiak (2019) and Lao and Dillon (2019): a
subtree of ``2 ** depth`` leaves is walked leaf by leaf, and the leaves where parts of it begin are kept, one for each
level. Draws are multinomial, biased towards new subtrees (Betancourt 2017). Every chain has its own place in its own tree, so
one that has finished goes on to its next trajectory at once and no chain waits for the longest.

The metric is the identity: coordinates are scaled beforehand. All functions are pure but for the leaves that are kept, which
are written into the memory that holds them. Chains are the first dim of every tensor.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

__all__ = ["Here", "Target", "Trajectories", "begin", "begin_anew", "grow", "leapfrog"]

DIVERGENT = 1000.0
"""An error of the energy beyond this is a divergence, as in Stan."""

Target = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Log densities ``(n,)`` and gradients ``(n, dim)`` at ``(n, dim)``."""


@dataclass(frozen=True)
class Here:
    """Where chains stand.

    Attributes:
        x: Positions, ``(n, dim)``.
        gradient: Of the log density, ``(n, dim)``.
        log_density: ``(n,)``.
        energy: Minus the log density, and the kinetic energy with which the trajectory came here, ``(n,)``.
    """

    x: Tensor
    gradient: Tensor
    log_density: Tensor
    energy: Tensor

    def where(self, mask: Tensor, other: Here) -> Here:
        """This where a mask is true, elsewhere the other."""
        row = mask[:, None]
        return Here(
            torch.where(row, self.x, other.x),
            torch.where(row, self.gradient, other.gradient),
            torch.where(mask, self.log_density, other.log_density),
            torch.where(mask, self.energy, other.energy),
        )


@dataclass(frozen=True)
class Trajectories:
    """A trajectory of each chain, and the subtree that it is being doubled by.

    Phases are positions, momenta and gradients, one above the other: ``(n, ..., 3, dim)``.

    Attributes:
        start_energy: The energy at the beginning, ``(n,)``.
        ends: The phases of the two ends, in order of time, ``(n, 2, 3, dim)``.
        draw: What has been drawn from the tree so far.
        log_weight: Of the tree, as against its first point, ``(n,)``.
        momenta: The sum of the momenta in the tree, ``(n, dim)``.
        depth: How often the tree was doubled, ``(n,)``.
        steps: Leapfrog steps, those of a subtree that was dropped too, ``(n,)``.
        acceptance: The sum of the acceptance probabilities of all steps, ``(n,)``.
        diverged: Whether the energy was lost, ``(n,)``.
        forward: In which direction of time the subtree grows, ``(n,)``.
        leaf: How many leaves the subtree has, ``(n,)``.
        tip: The phase of its last leaf, ``(n, 3, dim)``.
        sub_draw: What has been drawn from the subtree.
        sub_log_weight: ``(n,)``
        sub_momenta: ``(n, dim)``
        kept: By level, a leaf where a part of the subtree begins: its momentum, and the sum of the momenta up to its
            middle, ``(n, levels + 1, 2, dim)``; the last is for what need not be kept.
    """

    start_energy: Tensor
    ends: Tensor
    draw: Here
    log_weight: Tensor
    momenta: Tensor
    depth: Tensor
    steps: Tensor
    acceptance: Tensor
    diverged: Tensor
    forward: Tensor
    leaf: Tensor
    tip: Tensor
    sub_draw: Here
    sub_log_weight: Tensor
    sub_momenta: Tensor
    kept: Tensor

    @property
    def levels(self) -> int:
        """The greatest depth."""
        return self.kept.shape[1] - 1

    @property
    def acceptance_rate(self) -> Tensor:
        """The mean acceptance probability of the steps, ``(n,)``."""
        return self.acceptance / self.steps.clamp(min=1)


def begin(here: Here, momentum: Tensor, levels: int) -> Trajectories:
    """Trajectories of no steps.

    Args:
        here: Where they begin.
        momentum: With which momenta, ``(n, dim)``.
        levels: The greatest depth.
    """
    energy = _energy(here, momentum)
    zeros, none = torch.zeros_like(energy), torch.zeros_like(energy, dtype=torch.long)
    no = torch.zeros_like(energy, dtype=torch.bool)
    tip = torch.stack([here.x, momentum, here.gradient], 1)
    draw = replace(here, energy=energy)
    return Trajectories(
        start_energy=energy,
        ends=tip[:, None].expand(-1, 2, -1, -1),
        draw=draw,
        log_weight=zeros,
        momenta=momentum,
        depth=none,
        steps=none,
        acceptance=zeros,
        diverged=no,
        forward=no,
        leaf=none,
        tip=tip,
        sub_draw=draw,
        sub_log_weight=torch.full_like(energy, -torch.inf),
        sub_momenta=torch.zeros_like(momentum),
        kept=momentum.new_zeros(len(energy), levels + 1, 2, momentum.shape[1]),
    )


def begin_anew(now: Trajectories, which: Tensor, momentum: Tensor) -> Trajectories:
    """New trajectories, from what was drawn, where the old ones have ended.

    Args:
        now: The trajectories.
        which: Where new ones begin, ``(n,)``.
        momentum: With which momenta, ``(n, dim)``.
    """
    row = which[:, None]
    energy = torch.where(which, _energy(now.draw, momentum), now.start_energy)
    tip = torch.stack([now.draw.x, momentum, now.draw.gradient], 1)
    # The rest follows from these with the first leaf.
    return replace(
        now,
        start_energy=energy,
        ends=torch.where(row[:, :, None, None], tip[:, None], now.ends),
        draw=replace(now.draw, energy=torch.where(which, energy, now.draw.energy)),
        log_weight=now.log_weight.masked_fill(which, 0.0),
        momenta=torch.where(row, momentum, now.momenta),
        depth=now.depth.masked_fill(which, 0),
        steps=now.steps.masked_fill(which, 0),
        acceptance=now.acceptance.masked_fill(which, 0.0),
        leaf=now.leaf.masked_fill(which, 0),
        sub_log_weight=now.sub_log_weight.masked_fill(which, -torch.inf),
        sub_momenta=now.sub_momenta.masked_fill(row, 0.0),
    )


def _energy(here: Here, momentum: Tensor) -> Tensor:
    return 0.5 * (momentum * momentum).sum(1) - here.log_density


def grow(
    now: Trajectories,
    target: Target,
    step_size: Tensor,
    generator: torch.Generator,
    active: Tensor | None = None,
) -> tuple[Trajectories, Tensor]:
    """Take one leapfrog step in each trajectory.

    Args:
        now: The trajectories.
        target: The log density.
        step_size: Of each chain, ``(n,)``; it must not change within a trajectory.
        generator: Where chance comes from.
        active: The chains that go on, as numbers; all by default. What becomes of the others means nothing.

    Returns:
        The trajectories, and which of them have come to their end, ``(n,)``; `Trajectories.draw` is then their draw.
    """
    chance = torch.rand(3, len(step_size), generator=generator, device=step_size.device, dtype=step_size.dtype)
    now = _turn_to_a_side(now, chance[0] < 0.5)
    now, turning = _add_leaf(now, target, step_size, chance[1], active)
    stopped = turning | now.diverged
    full = ~stopped & (now.leaf == 2**now.depth)
    now = _double(now, full, chance[2])
    turned = full & _turns(now.ends[:, 0, 1], now.ends[:, 1, 1], now.momenta)
    return now, stopped | turned | (full & (now.depth >= now.levels))


def _turn_to_a_side(now: Trajectories, forward: Tensor) -> Trajectories:
    """Where a subtree has no leaves yet, choose in which direction it grows."""
    new = now.leaf == 0
    forward = torch.where(new, forward, now.forward)
    ends = torch.where(forward[:, None, None], now.ends[:, 1], now.ends[:, 0])
    return replace(now, forward=forward, tip=torch.where(new[:, None, None], ends, now.tip))


def _add_leaf(
    now: Trajectories, target: Target, step_size: Tensor, chance: Tensor, active: Tensor | None
) -> tuple[Trajectories, Tensor]:
    """The subtrees with one more leaf, and whether a part of them that it completes turns back."""
    tip, log_density = leapfrog(now.tip, target, torch.where(now.forward, step_size, -step_size), active)
    x, momentum, gradient = tip.unbind(1)
    energy = 0.5 * (momentum * momentum).sum(1) - log_density
    log_weight = torch.nan_to_num(now.start_energy - energy, nan=-torch.inf, posinf=-torch.inf)
    sub_log_weight = torch.logaddexp(now.sub_log_weight, log_weight)
    chosen = chance < torch.exp(log_weight - sub_log_weight)
    momenta = now.sub_momenta + momentum
    turning = _parts_turn(now, momentum, momenta)
    grown = replace(
        now,
        steps=now.steps + 1,
        acceptance=now.acceptance + log_weight.clamp(max=0).exp(),
        diverged=log_weight < -DIVERGENT,
        leaf=now.leaf + 1,
        tip=tip,
        sub_draw=Here(x, gradient, log_density, energy).where(chosen, now.sub_draw),
        sub_log_weight=sub_log_weight,
        sub_momenta=momenta,
    )
    return grown, turning


def leapfrog(tip: Tensor, target: Target, step: Tensor, active: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The phases ``(n, 3, dim)`` one step of time ``(n,)`` later, and the log densities there ``(n,)``."""
    x, momentum, gradient = tip.unbind(1)
    step = step[:, None]
    momentum = momentum + 0.5 * step * gradient
    x = x + step * momentum
    if active is None:
        log_density, gradient = target(x)
    else:
        some_densities, some_gradients = target(x[active])
        log_density = x.new_zeros(len(x)).index_copy(0, active, some_densities)
        gradient = torch.zeros_like(x).index_copy(0, active, some_gradients)
    return torch.stack([x, momentum + 0.5 * step * gradient, gradient], 1), log_density


def _double(now: Trajectories, full: Tensor, chance: Tensor) -> Trajectories:
    """Where a subtree is complete, make it part of the tree."""
    chosen = full & (chance < torch.exp(now.sub_log_weight - now.log_weight))
    side = torch.stack([~now.forward, now.forward], 1) & full[:, None]
    return replace(
        now,
        ends=torch.where(side[:, :, None, None], now.tip[:, None], now.ends),
        draw=now.sub_draw.where(chosen, now.draw),
        log_weight=torch.where(full, torch.logaddexp(now.log_weight, now.sub_log_weight), now.log_weight),
        momenta=torch.where(full[:, None], now.momenta + now.sub_momenta, now.momenta),
        depth=now.depth + full,
        leaf=now.leaf.masked_fill(full, 0),
        sub_log_weight=now.sub_log_weight.masked_fill(full, -torch.inf),
        sub_momenta=now.sub_momenta.masked_fill(full[:, None], 0.0),
    )


# Where trajectories turn back


def _turns(first: Tensor, last: Tensor, momenta: Tensor) -> Tensor:
    """Whether the momenta of the ends point against the way between them.

    The way is the sum of the momenta, with those of the ends at half their weight, as the trapezoidal rule has it: then
    trajectories of Gaussians do not close on themselves unseen.
    """
    way = momenta - 0.5 * (first + last)
    return ((first * way).sum(1) <= 0) | ((last * way).sum(1) <= 0)


@functools.lru_cache(maxsize=8)
def _parts(levels: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Where leaves are kept, and which of the kept ones the parts begin with that end with a leaf.

    Leaves have numbers. One of even number begins parts, and is kept at the level that is the count of ones in the digits of
    its number; one of odd number is not, and ends as many parts as there are ones at the end of its number's digits.

    Returns:
        By leaf, a level ``(leaves,)`` and a mask of levels ``(leaves, levels)``.
    """
    leaves = torch.arange(2 ** max(levels - 1, 1))
    digits = (leaves[:, None] >> torch.arange(levels)) & 1
    last = digits[:, 1:].sum(1)
    ending = digits.cumprod(1).sum(1)
    level = torch.arange(levels)
    parts = (level <= last[:, None]) & (level > (last - ending)[:, None])
    return torch.where(leaves % 2 == 0, last, levels).to(device), parts.to(device)


def _parts_turn(now: Trajectories, momentum: Tensor, momenta: Tensor) -> Tensor:
    """Keep the new leaf, in place, if parts of the subtree begin with it; and whether one turns that ends with it."""
    slots, parts = _parts(now.levels, momentum.device)
    leaf = now.leaf.clamp(max=len(slots) - 1)  # of a chain that waits, anything
    chains = torch.arange(len(leaf), device=leaf.device)
    half = momenta - 0.5 * momentum
    now.kept[chains, slots[leaf]] = torch.stack([momentum, half], 1)
    depth = min(max(int(now.depth.max()), 1), now.levels)
    first, before = now.kept[:, :depth].unbind(2)
    way = half[:, None] - before
    turns = ((first * way).sum(2) <= 0) | ((momentum[:, None] * way).sum(2) <= 0)
    return (turns & parts[leaf, :depth]).any(1)
