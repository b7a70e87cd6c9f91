"""A Pyro guide as a function of two flat vectors: its own params, and the random numbers that it draws."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions import Independent, MultivariateNormal, Normal, TransformedDistribution
from pyro.distributions.transforms import AffineTransform, LowerCholeskyAffine
from pyro.infer.autoguide import AutoContinuous, AutoGuide
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


class Remembered(Messenger):
    """Normal draws remember the noise that they are made of, so that their log density is that of the noise."""

    def _pyro_sample(self, msg: Any) -> None:
        given = msg["fn"]
        normal = given.base_dist if isinstance(given, Independent) else given
        if type(normal) is Normal:
            transform: Any = AffineTransform(normal.loc, normal.scale, given.event_dim, cache_size=1)
        elif type(normal) is MultivariateNormal:
            transform = LowerCholeskyAffine(normal.loc, normal.scale_tril, cache_size=1)
        else:
            return
        noise = Normal(torch.zeros_like(normal.loc), torch.ones_like(normal.loc)).to_event(given.event_dim)
        msg["fn"] = TransformedDistribution(noise, transform)


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
        # Split all at once: the gradients of slices would each be as long as the vector.
        pieces = params.split([math.prod(slot.shape) for slot in self.slots.values()])
        placed = {name: piece.reshape(self.slots[name].shape) for name, piece in zip(self.slots, pieces, strict=True)}
        # Guides take the params that are constrained from Pyro's store, and the others as any torch module does.
        constrained = {name: transform_to(to)(placed[own]) for name, (own, to) in self.stored.items()}
        with pyro.validation_enabled(False), without_validation():
            with Supplied(noise), Placed(constrained), Remembered():
                trace: Any = poutine.trace(lambda: functional_call(self.guide, placed)).get_trace()
            trace.compute_log_prob()
            draws = self._draws(trace)
            return torch.cat([z.reshape(-1) for z, _ in draws]), -torch.stack(
                [log_density for _, log_density in draws]
            ).sum()

    def pulled(self, vector: Tensor) -> Tensor:
        """A draw's minus log density plus the sum of the draw times weights.

        Its gradient in the weights is the draw. Its gradient in the params, where the weights are the gradient of the model's
        log density at the draw, is the gradient of the ELBO.

        Args:
            vector: The params, the random numbers and the weights, one after the other.
        """
        params, noise, weights = vector.split(self.sizes)
        z, surprise = self.place(params, noise.detach())
        score: Tensor = surprise + (z * weights).sum()
        return score

    def _draws(self, trace: Any) -> list[tuple[Tensor, Tensor]]:
        """Unconstrained draws, one after the other as in the vector, with their log densities.

        Most guides draw so themselves; the way back from constrained values would lose digits.
        """
        nodes, prototype = trace.nodes, self.guide.prototype_trace
        kept = {} if prototype is None else prototype.nodes  # some guides empty it to save memory
        names = tuple(name for name, node in kept.items() if node.get("type") == "sample" and not node["is_observed"])
        if isinstance(self.guide, AutoContinuous) and names == tuple(self.flat.slots):
            return [_draw(node) for node in nodes.values() if node.get("infer", {}).get("is_auxiliary")]
        auxiliary = {name for name, node in nodes.items() if node.get("infer", {}).get("is_auxiliary")}
        separate = auxiliary <= {f"{name}_unconstrained" for name in self.flat.slots}
        found = []
        for name in self.flat.slots:
            if separate and f"{name}_unconstrained" in nodes:
                found.append(_draw(nodes[f"{name}_unconstrained"]))
                continue
            value, log_density = _draw(nodes[name])
            transform = self.flat.fixed[name]
            z = transform.inv(value)
            found.append((z, log_density + transform.log_abs_det_jacobian(z, value).sum()))
        if not separate:  # the density is shared between what sites are made of and the sites
            found[0] = found[0][0], found[0][1] + sum(_draw(nodes[name])[1] for name in auxiliary)
        return found


def _draw(node: Any) -> tuple[Tensor, Tensor]:
    return node["value"], node["log_prob_sum"]


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
