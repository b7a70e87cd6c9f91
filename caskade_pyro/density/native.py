"""Kernels as a shared library: compiled once, kept in a cache, and called without Python between them."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from platformdirs import user_cache_path
from torch import Tensor

from ..errors import CompilationError
from .loop_code import loops_are_fast, write_loops
from .lowered import Lowered
from .lowering import lower
from .native_whitened import WHITENED
from .program import Program
from .scalar_code import baked, write_scalars
from .scalar_views import NotSmallError

__all__ = ["Native", "cache_folder", "load_native"]

DEFAULT_COMPILER = "clang++" if sys.platform == "darwin" else "g++"

FLAGS = ("-std=c++17", "-shared", "-fPIC")
"""For code that needs no headers of torch."""


def cache_folder() -> Path:
    """Where compiled densities are kept: ``$CASKADE_PYRO_CACHE``, or the user's folder for caches."""
    given = os.environ.get("CASKADE_PYRO_CACHE")
    return Path(given) if given else user_cache_path("caskade_pyro") / "densities"


def load_native(program: Program, *, inductor: bool = False) -> Native:
    """The compiled form of a program, from the cache or made now.

    Args:
        program: The program.
        inductor: Whether torch's Inductor is to write the code, which takes seconds, and not we.

    Raises:
        CompilationError: It cannot be compiled here; the message says why in one line.
        NotSmallError: It is too large for us, or has an operation that we do not know.
        NotFlatError: It needs more than kernels.
    """
    if program.point.device.type != "cpu":
        raise CompilationError(f"the model's tensors are on {program.point.device}, and only the CPU's are compiled")
    folder = cache_folder() / _key(program, inductor)
    refused = folder.with_suffix(".refused")
    if refused.exists():
        raise NotSmallError(refused.read_text())
    if not (folder / "plan.json").exists():
        try:
            _make(program, folder, inductor)
        except NotSmallError as error:
            # Writing a large program to find that out takes a while, and need not be done again.
            refused.parent.mkdir(parents=True, exist_ok=True)
            refused.write_text(str(error))
            raise
    plan = json.loads((folder / "plan.json").read_text())
    return Native(folder / f"density{_suffix()}", plan, program)


def _key(program: Program, inductor: bool) -> str:
    """The name of a program's folder: whatever changes the compiled code changes the name."""
    looked_up = [(number, tuple(one.shape), one.tolist()) for number, one in baked(program).items()]
    maker = (inductor, _writes_loops())
    things = (
        _own_code(),
        program.key(),
        looked_up,
        torch.__version__,
        platform.machine(),
        _processor(),
        _compiler(),
        maker,
    )
    return hashlib.sha256(repr(things).encode()).hexdigest()[:32]


@functools.cache
def _own_code() -> str:
    """What makes the compiled code: another version of it makes other code."""
    sources = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
    return hashlib.sha256(b"".join(sources)).hexdigest()


@functools.cache
def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = platform.processor()
    flags = re.search(r"^(flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return f"{torch.backends.cpu.get_cpu_capability()} {flags.group(2) if flags else text}"


@functools.cache
def _compiler() -> str:
    command = os.environ.get("CXX", DEFAULT_COMPILER)
    found = shutil.which(command)
    if found is None:
        return f"no {command}"
    return subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout.partition("\n")[0]


def _suffix() -> str:
    return ".dll" if sys.platform == "win32" else ".so"


def _make(program: Program, folder: Path, inductor: bool = False) -> None:
    """Lower, compile and put into the cache, all at once, so that no other process sees half of it."""
    if _compiler().startswith("no "):
        raise CompilationError(f"there is no C++ compiler ({_compiler().removeprefix('no ')}) on this machine")
    lowered = _lowered(program, inductor)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="making-") as made:
        source = Path(made) / "density.cpp"
        source.write_text(_source(lowered, program))
        _compile(source) if lowered.flags is None else _compile_alone(source, lowered.flags)
        plan = {key: value for key, value in asdict(lowered).items() if key != "sources"}
        (Path(made) / "plan.json").write_text(json.dumps(plan))
        try:
            Path(made).rename(folder)
        except OSError:  # another process was first, and made the same
            if not (folder / "plan.json").exists():
                raise
            return
        Path(made).mkdir()  # for the context manager to remove


