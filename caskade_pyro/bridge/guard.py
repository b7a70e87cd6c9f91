"""What stands between the tensors of a user and the algorithms that run a model.

Algorithms keep what they find at a site and write into it: a guide that starts at the mean of a prior moves the tensor that
it got as that mean. So every site is given copies. The dependencies that Pyro tracks through tensors (``get_dependencies``,
``render_model``, `AutoGuide`s made of these) get lost in a vmap, so every site is told them as the graph has them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from pyro.ops.provenance import ProvenanceTensor, get_provenance, track_provenance
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import Distribution, Transform
from torch.distributions.constraints import Constraint
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.overrides import TorchFunctionMode

from ..graph.calls.evaluation import functorch_level
from .distributions import own_objects

__all__ = ["Guard", "Parents", "plain_shapes", "with_tensors"]

Parents = Mapping[str, Iterable[str]]
"""By the name of a site, those that it depends on directly."""


class Guard(Messenger):
    """Gives every site of a run copies of its distribution and data, and the dependencies that it has.

    It belongs around the whole run, so that it sees a site after the model's plates and before any algorithm.

    Args:
        parents: What each site depends on, as far as it is known before the simulator runs.

    Attributes:
        parents: What each site depends on.
        tracked: By site, what Pyro tracks of it; empty where Pyro does not.
    """

    def __init__(self, parents: Parents) -> None:
        super().__init__()
        self.parents = dict(parents)
        self.tracked: dict[str, frozenset[Any]] = {}

    def _pyro_sample(self, msg: Any) -> None:
        if type(msg["fn"]).__name__ == "_Subsample":
            return
        if _is_ours():
            msg["fn"] = own_objects(msg["fn"])
        elif msg["is_observed"]:
            msg["value"] = _copied(msg["value"])
        else:
            msg["fn"] = with_tensors(msg["fn"], _copied)
        known = self._provenance(msg["name"]) if self.tracked else frozenset()
        if known:
            msg["fn"] = with_tensors(msg["fn"], lambda tensor: track_provenance(tensor, known))
            if msg["infer"].get("_deterministic"):
                msg["value"] = track_provenance(msg["value"], known)

    def _pyro_post_sample(self, msg: Any) -> None:
        if isinstance(msg["value"], ProvenanceTensor):
            self.tracked[msg["name"]] = get_provenance(msg["value"])

    def _provenance(self, name: str) -> frozenset[Any]:
        """What Pyro is to know that a site depends on."""
        found, waiting, seen = frozenset[Any](), [name], {name}
        while waiting:
            for one in self.parents.get(waiting.pop(), ()):
                if one in self.tracked:
                    found |= self.tracked[one]
                elif one not in seen:  # a pointer, which is reported later than a prior needs it
                    seen.add(one)
                    waiting.append(one)
        return found


def _is_ours() -> bool:
    """Whether a density of our own is traced or mapped, which writes into nothing."""
    return torch.compiler.is_compiling() or functorch_level() > 0 or get_proxy_mode() is not None


def _copied(tensor: Tensor) -> Tensor:
    """A tensor with memory of its own; one that is just computed has it already."""
    fresh = tensor.grad_fn is not None and not tensor._is_view()
    return tensor if fresh else tensor.clone()


def with_tensors(
    thing: Any, change: Callable[[Tensor], Tensor], known: dict[int, tuple[Any, Any]] | None = None
) -> Any:
    """A distribution with other tensors in it, however deep they lie; what holds none is kept as it is.

    Args:
        thing: A distribution; or what it is made of: transforms, constraints, and lists of these.
        change: From a tensor the one to put in its place; a tensor that stands in two places is changed once.
        known: What was changed before, with the original, by the identity of the original.
    """
    known = {} if known is None else known
    if id(thing) in known:
        return known[id(thing)][1]
    found = thing
    known[id(thing)] = (thing, thing)  # a transform and its inverse may hold each other
    if isinstance(thing, Tensor):
        found = change(thing)
    elif isinstance(thing, (list, tuple)) and type(thing) in (list, tuple):
        parts = [with_tensors(one, change, known) for one in thing]
        if any(new is not old for new, old in zip(parts, thing, strict=True)):
            found = type(thing)(parts)
    elif isinstance(thing, (Distribution, Transform, Constraint)) and not isinstance(thing, torch.nn.Module):
        found = _with_parts(thing, change, known)
    known[id(thing)] = (thing, found)
    return found


def _with_parts(thing: Any, change: Callable[[Tensor], Tensor], known: dict[int, tuple[Any, Any]]) -> Any:
    before = vars(thing)
    parts = {name: with_tensors(value, change, known) for name, value in before.items()}
    if all(parts[name] is value for name, value in before.items()):
        return thing
    found = copy.copy(thing)
    found.__dict__.update(parts)
    if isinstance(thing, Transform) and not isinstance(parts.get("_inv"), Transform):
        found.__dict__["_inv"] = None  # a weak reference to the inverse of the original
    return found


_set_tracing_state: Callable[[Any], None] = torch._C._set_tracing_state  # type: ignore[attr-defined]  # not in its stubs


class _PlainShapes(TorchFunctionMode):
    """Sizes of tensors are numbers, also where ``torch.jit.trace`` would make tensors of them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in _SIZES:
            return func(*args, **(kwargs or {}))
        state = torch._C._get_tracing_state()
        _set_tracing_state(None)
        try:
            return func(*args, **(kwargs or {}))
        finally:
            _set_tracing_state(state)


_SIZES = frozenset({Tensor.shape.__get__, Tensor.size, Tensor.numel, Tensor.nelement, Tensor.__len__})  # type: ignore[attr-defined]


def plain_shapes() -> AbstractContextManager[Any]:
    """Where ``torch.jit.trace`` runs, sizes stay numbers: those of a model are the same in each run."""
    return _PlainShapes() if torch._C._get_tracing_state() is not None else nullcontext()
