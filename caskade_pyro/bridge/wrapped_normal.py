"""The normal distribution wound around a circle, which neither torch nor Pyro has."""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.utils import broadcast_all

from ..errors import PriorError

__all__ = ["WrappedNormal"]

TERMS = range(1, 4)
"""With so many on both sides either series is exact to double precision on its side of `WIDE`."""

WIDE = 0.4
"""Of the circle: from this scale on the waves of the density are summed, below it the turns (Mardia and Jupp 2000, 3.5.7)."""


class WrappedNormal(dist.TorchDistribution):
    """A normal distribution on a circle: of normal values, what is left after whole turns.

    A prior for cyclic params, whatever the length of their circle: phases, or position angles between 0 and pi.

    Args:
        loc: The mean direction; whole turns more or less are the same.
        scale: The standard deviation of the normal distribution before it was wound up.
        low: The lower end of the circle; minus pi by default.
        high: The upper end, which is the same point; pi by default.

    Raises:
        PriorError: A lower end is not below its upper end.

    Example:
        >>> import math, torch
        >>> angle = WrappedNormal(0.1, 0.3, low=0.0, high=math.pi)
        >>> angle.log_prob(torch.tensor([0.2, math.pi - 0.0, 0.0]))
        tensor([0.2295, 0.2295, 0.2295])
        >>> angle.support.check(torch.tensor([-0.1, 0.1]))
        tensor([False,  True])
    """

    arg_constraints = {  # noqa: RUF012 - torch.distributions has it so
        "loc": constraints.real,
        "scale": constraints.positive,
        "low": constraints.dependent,
        "high": constraints.dependent,
    }
    has_rsample = True

    def __init__(
        self,
        loc: Tensor | float,
        scale: Tensor | float,
        low: Tensor | float = -math.pi,
        high: Tensor | float = math.pi,
        validate_args: bool | None = None,
    ) -> None:
        self.loc, self.scale, self.low, self.high = broadcast_all(loc, scale, low, high)
        super().__init__(self.loc.shape, validate_args=validate_args)
        if self._validate_args and not bool((self.low < self.high).all()):
            raise PriorError(f"WrappedNormal: low must be below high everywhere, got low={low}, high={high}.")

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:
        """Where values lie."""
        return constraints.interval(self.low, self.high)

    def expand(self, batch_shape: Any, _instance: Any = None) -> WrappedNormal:
        """The same with further batch dims."""
        loc, scale, low, high = (one.expand(batch_shape) for one in (self.loc, self.scale, self.low, self.high))
        return WrappedNormal(loc, scale, low, high, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """The log density, which goes on periodically beyond the ends."""
        if self._validate_args:
            self._validate_sample(value)
        turn = self.high - self.low
        scale = self.scale / turn
        away = torch.remainder((value - self.loc) / turn + 0.5, 1.0) - 0.5
        density = torch.where(scale < WIDE, _by_turns(away, scale), _by_waves(away, scale))
        return density - turn.log()

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws between the ends; differentiable in the mean direction and the scale."""
        drawn = dist.Normal(self.loc, self.scale, validate_args=False).rsample(sample_shape)
        return self._between_ends(drawn)

    @property
    def mean(self) -> Tensor:
        """The mean direction, between the ends."""
        return self._between_ends(self.loc)

    def _between_ends(self, value: Tensor) -> Tensor:
        return self.low + torch.remainder(value - self.low, self.high - self.low)


def _by_turns(away: Tensor, scale: Tensor) -> Tensor:
    """On a circle of length one, the sum over values that differ by whole turns, the nearest of them set apart."""
    others = torch.zeros_like(away)
    for count in TERMS:
        for turns in (count, -count):
            others = others + torch.exp(-turns * (2 * away + turns) / (2 * scale.square()))
    nearest = -away.square() / (2 * scale.square()) - scale.log() - 0.5 * math.log(2 * math.pi)
    return nearest + torch.log1p(others)


def _by_waves(away: Tensor, scale: Tensor) -> Tensor:
    """The same as a Fourier series; kept from narrow scales, for which so few waves would add up to less than nothing."""
    wide = scale.clamp(min=WIDE)
    waves = torch.zeros_like(away)
    for count in TERMS:
        heights = torch.exp(-2 * (math.pi * count * wide).square())
        waves = waves + 2 * heights * torch.cos(2 * math.pi * count * away)
    return torch.log1p(waves)
