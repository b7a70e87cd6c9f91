"""Random draws under torch.vmap.

Many distributions of torch draw by filling an empty tensor in place, which vmap cannot make different for each of its
members, since the empty tensor is the same for all. Drawing the same numbers with functions that return them, it can.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..graph.calls.evaluation import functorch_level

__all__ = ["functional_draws"]


def functional_draws() -> AbstractContextManager[Any]:
    """Draw with functions instead of in place, where a torch transform runs."""
    return _FunctionalDraws() if functorch_level() else nullcontext()


def _normal(like: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    return mean + std * torch.randn(like.shape, dtype=like.dtype, device=like.device)


def _uniform(like: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    return low + (high - low) * torch.rand(like.shape, dtype=like.dtype, device=like.device)


def _exponential(like: Tensor, rate: float = 1.0) -> Tensor:
    return -torch.log1p(-_uniform(like)) / rate


def _cauchy(like: Tensor, median: float = 0.0, sigma: float = 1.0) -> Tensor:
    return median + sigma * torch.tan(math.pi * (_uniform(like) - 0.5))


IN_PLACE: Mapping[Any, Callable[..., Tensor]] = {
    Tensor.normal_: _normal,
    Tensor.uniform_: _uniform,
    Tensor.exponential_: _exponential,
    Tensor.cauchy_: _cauchy,
}


class _FunctionalDraws(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        draw = IN_PLACE.get(func)
        return (func if draw is None else draw)(*args, **(kwargs or {}))
