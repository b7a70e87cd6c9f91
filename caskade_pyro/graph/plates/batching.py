"""torch.vmap for functions that may return distributions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.utils._pytree import tree_flatten, tree_unflatten

from .distributions import Parts, parts, without_validation

__all__ = ["all_at_once", "over_members"]

_all_at_once: ContextVar[bool] = ContextVar("all_at_once", default=False)


@contextmanager
def all_at_once() -> Iterator[None]:
    """Within the block chunk sizes are ignored, for tracing, which would write down each chunk by itself."""
    token = _all_at_once.set(True)
    try:
        yield
    finally:
        _all_at_once.reset(token)


def _ignores_chunks() -> bool:
    return not torch.compiler.is_compiling() and _all_at_once.get()  # torch.compile knows no context variables


def over_members(
    function: Callable[..., Any], in_dims: Any, chunk_size: int | None = None, randomness: str = "error"
) -> Callable[..., Any]:
    """``torch.vmap`` of a function whose result may hold distributions, which come back with one more batch dim in front.

    Args:
        function: The function of one member.
        in_dims: As for ``torch.vmap``.
        chunk_size: As for ``torch.vmap``.
        randomness: As for ``torch.vmap``.
    """

    def batched(*args: Any) -> Any:
        # What the function returned for one member, left here by the vmapped call for the line that puts it together.
        seen: list[tuple[Any, list[Parts | None]]] = []

        def tensors_of_one(*one: Any) -> list[Tensor]:
            leaves, spec = tree_flatten(function(*one))
            taken = [parts(leaf) if isinstance(leaf, Distribution) else None for leaf in leaves]
            seen[:] = [(spec, taken)]
            return [
                tensor
                for leaf, part in zip(leaves, taken, strict=True)
                for tensor in ((leaf,) if part is None else part.tensors)
            ]

        chunk = None if chunk_size is None or _ignores_chunks() else chunk_size
        with without_validation():
            tensors = iter(torch.vmap(tensors_of_one, in_dims=in_dims, chunk_size=chunk, randomness=randomness)(*args))
        spec, taken = seen[0]
        leaves = [next(tensors) if p is None else p.rebuild([next(tensors) for _ in p.tensors]) for p in taken]
        return tree_unflatten(leaves, spec)

    return batched
