"""A Pyro guide as a function of two flat vectors: its own params, and the random numbers that it draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions import TransformedDistribution
from pyro.infer.autoguide import AutoContinuous, AutoGuide, AutoMultivariateNormal
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import transform_to
from torch.func import functional_call

from ..density.flat import Flat, Slot
from ..errors import CompilationError
from ..graph.plates.distributions import without_validation
from .noise import Supplied, noise_shapes

__all__ = ["FlatGuide", "make_flat_guide"]


class Placed(Messenger):
    """Gives params of Pyro's param store values from outside."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_param(self, msg: Any) -> None:
        msg["value"] = self.values[msg["name"]]


class Reparametrised(Messenger):
    """Draws from a joint normal remember their noise, so that their density needs no system of equations solved."""

    def __init__(self, guide: Any) -> None:
        super().__init__()
        self.guide = guide

    def _pyro_sample(self, msg: Any) -> None:
        if msg["infer"].get("is_auxiliary") and isinstance(self.guide, AutoMultivariateNormal):
            transform = self.guide.get_transform().with_cache()
            msg["fn"] = TransformedDistribution(self.guide.get_base_dist(), transform)


@dataclass(frozen=True)
class FlatGuide:
    """A guide as a function of flat vectors.

    Attributes:
        guide: The Pyro guide.
        flat: The model that it is a guide of.
        slots: By param of the guide as a torch module, unconstrained, its part of the vector of them.
        stored: By param in Pyro's param store, which it is, and what it is constrained to.
        shapes: Of each lot of standard normal numbers that it draws, the shape, in its order.
        dtype: Its precision.
    """

    guide: AutoGuide
    flat: Flat
    slots: Mapping[str, Slot]
    stored: Mapping[str, tuple[str, Any]]
    shapes: tuple[torch.Size, ...]
    dtype: torch.dtype

    @property
    def sizes(self) -> tuple[int, int, int]:
        """How many numbers its params are, how many it draws, and how many params of the model it describes."""
        params = max((slot.slice.stop for slot in self.slots.values()), default=0)
        return params, sum(shape.numel() for shape in self.shapes), self.flat.dim

    def params(self) -> Tensor:
        """The vector of its params, as they are."""
        parts = [value.detach().reshape(-1) for value in self.guide.parameters()]
        return torch.cat(parts) if parts else torch.empty(0, dtype=self.dtype)

    def keep(self, params: Tensor) -> None:
        """Give it the params of a vector."""
        values = dict(self.guide.named_parameters())
        with torch.no_grad():
            for name, slot in self.slots.items():
                values[name].copy_(slot.of(params))

    def by_pyro(self, model: Any, elbo: Any, noise: Tensor) -> tuple[float, Tensor]:
        """What Pyro finds for the loss and its gradient at the params that the guide has."""
        self.guide.zero_grad()
        with Supplied(noise):
            loss = elbo.loss_and_grads(model, self.guide)
        found = [torch.zeros_like(one) if one.grad is None else one.grad for one in self.guide.parameters()]
        self.guide.zero_grad()
        return loss, torch.cat([one.reshape(-1) for one in found])

    def draw(self, noise: Tensor) -> None:
        """Fill a vector with random numbers: those that the guide would draw next from torch's generator."""
        begin = 0
        for shape in self.shapes:
            noise[begin : begin + shape.numel()].normal_()
            begin += shape.numel()

    def place(self, params: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """A draw from the guide.

        Args:
            params: The vector of its params.
            noise: The random numbers.

        Returns:
            The model's params as a flat, unconstrained vector, and minus their log density under the guide in that space.
        """
        placed = {name: slot.of(params) for name, slot in self.slots.items()}
        # Guides take the params that are constrained from Pyro's store, and the others as any torch module does.
        constrained = {name: transform_to(to)(placed[own]) for name, (own, to) in self.stored.items()}
        with pyro.validation_enabled(False), without_validation():
            with Supplied(noise), Placed(constrained), Reparametrised(self.guide):
                trace: Any = poutine.trace(lambda: functional_call(self.guide, placed)).get_trace()
            values = {name: trace.nodes[name]["value"] for name in self.flat.slots}
            z = self._unconstrained(trace, values)
            jacobian = sum(
                self.flat.fixed[name].log_abs_det_jacobian(slot.of(z), values[name]).sum()
                for name, slot in self.flat.slots.items()
            )
            return z, -trace.log_prob_sum() - jacobian

    def pulled(self, vector: Tensor) -> Tensor:
        """A draw's minus log density plus the sum of the draw times weights.

        Its gradient in the weights is the draw. Its gradient in the params, where the weights are the gradient of the model's
        log density at the draw, is the gradient of the ELBO.

        Args:
            vector: The params, the random numbers and the weights, one after the other.
        """
        params, noise, _ = self.sizes
        z, surprise = self.place(vector[:params], vector[params : params + noise].detach())
        weights = vector[params + noise :]
        return surprise + (z * weights).sum()

    def _unconstrained(self, trace: Any, values: Mapping[str, Tensor]) -> Tensor:
        """The vector of a draw: as the guide drew it where it did, for the way back from constrained values loses digits."""
        names = tuple(self.flat.slots)
        drawn = [node for node in trace.nodes.values() if node["type"] == "sample" and node["infer"].get("is_auxiliary")]
        if isinstance(self.guide, AutoContinuous) and tuple(self.guide.prototype_trace.stochastic_nodes) == names:
            return drawn[0]["value"]  # type: ignore[no-any-return]
        parts = []
        for name in names:
            own = trace.nodes.get(f"{name}_unconstrained")
            parts.append(self.flat.fixed[name].inv(values[name]) if own is None else own["value"])
        return torch.cat([part.reshape(-1) for part in parts])


def make_flat_guide(guide: Any, flat: Flat) -> FlatGuide:
    """Lay the params of a guide out in a vector, and find out what it draws.

    Args:
        guide: The Pyro guide, which has run before.
        flat: The model.

    Raises:
        CompilationError: It is no AutoGuide, or its params are of several precisions or not on the CPU.
    """
    if not isinstance(guide, AutoGuide):
        raise CompilationError("it is no AutoGuide")
    slots: dict[str, Slot] = {}
    begin = 0
    for name, value in guide.named_parameters():
        slots[name] = Slot(slice(begin, begin + value.numel()), tuple(value.shape))
        begin += value.numel()
    kinds = {(value.dtype, value.device.type) for value in guide.parameters()} or {(torch.get_default_dtype(), "cpu")}
    if len(kinds) > 1 or "cpu" not in {device for _, device in kinds}:
        raise CompilationError("its params are of several precisions, or not on the CPU")
    (dtype, _), *_ = kinds
    return FlatGuide(guide, flat, slots, _stored(guide), noise_shapes(guide), dtype)


def _stored(guide: AutoGuide) -> dict[str, tuple[str, Any]]:
    """By param in Pyro's param store, the name that the guide has for it, and its constraint."""
    store = pyro.get_param_store()
    constraints = store.get_state()["constraints"]
    names = {id(value): name for name, value in guide.named_parameters()}
    stored = {name: (names.get(id(value)), constraints[name]) for name, value in store.named_parameters()}
    return {name: (own, constraint) for name, (own, constraint) in stored.items() if own is not None}
