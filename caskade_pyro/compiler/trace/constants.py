"""Constants that a simulator computes while it is traced: they may be written into, and taken out of torch.

To torch's transforms an operation on constants alone, as ``data.clone()``, is none of theirs, and what comes of it cannot be
filled with what depends on a param; and no tensor inside them can be given back as a list, though its numbers be known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..torch_internals import functorch as _functorch
from ..torch_internals import outside_of_transforms, written

__all__ = ["Constants", "tensors_in"]

LEAVING = (Tensor.tolist, Tensor.numpy, Tensor.__array__)
"""What takes numbers out of torch."""


class Constants(TorchFunctionMode):
    """New tensors of constants become tensors of the trace, and constants leave it as they are.

    Args:
        depends: Whether a tensor, as it is below all transforms, depends on the argument of what is traced.
    """

    def __init__(self, depends: Callable[[Tensor], bool]) -> None:
        super().__init__()
        self.depends = depends

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        """Run a function of torch."""
        kwargs = kwargs or {}
        if func in LEAVING and isinstance(args[0], Tensor):
            inner = _innermost(args[0])
            if not self.depends(inner):
                with outside_of_transforms():
                    return func(inner, *args[1:], **kwargs)
        found = func(*args, **kwargs)
        if type(found) is not Tensor or _is_followed(found) or not _is_new(found, (args, kwargs)):
            return found
        # A choice between the same two, made by a tensor of the trace, is one of the trace.
        return torch.where(torch.ones((), dtype=torch.bool, device=found.device), found, found)


def _layers(tensor: Tensor) -> Iterator[Tensor]:
    """A tensor, and what transforms have wrapped in it, outermost first."""
    yield tensor
    while _functorch.is_functorch_wrapped_tensor(tensor):
        if _functorch.is_functionaltensor(tensor):
            written(tensor)
        tensor = _functorch.get_unwrapped(tensor)
        yield tensor


def _innermost(tensor: Tensor) -> Tensor:
    return list(_layers(tensor))[-1]


def _is_followed(tensor: Tensor) -> bool:
    """Whether writing into a tensor is seen, as it is for those of the trace."""
    return any(_functorch.is_functionaltensor(one) for one in _layers(tensor))


def _is_new(tensor: Tensor, given: Any) -> bool:
    """Whether a tensor is in memory of its own, and no view of a given one, into which a simulator may not write."""
    memory = _innermost(tensor).untyped_storage()._cdata
    return all(_innermost(one).untyped_storage()._cdata != memory for one in tensors_in(given))


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors among arguments, however deep they lie in tuples, lists and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for one in value:
            yield from tensors_in(one)
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))
