"""Whether the members of a plate can be summed over one by one: a check by trying."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyro
import torch
from pyro import poutine
from pyro.infer import config_enumerate
from torch import Tensor

from ..graph.plates.distributions import without_validation
from .improper import BeginSomewhere
from .randomness import own_numbers
from .summed import not_summable

if TYPE_CHECKING:
    from .bound import BoundModel

__all__ = ["check_separable"]

TRIES = 3
"""So many draws from the priors are tried; at one of them, members could happen to make no difference to others."""

TOLERANCE = 1e-4
"""Two forms of one log density differ by rounding, in single precision and after sums over an observation."""


def check_separable(bound: BoundModel) -> None:
    """Check that what is found for each value of a discrete param, all members having it, holds for members that differ.

    Pyro sums each member of a plate out by itself. That is wrong where the prediction for one member depends on others (on
    its neighbours, on their number), which shows nowhere: hence this trial, at values drawn from the priors.

    Raises:
        SamplingError: A member depends on the discrete params of others.
    """
    if not any(site.plates.names for site in bound.discrete):
        return
    whole = bound.whole()
    with own_numbers(0), torch.no_grad(), poutine.block(), BeginSomewhere(), pyro.validation_enabled(False):
        for _ in range(TRIES):
            with without_validation():
                _try(whole)


def _try(bound: BoundModel) -> None:
    sites = {site.name: site for site in bound.discrete}
    latent = _sampled(poutine.trace(bound.latents).get_trace())
    given = {name: node["value"] for name, node in latent.items() if name not in sites}
    first = -1 - bound.plan.nesting
    enumerated = poutine.enum(config_enumerate(bound.joint, "parallel"), first_available_dim=first)
    table = _sampled(poutine.trace(poutine.condition(enumerated, given)).get_trace())
    chosen, rows = {}, {}
    for name, site in sites.items():
        supported = table[name]["value"].reshape(-1, *site.shape)
        picked = torch.randint(len(supported), site.plates.batch_shape, device=supported.device)
        chosen[name], rows[table[name]["infer"]["_enumerate_dim"]] = supported[picked], (picked, site)
    found = _sampled(poutine.trace(poutine.condition(bound.joint, given | chosen)).get_trace())
    for name, node in found.items():
        looked_up = table[name]["fn"].log_prob(table[name]["value"])
        depends = [site for dim, (_, site) in rows.items() if looked_up.ndim >= -dim and looked_up.shape[dim] > 1]
        for dim, (picked, _) in rows.items():
            looked_up = _look_up(looked_up, dim, picked)
        if depends and not _agree(looked_up, node["fn"].log_prob(node["value"])):
            because = f"{name} depends for one member on the {' and '.join(site.name for site in depends)} of others"
            raise not_summable(depends[0], name, because)


def _sampled(trace: Any) -> dict[str, Any]:
    nodes = trace.nodes.items()
    return {n: node for n, node in nodes if node["type"] == "sample" and not node["infer"].get("_deterministic")}


def _look_up(table: Tensor, dim: int, picked: Tensor) -> Tensor:
    """The entries of a table at the values picked for each member, which one of its dims counts."""
    if table.ndim < -dim or table.shape[dim] == 1:
        return table
    picked = picked.reshape((1,) * (table.ndim - picked.ndim) + tuple(picked.shape))
    return table.take_along_dim(picked, dim)


def _agree(one: Tensor, other: Tensor) -> bool:
    shape = torch.broadcast_shapes(one.shape, other.shape)
    return torch.allclose(one.expand(shape), other.expand(shape), rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
