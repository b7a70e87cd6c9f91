"""The shape of a param that declares none and has no value: that of one draw from its prior."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...errors import ParamConfigurationError, PriorError
from ..plates.distributions import without_validation
from .paths import node_path
from .shapes import Shape
from .structure import is_param

if TYPE_CHECKING:
    from .param import Param

__all__ = ["shape_of_prior"]


def shape_of_prior(param: Param) -> Shape:
    """The shape of one draw from the prior of a param, whose arguments may have such shapes themselves.

    Raises:
        ParamConfigurationError: The shape cannot be told.
        PriorError: The priors depend on each other in a circle.
    """
    known: dict[Any, Shape] = {}
    stack = [param]
    while stack:
        current = stack[-1]
        waiting = [one for one in _unknown_parents(current) if one not in known]
        if not waiting:
            known[current] = _shape_of_draw(current, known)
            stack.pop()
        elif waiting[0] in stack:
            circle = [*stack[stack.index(waiting[0]) :], waiting[0]]
            names = " -> ".join(one.name for one in circle)
            raise PriorError(f"The priors depend on each other in a circle: {names}.")
        else:
            stack.append(waiting[0])
    return known[param]


def _unknown_parents(param: Param) -> list[Param]:
    parents = param.prior.parents if param.prior is not None else ()
    return [
        one
        for one in parents
        if not one.pointer and one.declared_shape is None and one.stored_value is None and one.prior is not None
    ]


def _shape_of_draw(param: Param, known: dict[Any, Shape]) -> Shape:
    def stand_in(argument: Any) -> Any:
        if not is_param(argument):
            return argument
        value: Tensor | None = argument.value if argument.pointer else argument.stored_value
        if value is not None and not argument.batched:
            return value
        shape = known.get(argument)
        if shape is None:
            shape = argument.shape  # which would look at its prior again, were it not known
        return torch.ones(tuple(1 if size is None else size for size in shape))

    prior = param.prior
    if prior is None:
        return ()
    try:
        with without_validation():  # only the shapes of the stand-ins mean something
            built = prior.build(stand_in)
    except (AttributeError, ValueError, TypeError, RuntimeError) as error:  # a pointer may meet a value of None
        raise ParamConfigurationError(
            f"Param {node_path(param)}: its shape cannot be told from its prior {prior}; give shape=(...). ({error})"
        ) from None
    return tuple(built.batch_shape) + tuple(built.event_shape)
