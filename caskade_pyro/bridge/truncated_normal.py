"""The normal distribution between bounds, which neither torch nor Pyro has."""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.utils import broadcast_all

from ..errors import PriorError

__all__ = ["TruncatedNormal"]


class TruncatedNormal(dist.TorchDistribution):
    """A normal distribution restricted to an interval, of which one end may be open.

    Far in the tails it stays exact to rounding, since probabilities are kept as logarithms.

    Args:
        loc: The mean of the normal distribution before it was restricted.
        scale: Its standard deviation.
        low: The lower bound; minus infinity by default.
        high: The upper bound; infinity by default.

    Raises:
        PriorError: A lower bound is not below its upper bound.

    Example:
        >>> import torch
        >>> half = TruncatedNormal(1.0, 0.5, low=0.0)
        >>> half.log_prob(torch.tensor(1.0))
        tensor(-0.2028)
        >>> half.support.check(torch.tensor([-0.1, 0.1]))
        tensor([False,  True])
    """

    arg_constraints = {  # noqa: RUF012 - torch.distributions has it so
        "loc": constraints.real,
        "scale": constraints.positive,
        "low": constraints.dependent,
        "high": constraints.dependent,
    }
    has_rsample = True

    def __init__(
        self,
        loc: Tensor | float,
        scale: Tensor | float,
        low: Tensor | float = -math.inf,
        high: Tensor | float = math.inf,
        validate_args: bool | None = None,
    ) -> None:
        self._open = _is_open(low), _is_open(high)
        self.loc, self.scale, self.low, self.high = broadcast_all(loc, scale, low, high)
        super().__init__(self.loc.shape, validate_args=validate_args)
        if self._validate_args and not bool((self.low < self.high).all()):
            raise PriorError(f"TruncatedNormal: low must be below high everywhere, got low={low}, high={high}.")

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:
        """Where values lie."""
        below, above = self._open
        if below and above:
            return constraints.real
        if above:
            return constraints.greater_than(self.low)
        return constraints.less_than(self.high) if below else constraints.interval(self.low, self.high)

    def expand(self, batch_shape: Any, _instance: Any = None) -> TruncatedNormal:
        """The same with further batch dims."""
        loc, scale, low, high = (one.expand(batch_shape) for one in (self.loc, self.scale, self.low, self.high))
        expanded = TruncatedNormal(loc, scale, low, high, validate_args=False)
        expanded._open = self._open
        return expanded

    def _tails(self) -> tuple[Tensor, Tensor, Tensor]:
        """The bounds in units of the scale, mirrored where they lie above the mean, so that no digits are lost there.

        Returns:
            The lower and the upper bound, and where they are mirrored.
        """
        low = _standardised(self.low, self.loc, self.scale)
        high = _standardised(self.high, self.loc, self.scale)
        mirrored = low > 0
        return torch.where(mirrored, -high, low), torch.where(mirrored, -low, high), mirrored

    def _log_mass(self) -> Tensor:
        """The logarithm of the probability that the whole normal distribution has between the bounds."""
        lower, upper, _ = self._tails()
        above = torch.special.log_ndtr(upper)
        mass: Tensor = above + torch.log1p(-torch.exp(torch.special.log_ndtr(lower) - above))
        return mass

    def log_prob(self, value: Tensor) -> Tensor:
        """The log density; minus infinity outside of the bounds."""
        if self._validate_args:
            self._validate_sample(value)
        density = dist.Normal(self.loc, self.scale, validate_args=False).log_prob(value) - self._log_mass()
        return torch.where((value >= self.low) & (value <= self.high), density, -math.inf)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws by the inverse of the cumulative distribution; differentiable in all parameters."""
        shape = tuple(sample_shape) + tuple(self.batch_shape)
        # In single precision one uniform number in 2^24 is zero, whose quantile may be infinite.
        return self.icdf(torch.rand(shape, dtype=torch.float64, device=self.loc.device))

    def icdf(self, value: Tensor) -> Tensor:
        """The quantile at a probability."""
        lower, upper, mirrored = (one.double() if one.is_floating_point() else one for one in self._tails())
        below, above = _probability(lower), _probability(upper)
        share = torch.where(mirrored, 1 - value.double(), value.double())
        # In double precision 37 standard deviations away there still are probabilities; beyond, all is at the bound.
        standard = torch.special.ndtri(below + share * (above - below))
        standard = torch.maximum(torch.minimum(standard, upper), lower)
        drawn = self.loc + self.scale * torch.where(mirrored, -standard, standard).to(self.loc.dtype)
        return torch.maximum(torch.minimum(drawn, self.high), self.low)

    @property
    def mean(self) -> Tensor:
        """The mean between the bounds."""
        low = _standardised(self.low, self.loc, self.scale)
        high = _standardised(self.high, self.loc, self.scale)
        log_mass = self._log_mass()
        unit = dist.Normal(torch.zeros_like(self.loc), 1.0, validate_args=False)
        edges = (unit.log_prob(low) - log_mass).exp() - (unit.log_prob(high) - log_mass).exp()
        mean: Tensor = self.loc + self.scale * edges
        return mean


FAR = 1e4
"""Standard deviations that stand for infinity, where derivatives would be undefined."""


def _is_open(bound: Tensor | float) -> bool:
    """Whether there is no bound on this side; told by all values, as torch knows no constraint with a bound for some alone.

    Bounds that follow from params are there: a derivative leads to them, and a tracer could not look at their values.
    """
    if not isinstance(bound, Tensor):
        return math.isinf(bound)
    return not bound.requires_grad and bool(torch.isinf(bound).all())


def _probability(standard: Tensor) -> Tensor:
    """Of a lower value; unlike torch's `ndtr` with all digits far below the mean."""
    found: Tensor = 0.5 * torch.special.erfc(-standard / math.sqrt(2))
    return found


def _standardised(bound: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    open_end = torch.isinf(bound)
    finite = (torch.where(open_end, 0.0, bound) - loc) / scale
    return torch.where(open_end, FAR * torch.sign(bound), finite)
