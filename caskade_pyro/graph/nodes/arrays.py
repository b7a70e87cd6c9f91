"""Arrays of other packages, and numbers of Python, as torch takes them.

Numbers of Python, alone and in lists, are doubles, which torch rounds to its default precision. Which precision a model
has is known only when all of it is there; until then a tensor made of such numbers carries them with it, in double.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["NUMBERS", "as_array", "carried", "carries", "holds_floats", "in_double", "of_numbers"]

NUMBERS = "fciub"
"""The kinds of dtypes that tensors have."""


def as_array(value: Any) -> Any:
    """An array that torch takes, of numpy's or a labelled one (a column or table of pandas, an array of xarray).

    Labelled values are taken in their order, whatever the labels say, and missing ones become NaN. Arrays of another byte
    order, as FITS files have, and reversed or read-only ones are copied.

    Args:
        value: Anything; what is no array comes back as it is.

    Raises:
        TypeError: It is labelled and holds what is no number.
        ValueError: Likewise.
    """
    found = value
    if not isinstance(value, np.ndarray) and hasattr(value, "to_numpy"):
        found = value.to_numpy()
        if found.dtype == object:  # nullable columns of pandas have a missing value of their own
            return value.to_numpy(dtype=float, na_value=np.nan)
    if not isinstance(found, np.ndarray) or found.dtype.kind not in NUMBERS:
        return found
    if found.dtype.isnative and found.flags.writeable and all(stride >= 0 for stride in found.strides):
        return found
    return np.array(found, dtype=found.dtype.newbyteorder("="), order="C")


_CARRIED = "_numbers_in_double"


def of_numbers(tensor: Tensor, value: Any) -> Tensor:
    """A tensor of the default precision that was just made of a value; one of numbers of Python carries them in double.

    Args:
        tensor: The tensor, which nobody else has.
        value: What it was made of.
    """
    if (
        isinstance(value, (int, float, list, tuple))
        and not torch.compiler.is_compiling()
        and tensor.is_floating_point()
        and tensor.dtype != torch.float64
    ):
        setattr(tensor, _CARRIED, torch.as_tensor(value, dtype=torch.float64))
    return tensor


def carried(tensor: Tensor) -> Tensor | None:
    """The numbers in double that a tensor was made of; None if it was made of something else, or is in double itself."""
    found: Tensor | None = getattr(tensor, _CARRIED, None)
    return found


def carries(value: Any) -> bool:
    """Whether a value is a tensor that was made of numbers of Python."""
    return isinstance(value, Tensor) and carried(value) is not None


def in_double(tensor: Any) -> Any:
    """For a tensor that was made of numbers of Python, these in double; everything else as it is."""
    found = carried(tensor) if isinstance(tensor, Tensor) else None
    return tensor if found is None else found.to(tensor.device)


def holds_floats(value: Any) -> bool:
    """Whether a list, which may hold lists, holds nothing but numbers of Python, floats among them."""
    found, stack = False, [value]
    while stack:
        one = stack.pop()
        if isinstance(one, (list, tuple)):
            stack.extend(one)
        elif not isinstance(one, (int, float)) or isinstance(one, bool):
            return False
        else:
            found = found or isinstance(one, float)
    return found
