"""Inputs of simulators: arrays as tensors, and what went wrong with them said in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ModelError
from ..graph.nodes.arrays import NUMBERS, for_torch

__all__ = ["as_input", "explained"]

NUMPY = ("numpy", "data pointer", "__torch_function__")
"""What torch says of tensors that are given to numpy or scipy while derivatives are followed, or in a vmap."""


def as_input(value: Any) -> Any:
    """An input of a forward method: arrays of numbers of numpy and pandas as tensors of the same dtype; others as they are.

    Args:
        value: One argument.
    """
    if not isinstance(value, np.ndarray) and hasattr(value, "to_numpy"):
        value = value.to_numpy()
    if not isinstance(value, np.ndarray) or isinstance(value, np.ma.MaskedArray) or value.dtype.kind not in NUMBERS:
        return value
    return torch.as_tensor(for_torch(value))


def explained(
    error: Exception, method: str, inputs: Mapping[str, Any], params: Mapping[str, Tensor]
) -> ModelError | None:
    """What an error of torch in a simulator comes from, where it says little to those who did not write torch.

    Args:
        error: What the simulator raised.
        method: Its name.
        inputs: Its inputs, by what they are called.
        params: The values of the params.

    Returns:
        The error to raise instead; None for one that says enough.
    """
    said = str(error).strip().partition("\n")[0]
    lists = [name for name, value in inputs.items() if isinstance(value, (list, tuple))]
    if "dtype" in said or ("Double" in said and "Float" in said):
        kinds: dict[str, list[str]] = {}
        for name, value in {**params, **inputs}.items():
            if isinstance(value, Tensor):
                kinds.setdefault(str(value.dtype), []).append(name)
        found = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in kinds.items())
        why = (
            f"It mixes dtypes where torch takes one ({found}). Convert what you give, as in "
            "x.to(torch.get_default_dtype()), or call torch.set_default_dtype(torch.float64) before the graph is built."
        )
    elif ".item()" in said:
        why = (
            "It takes a number out of a tensor (float(), int(), .item(), an if) while all members or draws are computed "
            "at once. Compute with tensors: torch.where(condition, a, b) in place of an if."
        )
    elif any(one in said for one in NUMPY):
        why = (
            "It gives tensors to numpy or scipy, or arrays to torch, and derivatives and ck.vmap follow functions of torch "
            "alone. Write it in torch; torch.special has many functions of scipy.special."
        )
    elif lists and isinstance(error, TypeError):
        why = f"{', '.join(lists)} is a list or tuple; give a tensor or an array."
    else:
        return None
    return ModelError(f"{method} fails: {said} {why}")
