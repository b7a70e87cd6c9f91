"""Inputs of simulators: arrays as tensors, and what went wrong with them said in words."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ModelError
from ..graph.nodes.arrays import NUMBERS, as_array, holds_floats, of_numbers

__all__ = ["as_input", "check_unchanged", "explained", "named_inputs", "versions"]

NUMPY = ("numpy", "data pointer", "__torch_function__")
"""What torch says of tensors that are given to numpy or scipy while derivatives are followed, or in a vmap."""


def as_input(value: Any) -> Any:
    """An input of a forward method: arrays of numbers of numpy and pandas as tensors of the same dtype; others as they are.

    Lists of floats, which may lie in lists, become tensors too; lists of integers may count or index and stay what they are.

    Args:
        value: One argument.
    """
    if isinstance(value, np.ma.MaskedArray):
        return value
    if isinstance(value, (list, tuple)):
        return _of_list(value)
    try:
        found = as_array(value)
    except (TypeError, ValueError):  # a column of words, say, of which the simulator may know more
        return value
    return torch.as_tensor(found) if isinstance(found, np.ndarray) and found.dtype.kind in NUMBERS else value


def _of_list(value: Any) -> Any:
    """A list of floats as a tensor; another one as it is."""
    if not holds_floats(value):
        return value
    try:
        return of_numbers(torch.as_tensor(value), value)
    except (TypeError, ValueError, RuntimeError):  # rows of different lengths, say
        return value


def named_inputs(method: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of a forward method, by the names of its arguments."""
    try:
        return dict(inspect.signature(method).bind_partial(*args, **kwargs).arguments)
    except (TypeError, ValueError):
        return {f"argument {index}": value for index, value in enumerate(args)} | dict(kwargs)


def versions(values: Mapping[str, Any]) -> dict[str, int]:
    """How often each tensor has been written into, by name."""
    tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
    return {name: value._version for name, value in tensors.items() if not value.is_inference()}


def check_unchanged(before: Mapping[str, int], values: Mapping[str, Any], method: str) -> None:
    """Refuse a simulator that writes into what it is given, and would find that in its next run.

    Args:
        before: The versions of the tensors before it ran.
        values: The tensors, by name.
        method: Its name.

    Raises:
        ModelError: It does.
    """
    changed = [name for name, version in versions(values).items() if version != before[name]]
    if changed:
        raise ModelError(
            f"{method} writes into {', '.join(changed)}, so that its next run would start from other values. Compute new "
            "tensors: x = x * 2 in place of x *= 2, and x.clone() before x[i] = ..."
        )


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
    elif "inhomogeneous total_count" in said:
        why = (
            "Torch's Multinomial takes one total for all rows. Take ck.Multinomial(total_count, probs), which takes a tensor "
            "of them."
        )
    elif "in-place" in said or "inplace" in said:
        why = (
            "It writes into a param, or into a tensor that a derivative needs. Compute new tensors: x = x * 2 in place of "
            "x *= 2, and torch.stack of a list in place of x[i] = ..."
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
    elif lists and isinstance(error, (AttributeError, TypeError)):
        why = f"Its input {', '.join(lists)} is a list or tuple; give a tensor or an array."
    else:
        return None
    return ModelError(f"{method} fails: {said} {why}")
