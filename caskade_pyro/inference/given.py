"""Values of params that a prediction is made with: of all members of their plates, or of some."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from ..bridge.bound import BoundModel

__all__ = ["Given"]


@dataclass(frozen=True)
class Given:
    """Values of params.

    Attributes:
        values: By site, ``(draws, *plates, *shape)``.
        known: Of sites whose values are those of some members only, which: a mask over their plates.
    """

    values: Mapping[str, Tensor]
    known: Mapping[str, Tensor]

    def of_draws(self, which: int | slice) -> Given:
        """The values at some draws, or at one, which then has no dim for them."""
        return Given({name: value[which] for name, value in self.values.items()}, self.known)

    @property
    def wholly(self) -> dict[str, Tensor]:
        """The values of those sites that have one for every member."""
        return {name: value for name, value in self.values.items() if name not in self.known}

    def partly(self, bound: BoundModel, draws: tuple[int, ...], padded: bool) -> KeepMembers:
        """What keeps the known members in a run that samples the others; to be entered outside of a trace.

        Args:
            bound: The model.
            draws: The dims of the run in front of all values.
            padded: Whether values have room for all plates of the model.
        """
        kept = {}
        for site in bound.plan.latents:
            if site.name in self.known:
                batch = site.plates.padded(bound.plan.depth) if padded else site.plates.batch_shape
                mask = self.known[site.name].reshape(batch + (1,) * len(site.shape))
                kept[site.name] = mask, self.values[site.name].reshape(draws + batch + site.shape)
        return KeepMembers(kept)


class KeepMembers(Messenger):
    """Puts the known values of some members in the place of what was sampled for them.

    The members of a plate are independent given what lies outside of it, so that the others are draws from their
    population as they are; and what depends on any of them sees the values put here.

    Args:
        kept: By site, which members are known, and values of all.
    """

    def __init__(self, kept: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.kept = kept

    def _pyro_post_sample(self, message: Any) -> None:
        if message["name"] in self.kept:
            known, values = self.kept[message["name"]]
            message["value"] = torch.where(known, values.to(message["value"].dtype), message["value"])
