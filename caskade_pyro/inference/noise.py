"""Random numbers from outside: what a guide draws, as an input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..bridge.randomness import own_numbers
from ..errors import CompilationError

__all__ = ["Supplied", "noise_shapes"]


class Supplied(TorchFunctionMode):
    """Standard normal numbers come from a vector, in the order in which they are drawn, instead of from a generator.

    The distributions of torch and Pyro draw what they can differentiate through from standard normal numbers, which
    they get by ``Tensor.normal_``.

    Args:
        noise: The numbers; None to let the generator draw them.
    """

    def __init__(self, noise: Tensor | None) -> None:
        super().__init__()
        self.noise = noise
        self.shapes: list[torch.Size] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Hand out the next numbers where a tensor is to be filled with standard normal ones."""
        if func is not Tensor.normal_ or len(args) > 1 or kwargs:
            return func(*args, **(kwargs or {}))
        shape = args[0].shape
        begin = sum(one.numel() for one in self.shapes)
        self.shapes.append(shape)
        if self.noise is None:
            return func(*args)
        if begin + shape.numel() > self.noise.numel():
            raise CompilationError("the guide does not draw as many random numbers each time")
        return self.noise[begin : begin + shape.numel()].reshape(shape)


def noise_shapes(guide: Callable[[], Any]) -> tuple[torch.Size, ...]:
    """The shapes of the standard normal numbers that a guide draws, in its order."""
    with torch.no_grad(), own_numbers(0), Supplied(None) as drawn:
        guide()
    return tuple(drawn.shapes)
