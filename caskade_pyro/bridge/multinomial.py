"""Counts in categories whose totals differ from row to row, which torch and Pyro can weigh but not draw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.distribution import COERCIONS
from torch import Tensor
from torch.distributions import Categorical, constraints

from ..errors import ObservationError
from .distributions import base_of, to_pyro

__all__ = ["DirichletMultinomial", "Multinomial", "check_totals", "has_free_totals", "with_totals_of"]


class CountsOf(constraints.Constraint):
    """Whole numbers, none negative, that sum to a total.

    Args:
        total_count: The total.
    """

    is_discrete = True
    event_dim = 1

    def __init__(self, total_count: Tensor) -> None:
        self.total_count = total_count
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        """Whether counts are so, over the dims in front of the categories."""
        whole: Tensor = ((value >= 0) & (value == value.round())).all(-1)
        return whole & (value.sum(-1) == self.total_count)


class Multinomial(dist.TorchDistribution):
    """Counts in categories, of totals that may differ between observations.

    Within a model Pyro's own ``dist.Multinomial``, given a tensor of totals, becomes this one.

    Args:
        total_count: How many things were counted in each observation, of the batch shape or one number for all.
        probs: The probability of each category, along the last dim; or in proportion to them.
        logits: Their logarithms, in place of them.

    Raises:
        ValueError: Neither or both of ``probs`` and ``logits`` are given, or a total is no count.

    Example:
        >>> import caskade_pyro as ck, torch
        >>> counts = ck.Multinomial(torch.tensor([5.0, 50.0]), probs=torch.tensor([0.2, 0.3, 0.5]))
        >>> counts.sample().sum(-1)
        tensor([ 5., 50.])
    """

    arg_constraints = {  # noqa: RUF012 - torch.distributions has it so
        "total_count": constraints.nonnegative_integer,
        "probs": constraints.simplex,
        "logits": constraints.real_vector,
    }

    def __init__(
        self,
        total_count: Tensor | int,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        self._given = "logits" if probs is None else "probs"
        self._categorical: Any = Categorical(probs=probs, logits=logits, validate_args=validate_args)
        total = torch.as_tensor(total_count, device=self._categorical._param.device)
        batch = torch.broadcast_shapes(total.shape, self._categorical.batch_shape)
        self._categorical = self._categorical.expand(batch)
        self.total_count = total.to(self._categorical._param.dtype).expand(batch)
        super().__init__(batch, self._categorical.param_shape[-1:], validate_args=validate_args)

    @property
    def probs(self) -> Tensor:
        """The probability of each category."""
        found: Tensor = self._categorical.probs
        return found

    @property
    def logits(self) -> Tensor:
        """The logarithms of the probabilities."""
        found: Tensor = self._categorical.logits
        return found

    @property
    def _param(self) -> Tensor:
        found: Tensor = self._categorical._param
        return found

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> Any:
        """Where values lie."""
        return CountsOf(self.total_count)

    @property
    def mean(self) -> Tensor:
        """The mean counts."""
        return self.total_count[..., None] * self.probs

    @property
    def variance(self) -> Tensor:
        """The variance of each count."""
        return self.mean * (1 - self.probs)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Multinomial:
        """The same with further batch dims."""
        param = {self._given: self._param.expand(torch.Size(batch_shape) + self.event_shape)}
        return Multinomial(self.total_count.expand(batch_shape), **param, validate_args=False)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Counts of each row's own total: each category takes its share of what the former ones have left."""
        probs = self.probs.expand(torch.Size(sample_shape) + self.batch_shape + self.event_shape).double()
        return counts_of(self.total_count, probs).to(self.probs.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """The log probability of counts, given their total."""
        if self._validate_args:
            self._validate_sample(value)
        # What has no probability and no counts adds nothing.
        logits = torch.where((value == 0) & torch.isinf(self.logits), 0.0, self.logits)
        found: Tensor = torch.lgamma(value.sum(-1) + 1) - torch.lgamma(value + 1).sum(-1) + (logits * value).sum(-1)
        return found


def counts_of(total_count: Tensor, probs: Tensor) -> Tensor:
    """Draw counts in categories, the last dim of their probabilities, of totals over the dims in front."""
    left = total_count.to(probs.dtype).expand(probs.shape[:-1])
    share = probs / probs.flip(-1).cumsum(-1).flip(-1)  # of a category among itself and those behind it
    share = torch.nan_to_num(share, nan=0.0).clamp(0.0, 1.0)
    found = []
    for category in range(probs.shape[-1] - 1):
        found.append(torch.binomial(left.contiguous(), share[..., category].contiguous()))
        left = left - found[-1]
    return torch.stack([*found, left], -1)


class DirichletMultinomial(dist.DirichletMultinomial):
    """Pyro's distribution of this name, which also draws where totals differ between observations."""

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Counts of each row's own total."""
        probs = self._dirichlet.sample(torch.Size(sample_shape))
        return counts_of(self.total_count, probs.double()).to(probs.dtype)

    def expand(self, batch_shape: Any, _instance: Any = None) -> DirichletMultinomial:
        """The same with further batch dims."""
        concentration = self.concentration.expand(torch.Size(batch_shape) + self.event_shape)
        made: DirichletMultinomial = _dirichlet_multinomial(
            concentration, self.total_count.expand(batch_shape), self.is_sparse, False
        )
        return made


_dirichlet_multinomial: Any = DirichletMultinomial  # Pyro has its constructor untyped


def _with_totals(cls: type, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What is made in place of a distribution of Pyro that does not take, or cannot draw, totals that differ."""
    if cls not in (dist.Multinomial, dist.DirichletMultinomial):
        return None
    place = 0 if cls is dist.Multinomial else 1
    total = args[place] if len(args) > place else kwargs.get("total_count")
    if not isinstance(total, Tensor):
        return None
    return Multinomial(*args, **kwargs) if cls is dist.Multinomial else _dirichlet_multinomial(*args, **kwargs)


# Pyro asks this list whenever one of its distributions is made; without it the first of them raises an error.
COERCIONS.append(_with_totals)


# Data


def has_free_totals(distribution: Any) -> bool:
    """Whether one total was given for all rows and its check switched off, so that the rows are free to have their own."""
    base = base_of(distribution)
    if not _counts_categories(base) or vars(base).get("_validate_args", True):
        return False
    total = torch.as_tensor(base.total_count)
    return bool((total == total.reshape(-1)[:1]).all())


def check_totals(name: str, distribution: Any, data: Tensor) -> None:
    """Check that the counts of each row sum to the total that their distribution has.

    Raises:
        ObservationError: They do not; predictions would have other totals than the data.
    """
    base = base_of(distribution)
    if not _counts_categories(base):
        return
    rows = data.sum(-1)
    totals = torch.as_tensor(base.total_count, dtype=rows.dtype, device=rows.device).expand(rows.shape)
    wrong = (rows != totals) & ~torch.isnan(rows)
    if bool(wrong.any()):
        at = tuple(wrong.nonzero()[0].tolist())
        where = f" at index {at}" if at else ""
        raise ObservationError(
            f"The counts of {name!r}{where} sum to {rows[at].item():g}, but the {type(base).__name__} that is to explain them "
            f"has total_count {totals[at].item():g} there. Give each row its own total, as a tensor: "
            f"{_named(base)}(total_count=counts.sum(-1), ...)."
        )


def with_totals_of(distribution: Any, counts: Tensor) -> Any:
    """A distribution of counts in categories with the totals of some data, in the shape of its draws."""
    base: Any = base_of(distribution)
    total = counts.sum(-1)
    made: Any
    if isinstance(base, dist.DirichletMultinomial):
        made = _dirichlet_multinomial(base.concentration, total.to(base.concentration), base.is_sparse, False)
    else:
        made = Multinomial(total, logits=base.logits, validate_args=False)
    own = len(distribution.event_shape) - 1
    return to_pyro(made.to_event(own) if own else made)


def _counts_categories(base: Any) -> bool:
    return isinstance(base, (torch.distributions.Multinomial, Multinomial, dist.DirichletMultinomial))


def _named(base: Any) -> str:
    return "dist.DirichletMultinomial" if isinstance(base, dist.DirichletMultinomial) else "ck.Multinomial"
