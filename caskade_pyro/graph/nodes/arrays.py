"""Arrays of other packages as torch takes them."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["NUMBERS", "as_array"]

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
