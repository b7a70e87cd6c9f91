"""Priors as part of the graph: a distribution, or how to make one from params."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from ...errors import ModelError, ParamTypeError
from ..plates.distributions import arguments
from .arrays import NUMBERS, as_array
from .structure import is_param

if TYPE_CHECKING:
    from .param import Param

__all__ = ["Prior", "as_prior", "prior"]


@dataclass(frozen=True, eq=False)
class Prior:
    """A prior whose arguments may be params.

    Attributes:
        factory: A distribution class, or a function that returns a distribution.
        args: Positional arguments: params, tensors or numbers.
        kwargs: Keyword arguments likewise.
        fixed: The distribution itself, where it was given ready-made.
    """

    factory: Callable[..., Distribution]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    fixed: Distribution | None = None

    @property
    def parents(self) -> tuple[Param, ...]:
        """The params among the arguments, each once."""
        params = [arg for arg in (*self.args, *self.kwargs.values()) if is_param(arg)]
        return tuple(dict.fromkeys(params))

    def build(self, resolve: Callable[[Any], Any]) -> Distribution:
        """The distribution, made of what ``resolve`` returns for each argument."""
        if self.fixed is not None:
            return self.fixed
        args = [resolve(arg) for arg in self.args]
        return self.factory(*args, **{key: resolve(arg) for key, arg in self.kwargs.items()})

    def __str__(self) -> str:
        if self.fixed is not None:
            return describe_distribution(self.fixed)
        shown = [_show(arg) for arg in self.args] + [f"{key}={_show(arg)}" for key, arg in self.kwargs.items()]
        return f"{getattr(self.factory, '__name__', type(self.factory).__name__)}({', '.join(shown)})"


def prior(factory: Callable[..., Distribution], *args: Any, **kwargs: Any) -> Prior:
    """A prior whose arguments may be params, which are then its parents in the model.

    Args:
        factory: A torch or Pyro distribution class, or a function that returns a distribution.
        args: Its arguments: params, tensors or numbers. Values of params arrive with the shape that the param declares.
        kwargs: Keyword arguments likewise.

    Returns:
        The prior, to be given to ``Param(prior=...)`` or set as ``param.prior``.

    Raises:
        ParamTypeError: ``factory`` cannot be called.

    Example:
        >>> import caskade_pyro as ck
        >>> import pyro.distributions as dist
        >>> mean = ck.Param("mean", prior=dist.Normal(0.0, 5.0))
        >>> effect = ck.Param("effect", shape=(), prior=ck.prior(dist.Normal, mean, 1.0))
        >>> print(effect.prior)
        Normal(mean, 1)
    """
    if not callable(factory) or is_param(factory):  # type: ignore[arg-type]
        raise ParamTypeError(
            f"ck.prior needs a distribution class first, as in ck.prior(dist.Normal, mean, scale); got {factory!r}. "
            "A ready-made distribution is a prior as it is."
        )
    return Prior(factory, tuple(map(_as_tensor, args)), {name: _as_tensor(value) for name, value in kwargs.items()})


def _as_tensor(value: Any) -> Any:
    """An array of numbers as a tensor of its own precision; everything else as it is."""
    if isinstance(value, Tensor) or is_param(value) or not hasattr(value, "__array__") or isinstance(value, np.generic):
        return value
    found = as_array(value)
    return torch.tensor(found) if isinstance(found, np.ndarray) and found.dtype.kind in NUMBERS else value


def as_prior(value: object, param_name: str) -> Prior | None:
    """What a user gave as a prior, as a `Prior`."""
    if value is None or isinstance(value, Prior):
        return value
    if isinstance(value, Distribution):
        return Prior(type(value), fixed=value)
    raise ParamTypeError(
        f"The prior of param {param_name!r} must be a distribution or ck.prior(...), not {value!r}."
        + (" Call the class: dist.Normal(0.0, 1.0)." if isinstance(value, type) else "")
    )


def describe_distribution(distribution: Distribution) -> str:
    """A distribution in short: its name and its arguments, tensors by their shape."""
    while type(distribution).__name__ in ("Independent", "ExpandedDistribution"):
        distribution = distribution.base_dist  # type: ignore[attr-defined]
    kind = type(distribution).__name__
    try:
        names, constants = arguments(distribution)
    except ModelError:
        return kind
    shown = [_show(getattr(distribution, name)) for name in names] + [_show(value) for value in constants.values()]
    return f"{kind}({', '.join(shown)})"


def _show(value: Any) -> str:
    if is_param(value):
        return str(value.name)
    if isinstance(value, Distribution):  # the parts of a mixture
        return describe_distribution(value)
    if hasattr(value, "shape") and hasattr(value, "reshape"):
        flat = value.reshape(-1)
        if flat.numel() > 0 and bool((flat == flat[0]).all()):
            return f"{flat[0].item():.4g}"
        return f"<{', '.join(str(size) for size in value.shape)}>"
    return f"{value:.4g}" if isinstance(value, (int, float)) else repr(value)
