"""Params as one vector, a list or a dict: taking them apart and putting them together.

The vector form concatenates the params in their order, each flattened over its plate dims and its own dims; dims in
front of the vector are batch dims of the whole model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...errors import (
    FillParamsArrayError,
    FillParamsError,
    FillParamsMappingError,
    FillParamsSequenceError,
    ParamConfigurationError,
    ParamTypeError,
)
from ..nodes.arrays import as_array, of_numbers
from ..nodes.shapes import Shape, Template, broadcast_shapes, fits, show
from ..nodes.structure import is_param
from ..plates.layout import PlateLayout
from ..plates.standpoint import remaining_chain

if TYPE_CHECKING:
    from ..nodes.node import Node
    from ..nodes.param import Param

__all__ = [
    "Slot",
    "Values",
    "as_value",
    "descend",
    "pack",
    "slots",
    "to_dict",
    "unpack",
    "unpack_group",
]

Values = dict["Param", Tensor]


@dataclass(frozen=True)
class Slot:
    """The place of a param in the vector.

    Attributes:
        param: The param.
        path: Its path, for messages.
        shape: Its plate dims and its own dims.
        size: The number of entries that it takes.
        padding: How many of the plates around it it says nothing of; with batch dims in front these become dims of 1.
    """

    param: Param
    path: str
    shape: Shape
    size: int
    padding: int

    @property
    def is_flat(self) -> bool:
        """Whether the entries lie in the vector as they lie in the value."""
        return self.shape == (self.size,)


class Slots(tuple[Slot, ...]):
    """The places of some params in a vector, in order, and what a call needs of all of them.

    Attributes:
        sizes: The number of entries of each.
        length: The number of entries of all.
        all_scalar: Whether each takes one entry and has no dims.
        all_flat: Whether the entries of each lie in the vector as they lie in the value.
    """

    sizes: list[int]
    length: int
    all_scalar: bool
    all_flat: bool

    def __new__(cls, places: Iterable[Slot]) -> Slots:
        made = super().__new__(cls, places)
        made.sizes = [slot.size for slot in made]
        made.length = sum(made.sizes)
        made.all_scalar = all(slot.shape == () for slot in made)
        made.all_flat = all(slot.is_flat for slot in made)
        return made


def slots(layout: PlateLayout, node: Node, params: Sequence[Param], inside: tuple[str, ...]) -> Slots:
    """The places of some params in the vector of a module, seen from inside of some plates."""
    result = []
    for param in params:
        placement = layout.placement(param)
        chain = remaining_chain(layout, inside, param)
        own = placement.plate_shape[len(placement.chain) - len(chain) :]
        if None in placement.shape:
            raise ParamConfigurationError(
                f"Param {placement.site} has the shape {show(placement.shape)} and no value yet, so {node!r} cannot tell "
                "its length in a vector; give it a value, or pass params as a list or dict."
            )
        shape = own + placement.shape
        result.append(Slot(param, placement.site, shape, prod(shape), len(chain) - len(own)))
    return Slots(result)


# Taking apart


def unpack(node: Node, layout: PlateLayout, inside: tuple[str, ...], params: Any, dynamic: bool = True) -> Values:
    """The value of each param of a module from the form in which they were given.

    Args:
        node: The module.
        layout: The layout that gives the dims their meaning.
        inside: The plates of which one member is seen.
        params: A tensor ``(*batch, n)``, a sequence with one value for each param, or a (nested) dict by name; with
            several groups of params, a sequence of these.
        dynamic: Whether these are the dynamic params, or the static ones.

    Raises:
        FillParamsError: Too many or too few values, an unknown name, or a wrong shape.
    """
    structure = node.structure
    chosen = structure.dynamic_params if dynamic else structure.static_params
    groups = structure.groups if dynamic else tuple(sorted({param.group for param in chosen}))
    if len(groups) <= 1:
        return unpack_group(node, layout, inside, params, chosen)
    if not isinstance(params, (list, tuple)) or len(params) != len(groups):
        given = f"{len(params)} of them" if isinstance(params, (list, tuple)) else f"a {type(params).__name__}"
        raise FillParamsSequenceError(
            f"{node!r} has the param groups {list(groups)} and needs a list with the params of each; got {given}."
        )
    values: Values = {}
    for group, group_params in zip(groups, params, strict=True):
        members = tuple(param for param in chosen if param.group == group)
        values.update(unpack_group(node, layout, inside, group_params, members))
    return values


def unpack_group(
    node: Node, layout: PlateLayout, inside: tuple[str, ...], params: Any, chosen: tuple[Param, ...]
) -> Values:
    """As `unpack`, for the params of one group."""
    # Lists first: these are the params of a member, given for each call under a torch.vmap.
    if isinstance(params, (list, tuple)):
        return _unpack_sequence(node, layout, params, chosen)
    if isinstance(params, Tensor):
        return _unpack_tensor(node, layout, inside, params, chosen)
    if isinstance(params, Mapping):
        return _unpack_mapping(node, layout, params, chosen)
    if isinstance(params, Sequence) and not isinstance(params, str):
        return _unpack_sequence(node, layout, params, chosen)
    raise FillParamsError(f"The params of {node!r} must be a tensor, a list or a dict, not a {type(params).__name__}.")


def _unpack_tensor(
    node: Node, layout: PlateLayout, inside: tuple[str, ...], params: Tensor, chosen: tuple[Param, ...]
) -> Values:
    places = cached_slots(layout, node, chosen, inside)
    shape, dtype = params.shape, params.dtype
    if not shape or shape[-1] != places.length:
        table = "\n".join(f"  {slot.path}: {slot.size} {show(slot.shape)}" for slot in places)
        raise FillParamsArrayError(
            f"{node!r} needs a vector of {places.length} params, the last dim of a tensor; got the shape "
            f"{show(params.shape)}." + (f"\n{table}" if places else "")
        )
    inexact = dtype.is_floating_point or dtype.is_complex
    if inexact and len(shape) == 1 and places.all_scalar:
        return dict(zip(chosen, params.unbind(), strict=True))
    if inexact and len(shape) == 1 and places.all_flat:
        return dict(zip(chosen, params.split_with_sizes(places.sizes), strict=True))
    batch = tuple(shape[:-1])
    pieces = params.split_with_sizes(places.sizes, dim=-1) if places else ()
    if not inexact:
        pieces = tuple(as_inexact(slot.param, piece) for slot, piece in zip(places, pieces, strict=True))
    if not batch:
        return {
            slot.param: piece if slot.is_flat else piece.reshape(slot.shape)
            for slot, piece in zip(places, pieces, strict=True)
        }
    values = {}
    for slot, piece in zip(places, pieces, strict=True):
        own = len(slot.shape) - len(layout.placement(slot.param).shape)
        values[slot.param] = piece.reshape(batch + slot.shape[:own] + (1,) * slot.padding + slot.shape[own:])
    return values


def cached_slots(layout: PlateLayout, node: Node, chosen: tuple[Param, ...], inside: tuple[str, ...]) -> Slots:
    """`slots`, remembered by the layout, since every call needs them."""
    key = (node, inside, chosen)
    found = layout.remembered.get(key)
    if found is None:
        found = layout.remembered[key] = slots(layout, node, chosen, inside)
    return found


def _unpack_sequence(node: Node, layout: PlateLayout, params: Sequence[Any], chosen: tuple[Param, ...]) -> Values:
    if len(params) != len(chosen):
        names = ", ".join(layout.paths[param] for param in chosen) or "none"
        raise FillParamsSequenceError(
            f"{node!r} needs a list of {len(chosen)} params, got {len(params)}. In this order: {names}."
        )
    values = {}
    for param, value in zip(chosen, params, strict=True):
        values[param] = value if _is_plain(value, param.declared_shape) else as_value(param, layout.paths[param], value)
    return values


def _is_plain(value: Any, template: Template | None) -> bool:
    """Whether a value is floating and ends with the param's own shape, as nearly all do: then it is taken as it is."""
    if template is None or not isinstance(value, Tensor) or not value.dtype.is_floating_point:
        return False
    return not template or value.shape[value.ndim - len(template) :] == template


