"""What an entry of the registry is."""

from collections.abc import Callable
from dataclasses import dataclass

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch.distributions import biject_to

import caskade_pyro as ck

__all__ = ["DrawsImproper", "Pair", "data", "latents", "trace"]


@dataclass(frozen=True)
class Pair:
    """A bridged model and its twin.

    Attributes:
        bound: The bridged model with its data.
        by_hand: The same model in plain Pyro, with sites of the same names and shapes.
        subsampled: The plates whose members can be seen a few at a time; all others refuse.
        one_by_one: Whether the simulator samples sites of its own, so that runs cannot be laid side by side.
        improper: Whether some prior cannot be drawn from.
    """

    bound: ck.BoundModel
    by_hand: Callable
    subsampled: tuple[str, ...] = ()
    one_by_one: bool = False
    improper: bool = False


def data(*shape):
    """Data of a shape, always the same."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


class DrawsImproper(Messenger):
    """Draws from flat priors that are no distributions: something in their support."""

    def _pyro_sample(self, message):
        base = message["fn"]
        while hasattr(base, "base_dist"):
            base = base.base_dist
        if isinstance(base, dist.ImproperUniform) and message["value"] is None and not message["done"]:
            shape = message["fn"].shape()
            message["value"], message["done"] = biject_to(message["fn"].support)(torch.randn(shape)), True


def latents(executed):
    """The values of the latent sites of a trace."""
    return {
        name: site["value"]
        for name, site in executed.nodes.items()
        if site["type"] == "sample" and not site["is_observed"] and type(site["fn"]).__name__ != "_Subsample"
    }


def trace(model, values=None):
    """One execution of a model, at given values of its latent sites, with the log density of each."""
    conditioned = model if values is None else poutine.condition(model, data=values)
    with DrawsImproper():
        executed = poutine.trace(conditioned).get_trace()
    executed.compute_log_prob()
    return executed
