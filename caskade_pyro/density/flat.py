"""A Pyro model as a function of one flat, unconstrained vector.

Every continuous latent site has a slice of the vector. Its value is that slice brought to the support of its prior, as it is
there and then: where the support depends on other params, so does the transform. Pyro's own potential fixes the
transforms at the first point, which gives another posterior for such priors.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer import config_enumerate
from pyro.infer.mcmc.util import TraceEinsumEvaluator
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import biject_to

from ..bridge.distributions import NotFactorisedError
from ..bridge.randomness import own_numbers
from ..bridge.reached import how_to_reach
from ..errors import SamplingError
from ..graph.plates.distributions import without_validation
from .closeness import first_line

__all__ = ["Flat", "Slot", "make_flat"]

Model = Callable[[], Any]

TRIES = 50
"""Draws from the priors until one is found at which the simulator runs."""


@dataclass(frozen=True)
class Slot:
    """Where a site stands in the flat vector.

    Attributes:
        slice: Its part of the vector.
        shape: The shape of its unconstrained value: Pyro's batch dims, then the event dims.
    """

    slice: slice
    shape: tuple[int, ...]

    def of(self, z: Tensor) -> Tensor:
        """The unconstrained value of the site; dims in front of the vector's stay in front."""
        return z[..., self.slice].reshape(z.shape[:-1] + self.shape)


class FromFlat(Messenger):
    """Gives latent sites their values from a flat vector and adds up the log Jacobians of the transforms."""

    def __init__(self, slots: Mapping[str, Slot], fixed: Mapping[str, Any], z: Tensor) -> None:
        super().__init__()
        self.slots, self.fixed, self.z = slots, fixed, z
        self.log_jacobian: Tensor = z.new_zeros(())

    def _pyro_sample(self, msg: Any) -> None:
        slot = self.slots.get(msg["name"])
        if slot is None or msg["is_observed"]:
            return
        transform = self.fixed.get(msg["name"]) or biject_to(msg["fn"].support)
        unconstrained = slot.of(self.z)
        msg["value"] = transform(unconstrained)
        self.log_jacobian = self.log_jacobian + transform.log_abs_det_jacobian(unconstrained, msg["value"]).sum()


@dataclass(frozen=True)
class Flat:
    """A model as a function of a flat vector.

    Attributes:
        model: The Pyro model, of no arguments.
        slots: By sampled site, its part of the vector.
        dim: The length of the vector.
        evaluator: Sums the log density of a trace, discrete sites summed out.
        fixed: By sampled site, the transform from unconstrained values to its support, where that depends on no param.
        dtype: The precision of the log density, and so of the vector: double where any of the priors, inputs or data are.
    """

    model: Model
    slots: Mapping[str, Slot]
    dim: int
    evaluator: Any
    fixed: Mapping[str, Any]
    dtype: torch.dtype

    def log_density(self, z: Tensor) -> Tensor:
        """The log density of the model at a vector, with the Jacobian of the transforms."""
        with pyro.validation_enabled(False), without_validation():
            values = FromFlat(self.slots, self.fixed, z)
            trace = _in_one_precision(poutine.trace(values(self.model)).get_trace(), self.evaluator)
            # A guide in single precision may ask for the density of a model that is in double.
            value: Tensor = (self.evaluator.log_prob(trace) + values.log_jacobian).to(z.dtype)
            return value

    def sampled(self, z: Tensor) -> dict[str, Tensor]:
        """The values of the sampled sites at each of the vectors ``(n, dim)``."""
        if len(self.fixed) == len(self.slots):
            return {name: self.fixed[name](slot.of(z)) for name, slot in self.slots.items()}

        def of_one(row: Tensor) -> dict[str, Tensor]:
            with poutine.block():
                trace: Any = poutine.trace(FromFlat(self.slots, self.fixed, row)(self.model)).get_trace()
            return {name: trace.nodes[name]["value"] for name in self.slots}

        with pyro.validation_enabled(False), without_validation(), torch.no_grad():
            return torch.vmap(of_one)(z)

    def from_sampled(self, values: Mapping[str, Tensor]) -> Tensor:
        """The vectors ``(n, dim)`` at which the sampled sites have these values, ``n`` of each."""
        if len(self.fixed) == len(self.slots):
            parts = [self.fixed[name].inv(values[name]) for name in self.slots]
            return torch.cat([part.reshape(part.shape[0], -1) for part in parts], dim=1).to(self.dtype)
        count = len(next(iter(values.values())))
        return torch.stack([self.at_values({name: value[i] for name, value in values.items()}) for i in range(count)])

    def at_values(self, values: Mapping[str, Tensor]) -> Tensor:
        """The vector that gives the sampled sites these values."""
        with pyro.validation_enabled(False), without_validation(), torch.no_grad(), poutine.block():
            conditioned = poutine.condition(self.model, data=dict(values))
            return self.vector(poutine.trace(conditioned).get_trace())

    def vector(self, trace: Any) -> Tensor:
        """The vector that gives the sampled sites the values of a trace."""
        nodes = [trace.nodes[name] for name in self.slots]
        parts = [biject_to(node["fn"].support).inv(node["value"].detach()).reshape(-1) for node in nodes]
        return torch.cat(parts).to(self.dtype)


