"""Who makes machine code of a traced density: we, or torch's Inductor, in the order in which they are asked."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

from ..compiler import Native, NotFlatError, Program, Wrapped, load_native

__all__ = ["BACKENDS", "Compiled"]

Compiled = Native | Wrapped


def by_inductor(program: Program) -> Compiled:
    """Kernels by torch's Inductor, called without Python, or with its own wrapper where there is more than kernels."""
    try:
        return load_native(program, inductor=True)
    except NotFlatError:
        return Wrapped(program)


BACKENDS: MappingProxyType[str, Callable[[Program], Compiled]] = MappingProxyType(
    {"caskade_pyro wrote": load_native, "torch's Inductor wrote": by_inductor}
)
"""By what is said of the code, who makes it."""
