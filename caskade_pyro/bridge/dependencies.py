"""What a prediction depends on, found by following derivatives from it to the params."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from ..errors import ModelError
from ..graph.plates.distributions import arguments, parts
from ..graph.plates.layout import PlateLayout
from .simulate import Values

__all__ = ["dependencies", "mixed_plates", "reached", "write_out"]


class NoDerivativeError(ModelError):
    """The simulator does what has no derivative."""


def dependencies(distribution: Distribution, tracked: Values) -> tuple[Any, ...]:
    """The params with a path of derivatives to a distribution; all of them, where it cannot be told."""
    try:
        return _reached(parts(distribution).tensors, tracked)
    except ModelError:
        return tuple(tracked)


def reached(tensors: Sequence[Tensor], tracked: Values) -> tuple[Any, ...]:
    """The params with a path of derivatives to some tensors; all of them, where it cannot be told."""
    try:
        return _reached(tensors, tracked)
    except ModelError:
        return tuple(tracked)


def _reached(tensors: Sequence[Tensor], tracked: Values) -> tuple[Any, ...]:
    params = [param for param, value in tracked.items() if value.requires_grad and value.numel() > 0]
    with torch.enable_grad():  # a model may first be looked at where derivatives are switched off
        outputs = [tensor.sum() for tensor in tensors if tensor.requires_grad]
    if not outputs or not params:
        return ()
    inputs = [tracked[param] for param in params]
    gradients = _gradients(outputs, inputs)
    return tuple(param for param, gradient in zip(params, gradients, strict=True) if gradient is not None)


def _gradients(outputs: Sequence[Tensor], inputs: Sequence[Tensor]) -> Sequence[Tensor | None]:
    """The derivatives of a sum; None for inputs that do not enter."""
    try:
        return torch.autograd.grad(outputs, inputs, allow_unused=True, retain_graph=True)
    except RuntimeError as error:  # an operation without a derivative, which nobody needs to draw from the model
        raise NoDerivativeError(str(error)) from error


def mixed_plates(
    distribution: Distribution, names: Sequence[str], layout: PlateLayout, tracked: Values
) -> tuple[str, ...]:
    """The plates in which the prediction for the first member depends on other members.

    Args:
        distribution: What is predicted.
        names: The names of the dims of the data; those of the distribution are the last ones.
        layout: The plates of the graph.
        tracked: The values of the params that the prediction was made from.
    """
    batch = tuple(distribution.batch_shape)
    own = names[len(names) - len(batch) :]
    members = {
        plate: [p for p, v in tracked.items() if v.requires_grad and plate in layout.placement(p).chain]
        for plate in own
    }
    if not any(members.values()):
        return ()
    try:
        tensors = [tensor for tensor in parts(distribution).tensors if tensor.requires_grad]
    except ModelError:
        return ()
    found = []
    for dim, plate in enumerate(own):
        firsts = [tensor.select(dim, 0).sum() for tensor in tensors]
        if members[plate] and firsts and batch[dim] > 1:
            inputs = [tracked[param] for param in members[plate]]
            try:
                gradients = _gradients(firsts, inputs)
            except NoDerivativeError:
                return ()
            if any(
                _of_others(layout, p, plate, g) for p, g in zip(members[plate], gradients, strict=True) if g is not None
            ):
                found.append(plate)
    return tuple(found)


def _of_others(layout: PlateLayout, param: Any, plate: str, gradient: Tensor) -> bool:
    """Whether the derivative in a param of a plate's members is none in the first of them alone."""
    placement = layout.placement(param)
    dim = len(placement.root_shape) + placement.chain.index(plate)
    batch = gradient.ndim - len(placement.shape)
    return dim < batch and bool(gradient.narrow(dim, 1, gradient.shape[dim] - 1).any())


def write_out(distribution: Distribution, tracked: Values) -> str:
    """A distribution as one would write it: arguments that are the value of a param by its name, numbers as they are."""
    while type(distribution).__name__ in ("Independent", "ExpandedDistribution", "MaskedDistribution"):
        distribution = distribution.base_dist  # type: ignore[attr-defined]
    try:
        names, _ = arguments(distribution)
    except ModelError:
        return type(distribution).__name__
    shown = [_write_argument(name, getattr(distribution, name), tracked) for name in names]
    return f"{type(distribution).__name__}({', '.join(shown)})"


def _write_argument(name: str, value: Tensor, tracked: Values) -> str:
    try:
        reached = _reached([value], tracked)
    except NoDerivativeError:
        return name
    if not reached:
        return f"{value.reshape(-1)[0].item():.4g}" if _same(value, value.reshape(-1)[:1]) else name
    known = tracked[reached[0]]
    one = known if known.shape == value.shape else known.reshape(-1)[:1]
    return str(reached[0].name) if len(reached) == 1 and _same(value, one) else name


def _same(value: Tensor, known: Tensor) -> bool:
    return value.numel() > 0 and bool((value == known).all())
