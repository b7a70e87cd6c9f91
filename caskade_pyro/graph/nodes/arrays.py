"""Columns and tables of other packages as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["as_array"]


def as_array(value: Any) -> Any:
    """A labelled array (a column or table of pandas, an array of xarray) as one of numpy; anything else as it is.

    Values are taken in their order, whatever the labels say, and missing ones become NaN.

    Raises:
        TypeError: It holds what is no number.
        ValueError: Likewise.
    """
    if isinstance(value, np.ndarray) or not hasattr(value, "to_numpy"):
        return value
    found = value.to_numpy()
    if found.dtype != object:
        return np.array(found)  # a view of a table may be read-only, which a tensor cannot be
    return value.to_numpy(dtype=float, na_value=np.nan)  # nullable columns of pandas have a missing value of their own
