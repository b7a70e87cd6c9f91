"""A density as plain data: kernels in C++, and the calls that run it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Lowered"]


@dataclass(frozen=True)
class Lowered:
    """A density as C++ kernels and the calls that run it.

    Attributes:
        sources: The C++ source of each kernel, a function named ``kernel``.
        sizes: The size in bytes of every buffer; first the flat vector, then the constants, then those written.
        calls: Of each call the kernel and, for each argument, the buffer and the offset in it in bytes.
        gradient: Buffer and offset of the gradient.
        value: Buffer and offset of the value.
        flags: How the compiler optimises; None for what needs torch's headers and flags.
    """

    sources: tuple[str, ...]
    sizes: tuple[int, ...]
    calls: tuple[tuple[int, tuple[tuple[int, int], ...]], ...]
    gradient: tuple[int, int]
    value: tuple[int, int]
    flags: tuple[str, ...] | None
