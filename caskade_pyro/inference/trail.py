"""Where the params of a fit have been: their mean over the last steps, and how far they still wander."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Trail", "Wander"]

MOST_BLOCKS = 64
"""Steps are averaged in so many blocks at most, which grow as there are more steps."""

LAST = 0.25
"""The share of the steps, at the end, that the fit is made of."""

SURE = 3.0

FEWEST = 6
"""Of fewer blocks their spread says too little."""


@dataclass(frozen=True)
class Wander:
    """What a vector did over the last steps of a fit.

    Attributes:
        mean: Over these steps.
        error: How far this mean may be off: by the spread of the blocks, and by what it drifted from one half to the other.
        speed: How steadily it moved one way, in units of the learning rate at each step: Adam's steps are about as long as
            that, so that 1 is a vector on its way, and 0 one that moves to and fro. It is what remains after three standard
            errors.
    """

    mean: Tensor
    error: Tensor
    speed: Tensor


class Trail:
    """The means of a vector over blocks of steps, in a memory that does not grow with the steps."""

    def __init__(self) -> None:
        self.blocks: list[Tensor] = []
        self.length = 1
        self.sum: Tensor | None = None
        self.count = 0
        self.time = 0.0

    def add(self, vector: Tensor, lr: float) -> None:
        """Take note of it after a step with a learning rate."""
        self.time += lr
        noted = torch.cat([vector, vector.new_tensor([self.time])])
        self.sum = noted if self.sum is None else self.sum.add_(noted)
        self.count += 1
        if self.count < self.length:
            return
        self.blocks.append(self.sum / self.count)
        self.sum, self.count = None, 0
        if len(self.blocks) == MOST_BLOCKS:
            pairs = zip(self.blocks[::2], self.blocks[1::2], strict=True)
            self.blocks = [(one + other) / 2 for one, other in pairs]
            self.length *= 2

    def wander(self) -> Wander | None:
        """What it did over the last steps; None where they are too few to tell."""
        last = int(LAST * len(self.blocks))
        if last < FEWEST:
            return None
        blocks = torch.stack(self.blocks[-last:])
        half = last // 2
        drift = (blocks[-half:].mean(0) - blocks[:half].mean(0)).abs()
        noise = blocks.std(0) / last**0.5
        error = torch.maximum(drift / 2, noise)
        return Wander(blocks[:, :-1].mean(0), error[:-1], _speed(blocks[:, -1:], blocks[:, :-1]))


def _speed(times: Tensor, values: Tensor) -> Tensor:
    """The slope of values over times, by least squares, less what may be noise."""
    since, rise = times - times.mean(), values - values.mean(0)
    spread = (since**2).sum()
    slope = (since * rise).sum(0) / spread
    left = rise - slope * since
    error = ((left**2).sum(0) / (len(times) - 2) / spread).sqrt()
    return (slope.abs() - SURE * error).clamp(min=0.0)