def _unpack_mapping(node: Node, layout: PlateLayout, params: Mapping[str, Any], chosen: tuple[Param, ...]) -> Values:
    values: Values = {}
    stack: list[tuple[Node, Mapping[str, Any]]] = [(node, params)]
    while stack:
        here, mapping = stack.pop()
        for key, value in mapping.items():
            child = descend(node, here, key)
            if is_param(child) and not isinstance(value, Mapping):
                values[child] = as_value(child, layout.paths[child], value)  # type: ignore[index,arg-type]
            elif isinstance(value, Mapping):
                stack.append((child, value))
            else:
                below = child.structure.members
                members = tuple(param for param in chosen if param in below)
                values.update(unpack_group(child, layout, layout.chains[child], value, members))
    return values


def descend(root: Node, node: Node, key: str) -> Node:
    """The node at a key, or at the end of a path of keys joined by dots."""
    for part in str(key).split("."):
        if part not in node.children:
            known = ", ".join(node.children) or "none"
            raise FillParamsMappingError(
                f"The params of {root!r} name {key!r}, but {node!r} has no child {part!r}; its children are {known}."
            )
        node = node.children[part]
    return node


def as_inexact(param: Param, value: Tensor) -> Tensor:
    """Integers given to a call become floating, unless the param itself has such a dtype."""
    if value.is_floating_point() or value.is_complex() or param.dtype == value.dtype:
        return value
    return value.to(torch.get_default_dtype())


