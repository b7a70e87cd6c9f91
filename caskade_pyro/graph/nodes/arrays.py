"""Arrays of numpy as torch takes them."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["NUMBERS", "for_torch"]

NUMBERS = "fciub"
"""The kinds of dtypes that tensors have."""


def for_torch(value: Any) -> Any:
    """A value whose arrays torch takes: those of another byte order, as FITS files have, reversed or read-only are copied.

    Args:
        value: Anything; what is no array of numbers comes back as it is.
    """
    if not isinstance(value, np.ndarray) or value.dtype.kind not in NUMBERS:
        return value
    if value.dtype.isnative and value.flags.writeable and all(stride >= 0 for stride in value.strides):
        return value
    return np.array(value, dtype=value.dtype.newbyteorder("="), order="C")
