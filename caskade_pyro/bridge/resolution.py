"""Whether single precision resolves what it holds: how far apart its numbers lie, beside the scales that matter.

Single precision has seven digits. Julian dates, unix times or coordinates in metres have more, and what is rounded there
gives a posterior that looks fine and lies elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributions import Distribution, LogNormal, MixtureSameFamily

from .distributions import base_of
from .plan import Plan, Site
from .precision import given_prior, tensors_of

if TYPE_CHECKING:
    from .bound import BoundModel

__all__ = ["IN_DOUBLE", "lost_in_data", "roundings", "scale_of", "share_lost", "too_coarse"]

COARSE = 0.01
"""Numbers that lie further apart than this, in units of the scale beside them, are too coarse."""

IN_DOUBLE = "call torch.set_default_dtype(torch.float64) before the model is built"
"""How a whole model comes into double precision."""

EXACT = 2**24
"""Up to here single precision holds every integer."""


def scale_of(distribution: Distribution) -> Tensor | None:
    """How widely single values of a distribution scatter, given the others; None where that cannot be told."""
    base: Any = base_of(distribution)
    if isinstance(base, MixtureSameFamily):
        inner = scale_of(base.component_distribution)
        components = inner is not None and inner.ndim > len(base.batch_shape)
        return inner.amin(len(base.batch_shape)) if inner is not None and components else inner
    if isinstance(getattr(base, "scale_tril", None), Tensor) and base.event_shape:
        found: Tensor = base.scale_tril.diagonal(dim1=-2, dim2=-1)
        return found
    if isinstance(getattr(base, "cov_diag", None), Tensor):
        return torch.sqrt(base.cov_diag)
    own = getattr(base, "scale", None)
    if isinstance(own, Tensor):  # for a lognormal one that of the logarithm
        return own
    try:
        spread: Tensor = base.stddev
    except (NotImplementedError, AttributeError):
        return None
    return spread


def share_lost(values: Tensor, scale: Tensor) -> tuple[float, float, float]:
    """How far apart numbers of single precision lie where the values are, in units of the scale, at its largest.

    Returns:
        The share, the distance and the value there; zeros where nothing can be told.
    """
    with torch.no_grad():
        single = values.detach().float()
        apart = torch.nextafter(single.abs(), torch.full_like(single, torch.inf)) - single.abs()
        try:
            share, apart, single = torch.broadcast_tensors(apart.double() / scale.detach().double(), apart, single)
        except RuntimeError:
            return 0.0, 0.0, 0.0
        share = torch.where(torch.isfinite(share) & torch.isfinite(single), share, 0.0)
        if share.numel() == 0:
            return 0.0, 0.0, 0.0
        at = int(share.argmax())
        return float(share.reshape(-1)[at]), float(apart.reshape(-1)[at]), float(single.reshape(-1)[at])


def too_coarse(share: float) -> bool:
    """Whether so large a share of a scale is lost that it shows."""
    return share > COARSE


def roundings(bound: BoundModel) -> list[str]:
    """What single precision rounds too coarsely in a model with its data, a message for each."""
    plan = bound.plan
    return [*_of_data(plan, bound.data), *plan.coarse, *_of_priors(plan, bound.model.priors)]


def _of_data(plan: Plan, data: dict[str, Tensor]) -> Iterator[str]:
    for name, given in data.items():
        scale = plan.observations[name].fixed_scale
        message = None if scale is None else lost_in_data(plan, name, given, scale)
        if message is not None:
            yield message


def lost_in_data(plan: Plan, name: str, given: Tensor, scale: Tensor) -> str | None:
    """What is lost of data at a scale of their likelihood; None where that is little."""
    support = plan.observations[name].distribution.support
    if given.dtype == torch.float64 or (getattr(support, "is_discrete", False) and float(given.abs().max()) < EXACT):
        return None
    if isinstance(base_of(plan.observations[name].distribution), LogNormal):
        scale = scale.to(given.device) * given.abs()
    share, apart, value = share_lost(given, scale)
    if not too_coarse(share):
        return None
    told = "" if plan.layout.double else f", and the whole model in double precision: {IN_DOUBLE}"
    return (
        f"The data of {name!r} are in single precision (float32), whose numbers lie {apart:.2g} apart at {value:.9g}: "
        f"{share:.2g} times the scale of the {type(base_of(plan.observations[name].distribution)).__name__} that is to explain "
        "them, so the posterior will be wrong. Give them in double precision, as numpy, lists of numbers or "
        f"torch.tensor(..., dtype=torch.float64) are{told}; or subtract a constant first, in double precision."
    )


def _of_priors(plan: Plan, overrides: Any) -> Iterator[str]:
    for site in plan.sites:
        given = given_prior(site.source.placement, overrides)
        if site.source.prior.parents or (plan.layout.double and not _holds_single(given)) or site.discrete:
            continue
        share, apart, value = _lost_in_prior(site)
        if not too_coarse(share):
            continue
        kind = type(base_of(site.template)).__name__
        cure = f"ck.prior(dist.{kind}, ...) with numbers of Python, or a distribution of tensors in double precision"
        yield (
            f"The prior {site.source.prior} of param {site.name} is in single precision (float32), whose numbers lie "
            f"{apart:.2g} apart at {value:.9g}: {share:.2g} times its scale, so it is not the one that was written. "
            + (
                f"Give {cure}."
                if plan.layout.double
                else f"Take double precision: {IN_DOUBLE}; or give tensors of torch.float64."
            )
        )


def _holds_single(prior: Any) -> bool:
    parts = (getattr(prior, "fixed", prior), getattr(prior, "args", ()), dict(getattr(prior, "kwargs", {})))
    return any(tensor.dtype != torch.float64 for tensor in tensors_of(parts))


def _lost_in_prior(site: Site) -> tuple[float, float, float]:
    base: Any = base_of(site.template)
    loc, scale = getattr(base, "loc", None), getattr(base, "scale", None)
    if not isinstance(loc, Tensor) or not isinstance(scale, Tensor):
        try:
            loc, scale = base.mean, base.stddev
        except (NotImplementedError, AttributeError):
            return 0.0, 0.0, 0.0
    return share_lost(loc, scale)
