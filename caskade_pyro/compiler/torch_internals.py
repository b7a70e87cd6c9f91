"""What the compiler needs of torch that is not public, in one place.

Another version of torch may have changed or moved it; `tests/test_torch_internals.py` says so. Inductor is imported where it is
used, since that takes seconds.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch._C import DisableTorchFunction as unwatched  # noqa: N813 - as a block of code it is a verb
from torch._C import _DisableFuncTorch as outside_of_transforms
from torch._C import _functorch as functorch
from torch._decomp import core_aten_decompositions, global_decomposition_table
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = [
    "FakeTensorMode",
    "OpOverload",
    "TorchDispatchMode",
    "functorch",
    "inductor",
    "make_fx",
    "outside_of_transforms",
    "simpler_operations",
    "unwatched",
    "written",
]


def written(tensor: Tensor) -> None:
    """Do what was written into a tensor that a transform follows, and that it may have put off."""
    torch._sync(tensor)  # type: ignore[attr-defined,no-untyped-call]


def simpler_operations() -> dict[Any, Any]:
    """What torch itself can say in simpler operations: all of it, and what it does so by default."""
    every = {one: of for one, of in global_decomposition_table["post_autograd"].items() if isinstance(one, OpOverload)}
    return {"all": every, "core": core_aten_decompositions()}


def inductor() -> Any:
    """The parts of torch's Inductor that are used here."""
    from torch._guards import TracingContext, tracing
    from torch._inductor import config
    from torch._inductor.async_compile import AsyncCompile
    from torch._inductor.compile_fx import compile_fx_inner
    from torch._inductor.cpp_builder import CppBuilder, CppTorchOptions
    from torch._inductor.cpu_vec_isa import pick_vec_isa
    from torch._inductor.decomposition import select_decomp_table
    from torch._inductor.exc import CppCompileError
    from torch._inductor.virtualized import V

    return SimpleNamespace(
        config=config, AsyncCompile=AsyncCompile, compile_fx_inner=compile_fx_inner, CppBuilder=CppBuilder,
        CppTorchOptions=CppTorchOptions, pick_vec_isa=pick_vec_isa, select_decomp_table=select_decomp_table,
        CppCompileError=CppCompileError, V=V, TracingContext=TracingContext, tracing=tracing,
    )  # fmt: skip
