"""From a traced density to C++: kernels by torch's Inductor, and the order in which to call them.

Inductor fuses the operations of the graph into kernels, each a C function of pointers, and writes a Python wrapper that
allocates buffers and calls them. That wrapper costs more than the arithmetic of a small model, so it is run once, with its
kernels replaced by recorders, and what it did is written down: which kernel got which buffers. The result is plain data, to be
compiled and kept. A wrapper that does anything else (a factorisation by LAPACK, say) cannot be written down.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from ..errors import CompilationError
from .failures import first_line, or_impossible
from .lowered import Lowered
from .torch_internals import FakeTensorMode, inductor, make_fx
from .trace import Program, small_decompositions

__all__ = ["NotFlatError", "Wrapped", "lower"]

SETTINGS: dict[str, Any] = {
    "cpp.threads": 1,  # a process for each chain: more threads would only get in each other's way
    "compile_threads": 1,
    "cpp_wrapper": False,
    "freezing": False,
    "max_autotune": False,
    "fx_graph_cache": False,
    "cpp_cache_precompile_headers": False,  # they take longer than the one kernel that is compiled with them
}

# What a wrapper that only allocates and calls kernels may name.
HARMLESS = {"clear", "empty_strided_cpu", "assert_size_stride", "assert_alignment", "reinterpret_tensor", "torch"}


class NotFlatError(CompilationError):
    """The graph needs more than kernels on buffers."""


def lower(program: Program) -> Lowered:
    """Lower a program to kernels.

    Raises:
        NotFlatError: It needs more than that; the message says what.
    """
    tape = Tape()
    with _recording(tape):
        wrapper = _wrapper(program)
    others = _other_names(wrapper)
    if others:
        raise NotFlatError(f"it calls {', '.join(sorted(others))}")
    inputs = [tensor.detach().clone() for tensor in program.inputs]
    tape.calls.clear()
    gradient, value = wrapper(list(inputs))
    buffers = Buffers(inputs)
    calls = tuple((kernel, tuple(buffers.locate(tensor) for tensor in tensors)) for kernel, tensors in tape.calls)
    where = buffers.locate(gradient), buffers.locate(value)
    if any(one.dtype != program.point.dtype for one in (gradient, value)):
        raise NotFlatError("its results have another precision than its argument")
    if not gradient.is_contiguous():
        raise NotFlatError("its gradient is not contiguous")
    return Lowered(tuple(tape.sources), tuple(buffers.sizes), calls, *where, None)


class Wrapped:
    """A program compiled by Inductor with its Python wrapper, for what is no plain list of kernels.

    Inductor keeps the kernels in its own cache.

    Raises:
        CompilationError: Inductor cannot compile it.
    """

    def __init__(self, program: Program) -> None:
        self.call, self.constants = _wrapper(program), program.constants

    def run(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The value and the gradient at a vector."""
        return or_impossible(self._run, z)

    def _run(self, z: Tensor) -> tuple[Tensor, Tensor]:
        gradient, value = self.call([z, *self.constants])
        return value.to(z.dtype), gradient.to(z.dtype)  # Inductor may promote where torch does not


@dataclass
class Tape:
    """The kernels that a wrapper declares, and its calls of them."""

    sources: list[str] = field(default_factory=list)
    calls: list[tuple[int, tuple[Tensor, ...]]] = field(default_factory=list)

    def declare(self, source: str) -> Any:
        """A stand-in for a kernel, which records that it was called."""
        number = len(self.sources)
        self.sources.append(source)

        def record(*args: Any) -> None:
            if not all(isinstance(one, Tensor) for one in args):
                raise NotFlatError("a kernel takes more than tensors")
            self.calls.append((number, args))

        return record


class Buffers:
    """The memory that tensors lie in, numbered."""

    def __init__(self, inputs: list[Tensor]) -> None:
        self.numbers: dict[int, int] = {}
        self.sizes: list[int] = []
        self.kept: list[Tensor] = []  # memory in use is not given to another buffer
        for tensor in inputs:
            self.locate(tensor)

    def locate(self, tensor: Tensor) -> tuple[int, int]:
        """The number of a tensor's buffer and its offset there in bytes."""
        storage = tensor.untyped_storage()
        number = self.numbers.get(storage.data_ptr())
        if number is None or storage.nbytes() == 0:  # the empty have no address of their own
            number = self.numbers[storage.data_ptr()] = len(self.sizes)
            self.sizes.append(storage.nbytes())
            self.kept.append(tensor)
        return number, int(tensor.storage_offset()) * tensor.element_size()


@contextmanager
def _recording(tape: Tape) -> Iterator[None]:
    def declare(_: Any, __: list[str], source_code: str) -> Any:
        return tape.declare(source_code)

    with mock.patch.object(inductor().AsyncCompile, "cpp_pybinding", declare):
        yield


def _wrapper(program: Program) -> Any:
    """What Inductor makes of a program, as a callable of a list of inputs."""
    parts = inductor()
    fake = FakeTensorMode()
    inputs = [fake.from_tensor(tensor) for tensor in program.inputs]
    settings = dict(SETTINGS)
    if torch.backends.cpu.get_cpu_capability() in {"AVX2", "AVX512"}:
        settings["cpp.vec_isa_ok"] = True  # torch has looked; trying the compiler takes seconds

    table = {**parts.select_decomp_table(), **small_decompositions()}

    def run(*args: Tensor) -> Any:
        return torch.fx.Interpreter(program.graph).run(*args)

    try:
        with (
            torch.no_grad(),
            parts.config.patch(settings),
            parts.V.set_fake_mode(fake),
            parts.tracing(parts.TracingContext(fake)),
            warnings.catch_warnings(action="ignore"),  # torch warns of what it does itself
        ):
            with fake:
                decomposed = make_fx(run, decomposition_table=table)(*inputs)
            compiled: Any = parts.compile_fx_inner(decomposed, inputs)
            return compiled.current_callable
    except (RuntimeError, NotImplementedError, TypeError, ValueError, AssertionError) as error:
        # What Inductor raises where it cannot lower an operation, or where the C++ compiler fails.
        raise CompilationError(f"torch's compiler fails: {first_line(error)}") from error


def _other_names(wrapper: Any) -> set[str]:
    code = getattr(wrapper, "__func__", wrapper).__code__
    dtypes = {name for name in code.co_names if isinstance(getattr(torch, name, None), torch.dtype)}
    kernels = {name for name in code.co_names if re.fullmatch(r"cpp_fused_\w+", name)}
    return set(code.co_names) - HARMLESS - dtypes - kernels
