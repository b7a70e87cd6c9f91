"""Populations: members of a repeated part that the simulator draws itself, in whatever number it wants."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import PlateError
from ..graph.arguments import shown, whole
from .population_sites import Drawn, draw_population

__all__ = ["draw_members", "draw_slots"]


def draw_members(module: Any, n: int | Tensor) -> tuple[list[Any], list[Any]]:
    """Draw the params of ``n`` members of a population from the priors of a module's dynamic params.

    To be used in a forward method, with the result given to ``torch.vmap``. Whatever is dynamic in the module is drawn, in
    its order, so that neither swapping the module for another kind nor fixing some of its params needs a change. Priors may
    have params of the simulator as arguments. Params that lie outside of the module, or say ``batch_shape=()``, are the same
    for all members. In a Pyro model the draws are sites in a plate of size ``n``, which may differ from run to run.

    Args:
        module: The linked module of one member: ``self.gauss``.
        n: How many members.

    Returns:
        The params, one tensor ``(n, *shape)`` for each dynamic param of the module, and for each the dim that counts the
        members: 0, or None where all share it. With several groups of params, a list of each group.

    A population may be empty, but most operations cannot be mapped over nothing by torch.vmap (torch 2.13): where ``n`` may be
    0, return what an empty population makes before mapping.

    Raises:
        MissingPriorError: A param has no prior.
        PriorError: A prior has an argument without a value here.
        PlateError: The link already says how many members there are; these are then sampled by the model, and
            ``ck.vmap`` runs over them.

    Example:
        >>> import caskade_pyro as ck, pyro.distributions as dist, torch
        >>> class Blob(ck.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.x0 = ck.Param("x0", shape=(), prior=dist.Normal(0.0, 1.0))
        ...
        ...     @ck.forward
        ...     def at(self, x, x0):
        ...         return torch.exp(-((x - x0) ** 2))
        >>> class Blobs(ck.Module):
        ...     def __init__(self, blob):
        ...         super().__init__()
        ...         self.hierarchical_link("blobs", blob)
        ...
        ...     @ck.forward
        ...     def image(self, x, n):
        ...         params, dims = ck.draw_members(self.blobs, n)
        ...         return torch.vmap(self.blobs.at, in_dims=(None, dims))(x, params).sum(0)
        >>> Blobs(Blob()).image(torch.linspace(-1, 1, 4), 7, params=()).shape
        torch.Size([4])
    """
    _check_module("ck.draw_members", module)
    size = _count(module, n)
    return _as_given_to_vmap(module, draw_population(module, size, None))


def draw_slots(module: Any, n: int | Tensor, maximum: int) -> tuple[list[Any], list[Any], Tensor]:
    """Draw a population of at most ``maximum`` members, of which the first ``n`` exist.

    As `draw_members`, but all shapes are fixed, so that the simulator can be batched, vmapped (with
    ``randomness="different"``) and compiled. The caller takes only the occupied slots into account, for example by
    ``(images * occupied[:, None, None]).sum(0)``; in a Pyro model the draws of empty slots have no part in the density.

    Args:
        module: The linked module of one member.
        n: How many members there are; under ``torch.vmap`` this may be a different number for each.
        maximum: How many slots there are.

    Returns:
        The params and dims as from `draw_members`, with ``maximum`` for ``n``; and which slots are occupied, ``(maximum,)``.

    Raises:
        PlateError: ``n`` is known to be larger than ``maximum``.
        MissingPriorError: A param has no prior.

    Example:
        >>> import caskade_pyro as ck, pyro.distributions as dist, torch
        >>> blob = ck.Module("blob")
        >>> blob.x0 = ck.Param("x0", shape=(), prior=dist.Normal(0.0, 1.0))
        >>> [x0], dims, occupied = ck.draw_slots(blob, 3, maximum=5)
        >>> x0.shape, dims, occupied.tolist()
        (torch.Size([5]), [0], [True, True, True, False, False])
    """
    _check_module("ck.draw_slots", module)
    maximum = whole("maximum", maximum, 0, PlateError)
    if not isinstance(n, Tensor):
        n = _count(module, n)
    if isinstance(n, int) and not 0 <= n <= maximum:
        raise PlateError(f"A population of {module!r} has {n} members, but there are {maximum} slots.")
    count = torch.as_tensor(n)
    occupied = torch.arange(maximum, device=count.device) < count
    return (*_as_given_to_vmap(module, draw_population(module, maximum, occupied)), occupied)


def _check_module(function: str, module: Any) -> None:
    if not hasattr(module, "dynamic_param_groups"):
        raise PlateError(f"{function} needs the linked module of one member, such as self.gauss; got {shown(module)}.")


def _count(module: Any, n: Any) -> int:
    """How many members there are; a draw of a count comes as a float."""
    value = n.item() if isinstance(n, (Tensor, np.ndarray)) and n.ndim == 0 else n
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, numbers.Integral):
        raise PlateError(f"The number of members of {module!r} must be a whole number; got {shown(n)}.")
    if value < 0:
        raise PlateError(f"A population of {module!r} cannot have {value} members.")
    return int(value)


def _as_given_to_vmap(module: Any, drawn: dict[Any, Drawn]) -> tuple[list[Any], list[Any]]:
    params = module.dynamic_params
    groups = module.dynamic_param_groups
    if len(groups) <= 1:
        return [drawn[param].value for param in params], [drawn[param].dim for param in params]
    of = [[param for param in params if param.group == group] for group in groups]
    return [[drawn[p].value for p in group] for group in of], [[drawn[p].dim for p in group] for group in of]
