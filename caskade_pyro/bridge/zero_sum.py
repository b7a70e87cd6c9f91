"""Normal distributions of effects that sum to zero, as deviations from a common mean do."""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Transform, biject_to, constraints, transform_to

from ..errors import PriorError

__all__ = ["ZeroSumNormal"]

ROUNDING = 1e-4
"""So far from zero a sum may be, relative to the largest value."""


class ZeroSum(constraints.Constraint):
    """Values that sum to zero along each of the last dims.

    Args:
        dims: How many dims these are.
    """

    is_discrete = False

    def __init__(self, dims: int) -> None:
        self.dims = dims
        super().__init__()

    @property
    def event_dim(self) -> int:  # type: ignore[override] # torch has a number here
        """How many dims belong to one value."""
        return self.dims

    def check(self, value: Tensor) -> Tensor:
        """Whether values are so, over the dims in front."""
        near = ROUNDING * (value.abs().flatten(-self.dims).amax(-1) + torch.finfo(value.dtype).tiny)
        sums = [
            value.sum(dim).abs().flatten(1 - self.dims).amax(-1) if self.dims > 1 else value.sum(dim).abs()
            for dim in self._axes
        ]
        return torch.stack([one <= near * value.shape[dim] for one, dim in zip(sums, self._axes, strict=True)]).all(0)

    @property
    def _axes(self) -> range:
        return range(-self.dims, 0)

    def __repr__(self) -> str:
        return "sums to zero"


class OntoZeroSum(Transform):
    """From values without restraint, one fewer along each dim, to values that sum to zero; distances stay what they are.

    Along a dim of n values, n - 1 numbers and a zero are reflected by the Householder reflection that takes the last axis to
    the diagonal, on which all values are the same: what had no part along that axis has then no part along the diagonal.

    Args:
        dims: How many of the last dims sum to zero.
    """

    bijective = True

    def __init__(self, dims: int, cache_size: int = 0) -> None:
        self.dims = dims
        super().__init__(cache_size=cache_size)

    @property
    def domain(self) -> Any:  # type: ignore[override] # torch has an attribute here
        """Where the unrestrained values lie."""
        return constraints.independent(constraints.real, self.dims)

    @property
    def codomain(self) -> Any:  # type: ignore[override] # as above
        """Where the values lie."""
        return ZeroSum(self.dims)

    def _call(self, x: Tensor) -> Tensor:
        for dim in range(-self.dims, 0):
            root = math.sqrt(x.shape[dim] + 1)
            total = x.sum(dim, keepdim=True)
            x = torch.cat([x - total / (root * (root + 1)), -total / root], dim)
        return x

    def _inverse(self, y: Tensor) -> Tensor:
        for dim in range(-self.dims, 0):
            count = y.shape[dim] - 1
            last = y.narrow(dim, count, 1)
            y = y.narrow(dim, 0, count) - last / (math.sqrt(count + 1) + 1)
        return y

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:  # noqa: ARG002 - torch's signature
        """Zero: no distance changes."""
        return x.new_zeros(x.shape[: x.ndim - self.dims])

    def forward_shape(self, shape: Any) -> torch.Size:
        """The shape of the values."""
        return torch.Size((*shape[: -self.dims], *(size + 1 for size in shape[-self.dims :])))

    def inverse_shape(self, shape: Any) -> torch.Size:
        """The shape of the unrestrained values."""
        return torch.Size((*shape[: -self.dims], *(size - 1 for size in shape[-self.dims :])))

    def with_cache(self, cache_size: int = 1) -> OntoZeroSum:
        """The same with a cache."""
        return OntoZeroSum(self.dims, cache_size)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OntoZeroSum) and other.dims == self.dims

    def __hash__(self) -> int:
        return hash((OntoZeroSum, self.dims))


def _onto(support: Any) -> Transform:
    return OntoZeroSum(support.dims)


biject_to.register(ZeroSum, _onto)
transform_to.register(ZeroSum, _onto)


class ZeroSumNormal(dist.TorchDistribution):
    """A normal distribution of values that sum to zero: of effects beside a mean that has a param of its own.

    Its density is that of independent normal values, on the plane on which they sum to zero. Each value has the variance
    ``scale**2 * (1 - 1 / n)``.

    Args:
        scale: The standard deviation of the independent values.
        support_shape: How many values sum to zero; with several dims, such as ``(3, 5)``, they do so along each.

    Raises:
        PriorError: A dim has fewer than two values.

    Example:
        >>> import caskade_pyro as ck, torch
        >>> effects = ck.ZeroSumNormal(1.5, 4)
        >>> bool(effects.sample().sum().abs() < 1e-5)
        True
        >>> effects.log_prob(torch.tensor([1.0, -1.0, 0.5, -0.5]))
        tensor(-4.5288)
    """

    arg_constraints = {"scale": constraints.positive}  # noqa: RUF012 - torch.distributions has it so
    has_rsample = True

    def __init__(
        self, scale: Tensor | float, support_shape: int | tuple[int, ...], validate_args: bool | None = None
    ) -> None:
        self.support_shape = (support_shape,) if isinstance(support_shape, int) else tuple(support_shape)
        if not self.support_shape or any(size < 2 for size in self.support_shape):
            raise PriorError(
                f"ZeroSumNormal: expected at least two values along each dim that sums to zero; got support_shape="
                f"{self.support_shape}."
            )
        self.scale = torch.as_tensor(scale, dtype=None if isinstance(scale, Tensor) else torch.get_default_dtype())
        super().__init__(self.scale.shape, torch.Size(self.support_shape), validate_args=validate_args)

    @constraints.dependent_property(is_discrete=False)
    def support(self) -> Any:
        """Where values lie."""
        return ZeroSum(len(self.support_shape))

    @property
    def _of_values(self) -> Tensor:
        return self.scale.reshape(self.scale.shape + (1,) * len(self.support_shape))

    @property
    def mean(self) -> Tensor:
        """Zero."""
        return self.scale.new_zeros(self.batch_shape + self.event_shape)

    @property
    def variance(self) -> Tensor:
        """The variance of each value."""
        left = math.prod(1 - 1 / size for size in self.support_shape)
        return (left * self._of_values**2).expand(self.batch_shape + self.event_shape)

    def expand(self, batch_shape: Any, _instance: Any = None) -> ZeroSumNormal:
        """The same with further batch dims."""
        return ZeroSumNormal(self.scale.expand(batch_shape), self.support_shape, validate_args=False)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws, differentiable in the scale."""
        free = tuple(size - 1 for size in self.support_shape)
        shape = torch.Size(sample_shape) + self.batch_shape + torch.Size(free)
        drawn = torch.randn(shape, dtype=self.scale.dtype, device=self.scale.device)
        onto: Tensor = OntoZeroSum(len(free))(drawn)
        return self._of_values * onto

    def log_prob(self, value: Tensor) -> Tensor:
        """The log density on the plane of values that sum to zero."""
        if self._validate_args:
            self._validate_sample(value)
        free = math.prod(size - 1 for size in self.support_shape)
        squares = ((value / self._of_values) ** 2).sum(tuple(range(-len(self.support_shape), 0)))
        found: Tensor = -squares / 2 - free * (torch.log(self.scale) + math.log(2 * math.pi) / 2)
        return found
