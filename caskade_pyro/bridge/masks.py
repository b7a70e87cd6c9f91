"""Entries of the data that a distribution's own masks leave out."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MixtureSameFamily

from ..graph.plates.distributions import Parts, parts

__all__ = ["entries_left", "observations_left"]


@parts.register
def _(distribution: dist.MaskedDistribution) -> Parts:
    base, mask = parts(distribution.base_dist), distribution._mask
    if isinstance(mask, bool):
        return Parts(base.tensors, lambda values: dist.MaskedDistribution(base.rebuild(values), mask))
    tensors = (mask.expand(distribution.batch_shape), *base.tensors)
    return Parts(tensors, lambda values: dist.MaskedDistribution(base.rebuild(values[1:]), values[0]))


def entries_left(distribution: Distribution) -> Tensor | None:
    """Which entries of the data have a part in a log density.

    Args:
        distribution: One that was masked with ``.mask(...)``, at any level, or not.

    Returns:
        A mask that broadcasts to the batch shape and the event shape behind it; None where nothing is masked.
    """
    if isinstance(distribution, Independent):
        return entries_left(distribution.base_dist)
    batch = tuple(distribution.batch_shape)
    if isinstance(distribution, MixtureSameFamily):
        components = entries_left(distribution.component_distribution)
        return None if components is None else components.any(len(batch))
    if not isinstance(distribution, (dist.MaskedDistribution, dist.ExpandedDistribution)):
        return None
    base = distribution.base_dist
    inner = entries_left(base)
    if inner is not None:
        inner = inner.expand(batch + tuple(inner.shape[len(base.batch_shape) :]))
    mask = getattr(distribution, "_mask", True)
    if mask is True:
        return inner
    own = torch.as_tensor(mask).expand(batch).reshape(batch + (1,) * len(distribution.event_shape))
    return own if inner is None else own & inner


def observations_left(distribution: Distribution) -> Tensor | None:
    """Which single observations have a part in a log density, over the batch shape; None where nothing is masked.

    One of several components is left as long as one of them is.
    """
    left = entries_left(distribution)
    if left is None:
        return None
    return left.flatten(len(distribution.batch_shape)).any(-1) if distribution.event_shape else left
