"""When two forms of a density are the same, and errors in a line."""

from __future__ import annotations

import torch
from torch import Tensor

from ..compiler.failures import first_line

__all__ = ["close", "first_line"]


def close(a: Tensor, b: Tensor, single: bool = False) -> bool:
    """Equal up to rounding, where sums of many large terms may cancel; ``single`` where some of it is in single precision."""
    relative = 1e-3 if single or a.dtype == torch.float32 else 1e-8
    largest = float(b[torch.isfinite(b)].abs().max()) if bool(torch.isfinite(b).any()) else 0.0
    return torch.allclose(a, b, rtol=relative, atol=max(1e-1 * relative * largest, 1e-6), equal_nan=True)
