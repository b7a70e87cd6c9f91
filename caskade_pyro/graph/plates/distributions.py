"""Distributions as tensors: taken apart, with their batch dims in front, and built again.

A distribution is no tensor, so it cannot cross a vmap, be given further batch dims or have them reordered. Its
parameters can.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import singledispatch
from threading import Lock
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MixtureSameFamily, constraints

from ...errors import NotBatchableError
from ..nodes.shapes import show

__all__ = ["Parts", "arguments", "map_batch", "parts", "with_validation", "without_validation"]

_SAME_MATRIX = ("covariance_matrix", "precision_matrix", "scale_tril")


@dataclass(frozen=True)
class Parts:
    """A distribution taken apart.

    Attributes:
        tensors: Its parameters, each with all batch dims of the distribution in front.
        rebuild: From such tensors, possibly with other batch dims, the distribution.
    """

    tensors: tuple[Tensor, ...]
    rebuild: Callable[[Sequence[Tensor]], Distribution]


@singledispatch
def parts(distribution: Distribution) -> Parts:
    """Take a distribution apart; register a function for a class whose constructor does not take its parameters.

    Raises:
        NotBatchableError: It cannot be taken apart.
    """
    names, constants = arguments(distribution)
    nested = {name: parts(value) for name, value in constants.items() if isinstance(value, Distribution)}
    batch = tuple(distribution.batch_shape)
    tensors = []
    for name in names:
        own = _own_dims(distribution, name)
        value = getattr(distribution, name)
        tensors.append(value.expand(batch + tuple(value.shape[value.ndim - own :])))
    tensors += [tensor for inner in nested.values() for tensor in inner.tensors]
    kind: Callable[..., Distribution] = type(distribution)
    if not tensors or any(_may_hold_tensors(value) for name, value in constants.items() if name not in nested):
        raise _cannot(distribution)

    def rebuild(values: Sequence[Tensor]) -> Distribution:
        left = iter(values)
        given = {name: next(left) for name in names}
        built = {name: inner.rebuild([next(left) for _ in inner.tensors]) for name, inner in nested.items()}
        return kind(**constants | given | built)

    with without_validation():
        again = rebuild(tensors)
    if (again.batch_shape, again.event_shape) != (distribution.batch_shape, distribution.event_shape):
        raise _cannot(distribution)
    return Parts(tuple(tensors), rebuild)


@parts.register
def _(distribution: Independent) -> Parts:  # type: ignore[type-arg] # torch has it generic, Pyro does not
    base = parts(distribution.base_dist)
    kind, dims = type(distribution), distribution.reinterpreted_batch_ndims
    return Parts(base.tensors, lambda values: kind(base.rebuild(values), dims))


@parts.register
def _(distribution: MixtureSameFamily) -> Parts:
    # Weights that all observations share have no dims for them, and could not be told from weights of their own.
    weights, components = distribution.mixture_distribution, distribution.component_distribution
    if weights.batch_shape != distribution.batch_shape:
        weights = weights.expand(distribution.batch_shape)
    first, second = parts(weights), parts(components)
    kind: Callable[..., Distribution] = type(distribution)
    count = len(first.tensors)
    return Parts(
        (*first.tensors, *second.tensors),
        lambda values: kind(first.rebuild(values[:count]), second.rebuild(values[count:])),
    )


def map_batch(distribution: Distribution, change: Callable[[Tensor], Tensor]) -> Distribution:
    """The distribution with ``change`` applied to each of its parameters, batch dims in front."""
    taken = parts(distribution)
    return taken.rebuild([change(tensor) for tensor in taken.tensors])


def arguments(distribution: Distribution) -> tuple[list[str], dict[str, Any]]:
    """The constructor's arguments that are parameters, and those that are constants."""
    kind = type(distribution)
    names: list[str] = []
    constants: dict[str, Any] = {}
    for argument in list(inspect.signature(kind.__init__).parameters.values())[1:]:
        name = argument.name
        if name == "validate_args":
            continue
        value = getattr(distribution, name, None) if _stores(distribution, name) else None
        if isinstance(value, Tensor) and name in distribution.arg_constraints:
            names.append(name)
        elif value is not None and not isinstance(value, Tensor):
            constants[name] = value
        elif argument.default is argument.empty:
            raise _cannot(distribution)
    return _one_of_each(distribution, names), constants


def _may_hold_tensors(constant: Any) -> bool:
    """Whether a constant may be hiding parameters, as a list of transforms does."""
    values = constant if isinstance(constant, tuple) else (constant,)
    return not all(isinstance(value, (bool, int, float, str, torch.dtype)) for value in values)


def _stores(distribution: Distribution, name: str) -> bool:
    """Whether an argument is kept, as an attribute or behind a property that is not computed from another one."""
    return name in distribution.__dict__ or isinstance(inspect.getattr_static(type(distribution), name, None), property)


def _one_of_each(distribution: Distribution, names: list[str]) -> list[str]:
    """Of parameters that say the same in different forms, the one that was given."""
    if "probs" in names and "logits" in names:
        given = getattr(distribution, "_param", None)
        names.remove("logits" if given is None or given is getattr(distribution, "probs", None) else "probs")
    if any(name in _SAME_MATRIX for name in names):
        names = [name for name in names if name not in _SAME_MATRIX] + ["scale_tril"]
    return names


def _own_dims(distribution: Distribution, name: str) -> int:
    constraint = distribution.arg_constraints[name]
    return int(constraint.event_dim) if not constraints.is_dependent(constraint) else 0


def _cannot(distribution: Distribution) -> NotBatchableError:
    return NotBatchableError(
        f"A {type(distribution).__name__} of batch shape {show(distribution.batch_shape)} cannot be taken apart into its "
        "parameters, which a vmap over members or replicates needs. Return the prediction instead, and give the "
        "distribution as likelihood= of the PyroModel."
    )


_lock = Lock()
_before: list[bool] = []


@contextmanager
def without_validation() -> Iterator[None]:
    """Build distributions without checks of their parameters, whose outcome a vmap or a tracer cannot branch on."""
    if torch.compiler.is_compiling():
        yield
        return
    with _lock:
        _before.append(Distribution._validate_args)
        Distribution._validate_args = False
    try:
        yield
    finally:
        # Whichever thread comes last takes what the first one found.
        with _lock:
            found = _before.pop()
            if not _before:
                Distribution._validate_args = found


@contextmanager
def with_validation() -> Iterator[None]:
    """Check the parameters of distributions that are built here, though torch.compile or others switched that off."""
    with _lock:
        found, Distribution._validate_args = Distribution._validate_args, True
    try:
        yield
    finally:
        with _lock:
            Distribution._validate_args = found
