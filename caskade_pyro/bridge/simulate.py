"""Running a simulator at given values of its params."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from torch import Tensor

from ..errors import ModelError
from ..graph.calls.evaluation import Evaluation
from ..graph.nodes.node import Node
from ..graph.nodes.shapes import Shape
from ..graph.plates.batching import over_members
from ..graph.plates.layout import PlateLayout
from ..graph.plates.members import value_over_members

__all__ = ["Values", "owner", "pointer_values", "simulate"]

Values = dict[Any, Tensor]
"""Values of params, each with the batch dims that its placement gives it: replicates, plates, its own shape."""


def owner(method: Callable[..., Any]) -> Any:
    """The module that a forward method is bound to.

    Raises:
        ModelError: It is no bound method of a module.
    """
    module = getattr(method, "__self__", None)
    if module is None or not hasattr(module, "dynamic_params") or not hasattr(module, "children"):
        raise ModelError(
            f"A model is made of a bound forward method, such as survey.stamps; got {method!r}."
            + (" Give the method, not the module." if hasattr(method, "dynamic_params") else "")
        )
    if not hasattr(method, "__wrapped__"):
        raise ModelError(f"{method.__qualname__} is no forward method: decorate it with @ck.forward.")
    return module


def simulate(
    layout: PlateLayout, method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], values: Values
) -> Any:
    """What a forward method returns for these values, the replicates of the whole model as its first dims."""
    module = owner(method)
    if isinstance(module, Node):
        return _over_replicates(layout, values, lambda _: method(*args, **kwargs))
    if layout.root_shape:
        raise ModelError(
            f"{layout.root!r} is a module of another package and cannot be replicated here; give it no outer batch."
        )
    return method(*args, params=[values[param] for param in module.dynamic_params], **kwargs)


def pointer_values(layout: PlateLayout, values: Values, pointer: Any) -> tuple[Tensor, tuple[str, ...]]:
    """What a pointer computes for all members of the plates around it.

    Returns:
        The value, and the names of the plates that its leading dims count.

    Raises:
        ModelError: It has no value.
    """
    mapped: list[str] = []
    value = _over_replicates(layout, values, lambda evaluation: value_over_members(evaluation, pointer, mapped))
    if value is None:
        raise ModelError(f"Param {layout.paths[pointer]} has no value, but a prior depends on it.")
    replicates = [plate.name for plate in layout.plates if plate.module is layout.root]
    return value, (*replicates, *mapped)


def _over_replicates(layout: PlateLayout, values: Values, function: Callable[[Evaluation], Any]) -> Any:
    """Call a function in an evaluation with these values, for all replicates of the whole model at once."""
    replicates = layout.root_shape
    if not replicates:
        with Evaluation(layout.standpoint, values) as evaluation:
            return function(evaluation)
    given = dict(values)
    for placement in layout.placements:
        if placement.param.static and placement.root_shape:
            given[placement.param] = cast("Tensor", placement.param.stored_value)  # its batch dims are those of a value
    padded = {p: _pad(v, len(replicates) - len(layout.placement(p).root_shape)) for p, v in given.items()}
    return _over_first_dims(layout, padded, replicates, function)


def _pad(value: Tensor, dims: int) -> Tensor:
    return value.reshape((1,) * dims + tuple(value.shape))


def _over_first_dims(layout: PlateLayout, values: Values, sizes: Shape, function: Callable[[Evaluation], Any]) -> Any:
    if not sizes:
        with Evaluation(layout.standpoint, values) as evaluation:
            return function(evaluation)
    params = list(values)
    shared = [values[param].shape[0] == 1 != sizes[0] for param in params]
    inner = [values[param].squeeze(0) if one else values[param] for param, one in zip(params, shared, strict=True)]
    dims = [None if one else 0 for one in shared]
    return over_members(
        lambda own: _over_first_dims(layout, dict(zip(params, own, strict=True)), sizes[1:], function),
        in_dims=(dims,),
    )(inner)
