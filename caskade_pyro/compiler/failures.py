"""What happens where a function has no value, and errors in a line."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import CompilationError

__all__ = [
    "NotFactorisedError",
    "NotWrittenError",
    "TooLargeError",
    "UnknownOperationError",
    "first_line",
    "or_impossible",
]

NotFactorisedError: type[RuntimeError] = torch.linalg.LinAlgError  # type: ignore[attr-defined]
"""What torch raises where a matrix is singular or not positive definite."""


class NotWrittenError(CompilationError):
    """We have no code for a function; torch's Inductor may have."""


class TooLargeError(NotWrittenError):
    """A function is too large for this way of writing it."""


class UnknownOperationError(NotWrittenError):
    """An operation is not known here; written in others, it may be."""


def or_impossible(run: Callable[[Tensor], tuple[Tensor, Tensor]], z: Tensor) -> tuple[Tensor, Tensor]:
    """A value and its gradient; NaN where a matrix cannot be factorised, which samplers take for a divergence."""
    try:
        return run(z)
    except NotFactorisedError:
        return z.new_full((), torch.nan), torch.full_like(z, torch.nan)


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
