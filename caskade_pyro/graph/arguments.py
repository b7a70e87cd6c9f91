"""Arguments of public functions, checked where they come in: each error says what is expected and what came."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from ..errors import CaskadeException, SamplingError

__all__ = ["check_mapping", "check_one_of", "flag", "named", "names", "number", "shown", "whole"]

Kind = type[CaskadeException]

LONGEST = 60
"""So many characters of a value are shown."""


def shown(value: object) -> str:
    """A value as an error names it, with its type."""
    text = repr(value)
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
    return "None" if value is None else f"{text} (a {type(value).__name__})"


def whole(name: str, value: Any, least: int, error: Kind = SamplingError, most: int | None = None) -> int:
    """A whole number of Python from one of Python, numpy or torch.

    Args:
        name: What it is called.
        value: The number.
        least: The least that makes sense.
        error: What to raise.
        most: The most that makes sense.
    """
    found = value.item() if isinstance(value, (Tensor, np.ndarray)) and value.ndim == 0 else value
    if not isinstance(found, (numbers.Integral, np.bool_)):
        raise error(f"{name} must be a whole number; got {shown(value)}.")
    result = int(found)
    if result < least:
        raise error(f"{name} must be at least {least}, not {result}.")
    if most is not None and result > most:
        raise error(f"{name} must be at most {most}, not {result}.")
    return result


def number(name: str, value: Any, low: float, high: float = math.inf, error: Kind = SamplingError) -> float:
    """A number of Python that lies between two others, from one of Python, numpy or torch.

    Args:
        name: What it is called.
        value: The number.
        low: What it must be greater than.
        high: What it must be less than.
        error: What to raise.
    """
    found = value.item() if isinstance(value, (Tensor, np.ndarray)) and value.ndim == 0 else value
    if isinstance(found, (bool, np.bool_)) or not isinstance(found, numbers.Real):
        raise error(f"{name} must be a number; got {shown(value)}.")
    result = float(found)
    if not low < result < high:
        between = f"between {low:g} and {high:g}" if high < math.inf else f"greater than {low:g}, and finite"
        raise error(f"{name} must be {between}, not {result:g}.")
    return result


def flag(name: str, value: Any, error: Kind = SamplingError) -> bool:
    """True or False, of Python or numpy."""
    if not isinstance(value, (bool, np.bool_)):
        raise error(f"{name} must be True or False; got {shown(value)}.")
    return bool(value)


def check_one_of(name: str, value: Any, choices: Sequence[str], error: Kind = SamplingError) -> None:
    """Check that a value is one of some words."""
    if not isinstance(value, str) or value not in choices:
        raise error(f"{name} must be one of {', '.join(map(repr, choices))}; got {shown(value)}.")


def names(name: str, value: Any, example: str, error: Kind = SamplingError) -> tuple[str, ...]:
    """Several names, or one.

    Args:
        name: What they are called.
        value: A string, or a sequence of strings.
        example: How one writes it.
        error: What to raise.
    """
    found = (value,) if isinstance(value, str) else value
    if isinstance(found, (Mapping, bytes)) or not isinstance(found, (Sequence, set, frozenset)):
        raise error(f"{name} must be names, such as {example}; got {shown(value)}.")
    wrong = [one for one in found if not isinstance(one, str)]
    if wrong:
        raise error(f"{name} must be names, such as {example}; among them is {shown(wrong[0])}.")
    if any(not one.strip() for one in found):
        raise error(f"{name} must be names, such as {example}; among them is one of no letters.")
    return tuple(found)


def check_mapping(name: str, value: Any, example: str, error: Kind = SamplingError) -> None:
    """Check that a value is a dict by names; None stands for an empty one."""
    if value is None:
        return
    if not isinstance(value, Mapping):
        raise error(f"{name} must be a dict by names, such as {example}; got {shown(value)}.")
    wrong = [one for one in value if not isinstance(one, str)]
    if wrong:
        raise error(f"{name} must be a dict by names, such as {example}; among its keys is {shown(wrong[0])}.")


def named(value: Any, example: str, what: str, error: Kind = SamplingError) -> dict[str, Any]:
    """A dict by names, in which nothing stands for an empty one."""
    check_mapping(what, value, example, error)
    return dict(value or {})