def as_value(param: Param, path: str, value: Any) -> Tensor:
    """A value given to a call, as a tensor that ends with the param's own shape.

    Raises:
        FillParamsError: It does not.
    """
    template = param.declared_shape
    if isinstance(value, Tensor):
        tensor = as_inexact(param, value)
    else:
        try:
            tensor = torch.as_tensor(as_array(value), dtype=_dtype_of(param), device=param.device)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ParamTypeError(f"Param {path}: {value!r} is no number, array or tensor ({error}).") from None
        tensor = as_inexact(param, tensor)
        tensor = of_numbers(tensor, value) if param.declared_dtype is None else tensor
    if template is not None:
        split = tensor.ndim - len(template)
        if split < 0 or not fits(tuple(tensor.shape[split:]), template):
            raise FillParamsError(
                f"Param {path}: got a value of shape {show(tensor.shape)}, but the param's own shape is {show(template)}; "
                "batch dims go in front of it."
            )
    return tensor


def _dtype_of(param: Param) -> torch.dtype | None:
    """The dtype that a value is brought to; None where it keeps its own, as it does of a param in the default precision."""
    known = param.dtype
    return None if param.declared_dtype is None and known == torch.get_default_dtype() else known


# Putting together


def pack(
    node: Node,
    layout: PlateLayout,
    inside: tuple[str, ...],
    params: tuple[Param, ...],
    value_of: Callable[[Param], Tensor],
) -> Tensor:
    """The vector of some params, with the batch dims of the whole model in front."""
    pieces: list[tuple[Shape, int, Tensor]] = []
    for slot in cached_slots(layout, node, params, inside):
        value = value_of(slot.param)
        own = len(layout.placement(slot.param).shape)
        chain = len(remaining_chain(layout, inside, slot.param))
        batch_dims = max(0, value.ndim - own - chain)
        batch = tuple(value.shape[:batch_dims])
        rest = tuple(value.shape[batch_dims:])
        if rest != slot.shape and prod(rest) != slot.size:
            value = value.expand(batch + slot.shape)
        pieces.append((batch, slot.size, value.reshape((*batch, slot.size))))
    if not pieces:
        return torch.zeros(0)
    batch = broadcast_shapes(*(batch for batch, _, _ in pieces))
    return torch.cat([value.expand((*batch, size)) for _, size, value in pieces], dim=-1)


def to_dict(node: Node, params: tuple[Param, ...], value_of: Callable[[Param], Any]) -> dict[str, Any]:
    """A nested dict that follows the links, each param once, at the first place that leads to it."""
    wanted = set(params)
    result: dict[str, Any] = {}
    visited = {node}
    stack = [(node, result)]
    filled: list[tuple[dict[str, Any], str, dict[str, Any]]] = []
    while stack:
        here, into = stack.pop()
        deeper: list[tuple[Node, dict[str, Any]]] = []
        for key, child in here.children.items():
            if child in visited:
                continue
            visited.add(child)
            if child in wanted:
                into[key] = value_of(child)
            else:
                into[key] = {}
                filled.append((into, key, into[key]))
                deeper.append((child, into[key]))
        stack.extend(reversed(deeper))
    for into, key, branch in reversed(filled):
        if not branch:
            del into[key]
    return result