def _lowered(program: Program, inductor: bool) -> Lowered:
    """A program in C++: ours, in scalars if it is small and in loops if not, or Inductor's, which takes longest to make."""
    if inductor:
        return lower(program)
    if _writes_loops():
        with contextlib.suppress(NotSmallError):
            return write_scalars(program)
        return write_loops(program)
    return write_scalars(program)


def _writes_loops() -> bool:
    return loops_are_fast() and "clang" not in _compiler()


def _compile(source: Path) -> None:
    from torch._inductor.cpp_builder import CppBuilder, CppTorchOptions
    from torch._inductor.cpu_vec_isa import pick_vec_isa
    from torch._inductor.exc import CppCompileError

    try:
        with torch._inductor.config.patch({"cpp.vec_isa_ok": True}), warnings.catch_warnings(action="ignore"):
            options = CppTorchOptions(vec_isa=pick_vec_isa(), warning_all=False)
            CppBuilder(source.stem, [str(source)], options, str(source.parent)).build()
    except (CppCompileError, OSError) as error:
        lines = [line for line in str(error).splitlines() if "error" in line.lower()]
        raise CompilationError(f"the C++ compiler failed: {lines[0] if lines else error}") from error


def _compile_alone(source: Path, flags: tuple[str, ...]) -> None:
    command = [
        os.environ.get("CXX", DEFAULT_COMPILER),
        *flags,
        *FLAGS,
        str(source),
        "-o",
        str(source.with_suffix(_suffix())),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or [f"exit code {done.returncode}"]
        raise CompilationError(f"the C++ compiler failed: {lines[0]}")


def _source(lowered: Lowered, program: Program) -> str:
    """One C++ file: the kernels, a function that calls them in order, and one as samplers want it."""
    kernels = [
        re.sub(r'extern\s+"C"\s+void\s+kernel\(', f"static void kernel_{number}(", source)
        for number, source in enumerate(lowered.sources)
    ]
    calls = []
    for kernel, arguments in lowered.calls:
        types = _argument_types(lowered.sources[kernel])
        if len(types) != len(arguments):
            raise CompilationError("a kernel has not the arguments that it was called with")
        pointers = [
            f"({kind})(b[{buffer}] + {offset})" for kind, (buffer, offset) in zip(types, arguments, strict=True)
        ]
        calls.append(f"        kernel_{kernel}({', '.join(pointers)});")
    scalar = {torch.float32: "float", torch.float64: "double"}[program.point.dtype]
    text = TEMPLATE.format(
        calls="\n".join(calls),
        scalar=scalar,
        dim=program.point.numel(),
        failed=len(lowered.sizes),
        gradient=f"b[{lowered.gradient[0]}] + {lowered.gradient[1]}",
        value=f"b[{lowered.value[0]}] + {lowered.value[1]}",
    )
    return "\n".join(kernels) + text + WHITENED


def _argument_types(source: str) -> list[str]:
    signature = re.search(r"void\s+kernel\(([^)]*)\)", source)
    arguments = signature.group(1).split(",") if signature else []
    return [re.sub(r"\s*\w+\s*$", "", argument).strip() for argument in arguments]


TEMPLATE = """
#include <cmath>
#include <cstdint>
#include <cstring>

extern "C" int64_t density_run(char* const* b) {{
    try {{
{calls}
    }} catch (...) {{
        *(int64_t*)b[{failed}] = 1;  // a kernel threw, as it does for an index out of bounds
        return -1;
    }}
    return 0;
}}

// What nutpie calls: 0 for a finite density, above 0 where a trajectory diverges, below 0 for a wrong call.
extern "C" int64_t density_logp(uint64_t dim, const double* x, double* gradient, double* value, void* buffers) {{
    if (dim != {dim}) return -2;
    char* const* b = (char* const*)buffers;
    {scalar}* z = ({scalar}*)b[0];
    for (int64_t i = 0; i < {dim}; i++) z[i] = ({scalar})x[i];
    if (density_run(b) != 0) return 4;
    const {scalar}* g = (const {scalar}*)({gradient});
    const {scalar} v = *(const {scalar}*)({value});
    bool finite = std::isfinite(v);
    for (int64_t i = 0; i < {dim}; i++) {{
        gradient[i] = g[i];
        finite = finite && std::isfinite(g[i]);
    }}
    *value = v;
    return finite ? 0 : 3;
}}

// Many rows, one after the other.
extern "C" int64_t density_rows(int64_t rows, const {scalar}* z, {scalar}* values, {scalar}* gradients, char* const* b) {{
    for (int64_t row = 0; row < rows; row++) {{
        std::memcpy(b[0], z + row * {dim}, sizeof({scalar}) * {dim});
        if (density_run(b) != 0) return -1;
        values[row] = *(const {scalar}*)({value});
        std::memcpy(gradients + row * {dim}, {gradient}, sizeof({scalar}) * {dim});
    }}
    return 0;
}}

extern "C" int64_t density_copy(uint64_t dim, uint64_t expanded, const double* x, double* out, void* buffers) {{
    if (dim != {dim} || expanded != {dim}) return -2;
    std::memcpy(out, x, dim * sizeof(double));
    return 0;
}}
"""


class Native:
    """A density in a shared library, with its buffers.

    It has one set of buffers, so calls from several threads wait for each other; a sampler that is given the addresses is alone
    with them.

    Args:
        library: The file.
        plan: Sizes of buffers and where the results are.
        program: What was compiled; its constants are read from now on.
    """

    def __init__(self, library: Path, plan: dict[str, Any], program: Program) -> None:
        try:
            self.library = ctypes.CDLL(str(library))
        except OSError as error:
            raise CompilationError(f"the compiled density cannot be loaded: {error}") from error
        inputs = [tensor.detach().clone(memory_format=torch.contiguous_format) for tensor in program.inputs]
        written = [torch.zeros(size, dtype=torch.uint8) for size in plan["sizes"][len(inputs) :]]
        self._failed = torch.zeros(1, dtype=torch.int64)
        self.buffers = [*inputs, *written, self._failed]
        self._one_at_a_time = threading.Lock()
        self.pointers = (ctypes.c_void_p * len(self.buffers))(*(buffer.data_ptr() for buffer in self.buffers))
        self.z = inputs[0]
        self.gradient = self._result(plan["gradient"], self.z.shape)
        self.value = self._result(plan["value"], torch.Size(()))
        self._run, self._rows = self.library.density_run, self.library.density_rows
        self._run.restype = self._rows.restype = ctypes.c_int64

    def _result(self, place: list[int], shape: torch.Size) -> Tensor:
        buffer, offset = place
        raw = self.buffers[buffer].reshape(-1).view(torch.uint8)
        size = max(shape.numel(), 1) * self.z.element_size()
        return raw[offset : offset + size].view(self.z.dtype).reshape(shape)

    def run(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The value and the gradient at a vector; from any thread, one after the other, since all write into one memory."""
        with self._one_at_a_time:
            self.z.copy_(z)
            self._check(self._run(self.pointers))
            return self.value.clone(), self.gradient.clone()

    def run_rows(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The values ``(n,)`` and the gradients ``(n, dim)`` at the rows of ``(n, dim)``."""
        rows = z.to(self.z.dtype).contiguous()
        values, gradients = rows.new_empty(len(rows)), torch.empty_like(rows)
        addresses = [ctypes.c_void_p(one.data_ptr()) for one in (rows, values, gradients)]
        with self._one_at_a_time:
            self._check(self._rows(ctypes.c_int64(len(rows)), *addresses, self.pointers))
        return values, gradients

    def _check(self, outcome: int) -> None:
        if outcome != 0:
            self._failed.zero_()
            raise IndexError("An index in the simulator is out of bounds, or a whole number is divided by zero.")

    @property
    def failed(self) -> bool:
        """Whether a call by a sampler has failed."""
        return bool(self._failed)

    @property
    def address(self) -> int:
        """The address of the function as samplers want it: ``(dim, x, gradient, value, buffers)``."""
        return ctypes.cast(self.library.density_logp, ctypes.c_void_p).value or 0

    @property
    def copy_address(self) -> int:
        """The address of a function that copies a vector: ``(dim, dim, x, out, buffers)``."""
        return ctypes.cast(self.library.density_copy, ctypes.c_void_p).value or 0

    @property
    def data_address(self) -> int:
        """The address of the buffers, the last argument of the functions."""
        return ctypes.addressof(self.pointers)
