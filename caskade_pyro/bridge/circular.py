"""Params on a circle: sampled as points of a ring in the plane, which has no seam.

An angle between two bounds has an edge there that the posterior does not have: chains meet a wall where the circle goes
on, and a posterior that straddles it falls into two pieces. So the sampler is given two coordinates instead, of which only
the direction matters. Their density is a ring around the origin (the radius follows a Nakagami distribution), which
vanishes at the centre, where the direction is undefined. Stan's unit vectors are made in the same way, from normal coordinates.
"""

from __future__ import annotations

import math
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer.reparam.reparam import Reparam
from torch import Tensor
from torch.distributions import constraints

from ..graph.plates.distributions import without_validation
from .distributions import base_of

__all__ = ["CircularReparam", "Ring"]

SHARPNESS = 10.0
"""The radius has mean 0.99 and standard deviation 0.16. A thicker ring reaches to the centre, where narrow posteriors of the
direction become needles and chains diverge; a thinner one takes more steps to go around."""


class Ring(dist.TorchDistribution):
    """Points of the plane in a uniform direction, at a distance of about one from the point (-1, 0).

    Moved by one, so that the origin, where samplers start, is the direction of the positive axis and not of none.

    Args:
        batch_shape: How many there are.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 - torch.distributions has it so
    support = constraints.real_vector
    has_rsample = False

    def __init__(self, batch_shape: tuple[int, ...] = ()) -> None:
        super().__init__(torch.Size(batch_shape), torch.Size((2,)), validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Ring:
        """The same for more of them."""
        return Ring(tuple(batch_shape))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Points ``(*sample_shape, *batch_shape, 2)``."""
        shape = tuple(sample_shape) + tuple(self.batch_shape)
        radius = dist.Gamma(SHARPNESS, SHARPNESS).sample(shape).sqrt()
        angle = (2 * torch.rand(shape) - 1) * math.pi
        return torch.stack([radius * angle.cos() - 1, radius * angle.sin()], dim=-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """The log density in the plane."""
        square = (value[..., 0] + 1) ** 2 + value[..., 1] ** 2
        constant = SHARPNESS * math.log(SHARPNESS) - math.lgamma(SHARPNESS) - math.log(math.pi)
        found = (SHARPNESS - 1) * square.log() - SHARPNESS * square + constant
        return found.expand(torch.broadcast_shapes(found.shape, self.batch_shape))


class CircularReparam(Reparam):
    """Samples a point of a ring, ``{site}_ring``, of which the site is the direction.

    Args:
        low: The lower end of the circle.
        high: The upper end, which is the same point.
    """

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def apply(self, msg: Any) -> Any:
        """Called by Pyro in place of the sample statement."""
        name, fn, value = msg["name"], msg["fn"], msg["value"]
        own = tuple(fn.event_shape)
        point = pyro.sample(
            f"{name}_ring",
            dist.Independent(Ring(own), len(own)) if own else Ring(),
            obs=None if value is None else self.on_ring(value),
            infer={"is_observed": msg["is_observed"]},
        )
        if value is None:
            value = self._direction(point)
        weight = self._weight(fn, value)
        if weight is not None:
            pyro.factor(f"{name}_weight", weight)
        return {"fn": dist.Delta(value, event_dim=fn.event_dim).mask(False), "value": value, "is_observed": True}

    def _direction(self, point: Tensor) -> Tensor:
        turn = torch.atan2(point[..., 1], point[..., 0] + 1) / (2 * math.pi)
        return (self.low + self.high) / 2 + (self.high - self.low) * turn

    def on_ring(self, value: Tensor) -> Tensor:
        """A point in the direction that a value stands for, ``(*value.shape, 2)``."""
        angle = 2 * math.pi * (value - (self.low + self.high) / 2) / (self.high - self.low)
        return torch.stack([angle.cos() - 1, angle.sin()], dim=-1)

    def _weight(self, fn: Any, value: Tensor) -> Tensor | None:
        """The log density of the prior beside the uniform one that the ring has; None where they are the same."""
        if isinstance(base_of(fn), torch.distributions.Uniform):
            return None
        with without_validation():
            density: Tensor = fn.log_prob(value)
        weight: Tensor = density + math.prod(fn.event_shape) * math.log(self.high - self.low)
        return weight
