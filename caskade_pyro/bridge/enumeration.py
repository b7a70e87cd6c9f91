"""Discrete params: summed out of the density, and drawn afterwards given everything else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pyro
import torch
from pyro import poutine
from pyro.infer import config_enumerate, infer_discrete
from torch import Tensor

from ..errors import SamplingError
from ..graph.nodes.shapes import show
from ..graph.plates.distributions import without_validation
from .many import DRAWS, chunks
from .reparametrise import NonCentered
from .separable import check_separable

if TYPE_CHECKING:
    from .bound import BoundModel

__all__ = ["check_enumerable", "draw_discrete", "enumerated"]


def check_enumerable(bound: BoundModel) -> None:
    """Check that the discrete params can be summed out.

    Each takes few values, the simulator can try all of them, and those of one member of a plate do not matter to others.

    Raises:
        SamplingError: It is not so.
    """
    inner = [one for one in bound.plan.latent_inner if getattr(one.distribution.support, "is_discrete", False)]
    discrete = [(site.name, site.template) for site in bound.discrete] + [(one.name, one.distribution) for one in inner]
    infinite = [name for name, distribution in discrete if not distribution.has_enumerate_support]
    if infinite:
        raise SamplingError(
            f"NUTS and variational fits follow gradients and cannot sample the discrete {', '.join(infinite)}, whose values "
            "are too many to be summed over. Give a prior with a bound, such as dist.Categorical(logits=...) of the numbers "
            "from 0 on; sum them out in the likelihood; or fix them with to_static(value)."
        )
    several = [site for site in bound.discrete if site.fit.own_batch]
    if several:
        raise SamplingError(
            f"The discrete {several[0].name} has shape {show(several[0].shape)}: several values, which cannot be summed out "
            "one by one. Make it a param of shape () of a module that is linked with hierarchical_link(..., size=n), or fix it "
            "with to_static(value)."
        )
    if bound.discrete and bound.plan.inner:
        names = ", ".join(site.name for site in bound.discrete)
        raise SamplingError(
            f"The discrete {names} cannot be summed out: the simulator would run for all their values side by side, but it "
            f"samples {', '.join(one.name for one in bound.plan.inner)} itself. Make these dynamic params with priors, or fix "
            "the discrete ones with to_static(value)."
        )
    check_separable(bound)


def enumerated(bound: BoundModel, model: Callable[[], Any]) -> Callable[[], Any]:
    """A model whose discrete sites Pyro enumerates side by side; the model itself where there are none."""
    if not bound.has_discrete:
        return model
    found: Callable[[], Any] = config_enumerate(model, "parallel")
    return found


def draw_discrete(bound: BoundModel, sampled: Mapping[str, Tensor], noncentered: NonCentered) -> dict[str, Tensor]:
    """Draw the discrete params from their distribution given the data and what was sampled.

    Args:
        bound: The model.
        sampled: By sampled site, ``(draws, *Pyro's batch dims, *shape)``.
        noncentered: Which sites were sampled as offsets.

    Returns:
        By discrete site, ``(draws, *Pyro's batch dims, *shape)``; empty where there are none.
    """
    plan = bound.plan
    if not bound.discrete:
        return {}
    draws = next(iter(sampled.values())).shape[0]
    padded = _with_room(bound, sampled, noncentered)
    model = bound.noncentered(noncentered)
    found: dict[str, list[Tensor]] = {site.name: [] for site in bound.discrete}
    for part in chunks(plan, draws, None):
        values = {name: value[part.start : part.stop] for name, value in padded.items()}
        trace = _trace_with_discrete(model, values, len(part), plan.nesting)
        for site in bound.discrete:
            shape = (len(part), *site.plates.batch_shape, *site.shape)
            found[site.name].append(trace.nodes[site.name]["value"].reshape(shape))
    return {name: torch.cat(values) for name, values in found.items()}


def _trace_with_discrete(model: Callable[[], Any], values: dict[str, Tensor], draws: int, nesting: int) -> Any:
    """A trace of many runs side by side, in which the discrete sites are drawn given all others."""

    def many() -> None:
        with pyro.plate(DRAWS, draws, dim=-nesting - 1):
            model()

    # Data may be impossible for some of the values, as a count is for a smaller number of individuals.
    with torch.no_grad(), pyro.validation_enabled(False), without_validation():
        drawn = infer_discrete(poutine.condition(many, data=values), first_available_dim=-nesting - 2, temperature=1)
        return poutine.trace(drawn).get_trace()


def _with_room(bound: BoundModel, sampled: Mapping[str, Tensor], noncentered: NonCentered) -> dict[str, Tensor]:
    """What was sampled, with room for all plates between the draws and the dims of each site's plates."""
    plan, decisions = bound.plan, bound.decisions(noncentered)
    found = dict(sampled)
    for site in plan.sites:
        decision = decisions[site.name]
        if decision.sampled_as in sampled:
            value = sampled[decision.sampled_as]
            own = site.shape if decision.circle is None else (*site.shape, 2)
            found[decision.sampled_as] = value.reshape((value.shape[0], *site.plates.padded(plan.nesting), *own))
    return found
