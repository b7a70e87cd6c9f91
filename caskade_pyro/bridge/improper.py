"""Flat priors that are no distributions: nothing can be drawn from them, but an inference has to begin somewhere."""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions import ImproperUniform
from pyro.poutine.messenger import Messenger
from torch.distributions import biject_to

from .distributions import base_of

__all__ = ["BeginSomewhere", "is_improper"]


def is_improper(distribution: Any) -> bool:
    """Whether nothing can be drawn from a distribution."""
    return isinstance(base_of(distribution), ImproperUniform)


class BeginSomewhere(Messenger):
    """Gives sites with improper priors some value in their support, unless they are given another.

    For inferences and for looks at the structure of a model alone: such values are no draws.
    """

    def _pyro_sample(self, message: Any) -> None:
        if message["value"] is None and not message["done"] and is_improper(message["fn"]):
            to_support = biject_to(message["fn"].support)
            unconstrained = torch.randn(to_support.inverse_shape(message["fn"].shape()))
            message["value"], message["done"] = to_support(unconstrained), True