def make_flat(model: Model) -> Flat:
    """Find the continuous latent sites of a model and lay them out in a vector, in the order in which it samples them."""
    with own_numbers(0), torch.no_grad(), poutine.block(), pyro.validation_enabled(False):
        plates = _plate_nesting(_possible_trace(model))
        # Discrete sites are enumerated in parallel, as Pyro's own samplers do; without any this changes nothing.
        enumerated = poutine.enum(config_enumerate(model), first_available_dim=-1 - plates)
        trace, another = (_possible_trace(enumerated) for _ in range(2))
    latent = {name: node for name, node in trace.iter_stochastic_nodes() if type(node["fn"]).__name__ != "_Subsample"}
    sampled = {name: node for name, node in latent.items() if not node["fn"].has_enumerate_support}
    slots: dict[str, Slot] = {}
    start = 0
    for name, node in sampled.items():
        unconstrained = _to_support(name, node["fn"]).inv(node["value"])
        slots[name] = Slot(slice(start, start + unconstrained.numel()), tuple(unconstrained.shape))
        start += unconstrained.numel()
    discrete = len(sampled) < len(latent)
    # Data may be impossible for some values of a discrete site: a count for a smaller number of individuals.
    with torch.no_grad(), pyro.validation_enabled(False), without_validation():
        evaluator = TraceEinsumEvaluator(trace, discrete, plates)
        dtype = torch.promote_types(evaluator.log_prob(_in_one_precision(trace, evaluator)).dtype, _widest(trace))
    return Flat(
        enumerated if discrete else model, slots, start, evaluator, _fixed_transforms(slots, trace, another), dtype
    )


def _in_one_precision(trace: Any, evaluator: Any) -> Any:
    """A trace whose log densities can be multiplied where discrete sites are summed out; torch refuses mixed dtypes."""
    if evaluator.has_enumerable_sites:
        trace.compute_log_prob()
        nodes = [node for node in trace.nodes.values() if node["type"] == "sample" and "log_prob" in node]
        widest = functools.reduce(torch.promote_types, (node["log_prob"].dtype for node in nodes), torch.float32)
        for node in nodes:
            node["log_prob"] = node["log_prob"].to(widest)
    return trace


def _widest(trace: Any) -> torch.dtype:
    """The precision that holds the values of all sites, and the data."""
    values = [node["value"] for node in trace.nodes.values() if node["type"] == "sample"]
    kinds = (value.dtype for value in values if isinstance(value, Tensor) and value.is_floating_point())
    return functools.reduce(torch.promote_types, kinds, torch.float32)


def _possible_trace(model: Model) -> Any:
    """A run of a model at a draw from its priors at which its matrices can be factorised.

    Raises:
        SamplingError: There is none among many.
    """
    for _ in range(TRIES):
        try:
            return poutine.trace(model).get_trace()
        except NotFactorisedError as error:
            last = error
    raise SamplingError(
        f"The simulator fails at each of {TRIES} draws from the priors: {first_line(last)} Add a small number to the diagonal "
        "of the matrix, take double precision, or draw the priors in."
    )


def _to_support(name: str, prior: Any) -> Any:
    """The map from the real line to where a prior has its values.

    Raises:
        SamplingError: There is none.
    """
    try:
        return biject_to(prior.support)
    except NotImplementedError as error:
        raise SamplingError(
            f"Site {name} cannot be sampled: its prior {type(prior).__name__} has values that no map of the real line "
            f"reaches ({first_line(error)}). Take a prior on an interval, or one of positive or of all numbers; or "
            f"{how_to_reach(prior.support)}."
        ) from error


def _fixed_transforms(slots: Mapping[str, Slot], trace: Any, another: Any) -> dict[str, Any]:
    """The transforms that are the same for other values of the params."""
    transforms = {}
    for name, slot in slots.items():
        here, there = (biject_to(one.nodes[name]["fn"].support) for one in (trace, another))
        point = torch.full(slot.shape, 0.3, device=trace.nodes[name]["value"].device)
        if torch.equal(here(point), there(point)):
            transforms[name] = here
    return transforms


def _plate_nesting(trace: Any) -> int:
    dims = [
        frame.dim
        for node in trace.nodes.values()
        if node["type"] == "sample"
        for frame in node["cond_indep_stack"]
        if frame.vectorized
    ]
    return -min(dims, default=0)
