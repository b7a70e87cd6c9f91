"""The priors of a model, for all members of all plates, tried before any run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyro
import torch
from pyro import poutine

from ..graph.plates.subsample import Picks
from .randomness import own_numbers
from .run import Run

if TYPE_CHECKING:
    from .plan import Plan
    from .simulate import Values

__all__ = ["rehearse"]


def rehearse(plan: Plan, values: Values) -> None:
    """Build the distributions of all sites as a run of the model does, so that what does not fit shows when it is bound.

    Args:
        plan: What is known of the model.
        values: The values that the params have in this run, the same for all members.

    Raises:
        PriorError: Arguments of a prior do not fit the plates of its param.
    """
    given = {}
    for site in plan.sites:
        value = values[site.source.placement.param]
        given[site.name] = value.detach().reshape(site.plates.batch_shape + site.shape)
    with own_numbers(0), torch.no_grad(), poutine.block():
        plates = {name: pyro.plate(name, size, dim=plan.dims[name]) for name, size in plan.sizes.items()}
        run = Run(plan, plates, Picks())
        poutine.condition(run.sample, data=given)()
