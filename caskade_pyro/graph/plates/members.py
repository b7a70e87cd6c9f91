"""The members of a plate: their values, and the vmap over them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from torch import Tensor

from ...errors import FillParamsError, PlateError
from ..arguments import check_one_of, shown, whole
from ..calls.evaluation import Evaluation, current_evaluation
from ..nodes.arrays import in_double
from ..nodes.shapes import show
from ..nodes.structure import is_param
from .batching import over_members
from .handles import bypassed, linked_outside
from .layout import Plate, PlateLayout
from .standpoint import remaining_chain

if TYPE_CHECKING:
    from ..nodes.node import Node
    from ..nodes.param import Param

__all__ = [
    "Members",
    "check_entry",
    "enter_constants",
    "map_members",
    "member_values",
    "pointer_over_plates",
    "value_over_members",
    "vmap",
]


class Members(NamedTuple):
    """The params of the members of a plate.

    Attributes:
        plate: The plate.
        params: The params: first the dynamic ones, in their order, then the static ones that have a dim for the plate.
        values: The value of each param, over all members.
        dims: The dim along which the members lie in each value; None where it is shared by all.
    """

    plate: Plate
    params: tuple[Param, ...]
    values: list[Tensor]
    dims: list[int | None]

    def nothing_batched(self, layout: PlateLayout | None = None) -> PlateError | None:
        """The error for a plate in which no param has a value for each member; the layout tells which stand outside of it."""
        if any(dim is not None for dim in self.dims):
            return None
        pairs = zip(self.params, self.values, strict=True)
        seen = ", ".join(f"{param.name} {show(value.shape)}" for param, value in pairs) or "none"
        outside = {} if layout is None else linked_outside(layout, self.plate, self.params)
        by = "; ".join(
            f"{path} is an attribute outside of it, so that all members share {name}" for name, path in outside.items()
        )
        by = (
            f" ({by}; a handle that adds no link is self.meta.{next(iter(outside.values())).rpartition('.')[2]})"
            if by
            else ""
        )
        return PlateError(
            f"Nothing is batched along plate {self.plate.name}: the values of its params have the shapes {seen}{by}. "
            "Give a param batch dims in front of its own shape, or the link a size: hierarchical_link(key, child, size=n)."
        )

    def disagreement(self, args: tuple[Any, ...] = (), arg_dims: tuple[int | None, ...] = ()) -> PlateError | None:
        """The error for params, and arguments that differ between members, which count these differently."""
        counted: dict[int, list[str]] = {}
        for param, value, dim in zip(self.params, self.values, self.dims, strict=True):
            if dim is not None:
                counted.setdefault(value.shape[dim], []).append(f"param {param.name} {show(value.shape)}")
        for index, (arg, dim) in enumerate(zip(args, arg_dims, strict=True)):
            if dim is not None and isinstance(arg, Tensor):
                counted.setdefault(arg.shape[dim], []).append(f"argument {index} {show(arg.shape)}")
        if len(counted) < 2:
            return None
        found = "; ".join(f"{size} in {', '.join(who)}" for size, who in counted.items())
        return PlateError(f"The members of plate {self.plate.name} are counted differently in this call: {found}.")


def member_values(evaluation: Evaluation, child: Node, complete: bool = True) -> Members:
    """The values of the params below a linked child, and where its members lie in them.

    Args:
        evaluation: The evaluation of the parent.
        child: The linked child.
        complete: Whether every param must have a value; otherwise those without one are left out.

    Raises:
        PlateError: The child is not hierarchically linked below what the evaluation runs.
        FillParamsError: A param has no value.
    """
    repeated = evaluation.standpoint.repeated
    known: tuple[Plate, tuple[Param, ...], tuple[_Lie, ...]] | None = repeated.get(child)
    if known is None:
        known = repeated[child] = _look_at_members(evaluation, child)
    plate, params, lies = known
    values: list[Tensor] = []
    dims: list[int | None] = []
    for lie in lies:
        value = evaluation.value(lie.param)
        if value is not None:
            along, dim = _along(lie, value, plate)
            values.append(along)
            dims.append(dim)
        elif complete:
            raise FillParamsError(f"Param {evaluation.layout.paths[lie.param]} has no value in this call.")
    if len(values) < len(params):
        params = tuple(param for param in params if evaluation.value(param) is not None)
    return Members(plate, params, values, dims)


@dataclass(frozen=True)
class _Lie:
    """Where the members of a plate lie in the value of a param.

    Attributes:
        param: The param.
        own: How many dims at the right are the param's own.
        ahead: How many plates lie around it, from this one inwards.
        index: The place of this plate among these; None if the param stands outside of it.
        repeated: Whether the graph says that there is a value for each member.
    """

    param: Param
    own: int
    ahead: int
    index: int | None
    repeated: bool


def _look_at_members(evaluation: Evaluation, child: Node) -> tuple[Plate, tuple[Param, ...], tuple[_Lie, ...]]:
    """What the layout says of the params below a linked child, remembered by the standpoint."""
    layout = evaluation.layout
    plate = layout.plate_of(child, evaluation.inside)
    if plate is None:
        for linked in layout.plates:
            if linked.module is child and (error := bypassed(layout, linked)) is not None:
                raise error
        raise PlateError(
            f"{child!r} is no plate of {evaluation.root!r}: link it with hierarchical_link, and nowhere on a path with "
            "fewer plates."
        )
    below = child.structure.members
    statics = (param for param in layout.statics_with_dim(plate.name) if param in below)
    params = (*child.structure.dynamic_params, *statics)
    return plate, params, tuple(_lie(layout, param, plate, evaluation.inside) for param in params)


def _lie(layout: PlateLayout, param: Param, plate: Plate, inside: tuple[str, ...]) -> _Lie:
    """Where the members of a plate lie in the value of a param, seen from inside of some plates."""
    placement = layout.placement(param)
    ahead = remaining_chain(layout, inside, param)
    index = ahead.index(plate.name) if plate.name in ahead else None
    return _Lie(param, len(placement.shape), len(ahead), index, plate.name in placement.plates)


def _along(lie: _Lie, value: Tensor, plate: Plate) -> tuple[Tensor, int | None]:
    """Find the dim of a value that counts the members of a plate.

    A dim of 1 that repeats nothing is taken away; a value without dims of a param that is repeated is repeated.
    """
    if lie.index is None:
        return value, None
    shape = value.shape
    batch_dims = len(shape) - lie.own
    in_front = batch_dims - lie.ahead
    dim = lie.index + in_front if in_front > 0 else lie.index
    if dim >= batch_dims:
        if lie.repeated:
            return value.expand(cast("int", plate.size), *shape), 0
        return value, None
    if shape[dim] == 1 and plate.size not in (None, 1):
        return value.squeeze(dim), None
    return value, dim


def enter_constants(module: Node, around: Evaluation, inside: tuple[str, ...], given: dict[Param, Tensor]) -> None:
    """Take the static params of members along into a plate that is entered by hand, where they are the same for all.

    Raises:
        PlateError: They differ between members, which torch.vmap over dynamic params cannot carry.
    """
    layout, below, seen = around.layout, module.structure.members, around.inside
    entered: dict[Param, Tensor] = {}
    for name in inside[len(seen) :]:
        statics = layout.statics_with_dim(name)
        if not statics:
            seen = (*seen, name)
            continue
        plate, missing = layout.plate(name), []
        for param in statics:
            value = None if param in given or param not in below else entered.get(param, around.value(param))
            if value is None:
                continue
            value, dim = _along(_lie(layout, param, plate, seen), value, plate)
            if dim is not None and value.shape[dim] != 1:
                missing.append(layout.paths[param])
            entered[param] = value if dim is None else value.select(dim, 0)
        if missing:
            raise PlateError(
                f"Static param {', '.join(missing)} has a value for each member of plate {name}, which a vmap over the "
                f"dynamic params does not carry. Use ck.vmap(self.{name.rpartition('.')[2]}.method)(...), or make it dynamic."
            )
        seen = (*seen, name)
    given.update(entered)


def map_members(
    evaluation: Evaluation,
    child: Node,
    members: Members,
    function: Callable[..., Any],
    args: tuple[Any, ...] = (),
    arg_dims: tuple[int | None, ...] = (),
    chunk_size: int | None = None,
    randomness: str = "error",
) -> Any:
    """Call a function for every member of a plate, each in an evaluation that sees this member's values."""
    params = members.params
    standpoint = evaluation.standpoint.enter(child)

    def one_member(own_args: tuple[Any, ...], values: list[Tensor]) -> Any:
        given = dict(zip(params, values, strict=True))
        with Evaluation(standpoint, given, outer=evaluation):
            return function(*own_args)

    in_dims = (arg_dims, members.dims)
    mapped = over_members(one_member, in_dims=in_dims, chunk_size=chunk_size, randomness=randomness)
    return mapped(args, members.values)


def check_entry(module: Node, around: Evaluation, inside: tuple[str, ...]) -> None:
    """Refuse to enter a plate with the values of all its members as if they were those of one."""
    if len(inside) <= len(around.inside):
        return
    for param in module.structure.dynamic_params:
        ahead = remaining_chain(around.layout, around.inside, param)
        value = around.value(param)
        if value is None or not ahead:
            continue
        batch = tuple(value.shape[: value.ndim - len(around.layout.placement(param).shape)])
        if any(size != 1 for size in batch[-len(ahead) :]):
            raise PlateError(
                f"{module!r} is called for one member of plate {inside[-1]}, but param {around.layout.paths[param]} has "
                f"the values of all of them, of shape {show(value.shape)}. Call it for each member: "
                f"ck.vmap(self.{inside[-1].rpartition('.')[2]}.method)(...)."
            )


def pointer_over_plates(evaluation: Evaluation, param: Param) -> Tensor | None:
    """The value of a pointer from where it stands in the plates.

    One outside of a plate that reads params inside sees all members, whoever asks; one inside of a plate that is asked
    for from outside is computed for each member.
    """
    layout = evaluation.layout
    if remaining_chain(layout, evaluation.inside, param):
        return value_over_members(evaluation, param)
    around = evaluation
    while not layout.summaries.get(param, frozenset()).isdisjoint(around.inside):
        around = cast("Evaluation", around.outer)
        if remaining_chain(layout, around.inside, param):
            raise PlateError(
                f"Pointer {layout.paths[param]} reads all members of plate {', '.join(layout.summaries[param])}, but is asked "
                "for by one of them. Let it read a pointer that stands outside of both plates instead."
            )
    if around is evaluation:
        return in_double(param.follow()) if evaluation.double else param.follow()
    with around.scope({}) as scope:
        return scope.value(param)


def value_over_members(evaluation: Evaluation, param: Param, mapped: list[str] | None = None) -> Tensor | None:
    """The value of a param for all members of the plates around it: for a pointer, what each member computes.

    Args:
        evaluation: The evaluation that sees all members.
        param: The param.
        mapped: Is told the plates over which a pointer was computed: these are the leading dims of the value.
    """
    mapped = [] if mapped is None else mapped
    ahead = remaining_chain(evaluation.layout, evaluation.inside, param)
    if not param.pointer or not ahead:
        return evaluation.value(param)
    child = evaluation.layout.plate(ahead[0]).module
    # A prior may ask for a pointer before all params of the members have been sampled.
    members = member_values(evaluation, child, complete=False)
    if members.nothing_batched() is None:
        mapped.append(ahead[0])
        inner_value = map_members(evaluation, child, members, lambda: value_over_members(_current(), param, mapped))
        return cast("Tensor", inner_value)
    given = dict(zip(members.params, members.values, strict=True))
    with Evaluation(evaluation.standpoint.enter(child), given, outer=evaluation) as inner:
        return value_over_members(inner, param, mapped)


def _current() -> Evaluation:
    return cast("Evaluation", current_evaluation())


def vmap(
    method: Callable[..., Any],
    in_dims: int | tuple[int | None, ...] | None = None,
    chunk_size: int | None = None,
    randomness: str = "error",
) -> Callable[..., Any]:
    """Run a forward method of a hierarchically linked child for all members of its plate at once.

    Params, and constants that differ between members, are filled in. To be used inside a forward method of the module
    that holds the link, or of one that calls it.

    Args:
        method: A forward method of the child, bound to it: ``self.galaxies.stamp``.
        in_dims: For each positional argument, the dim along which it differs between members, or None where it is the
            same for all; one entry may stand for all arguments.
        chunk_size: How many members to compute at once, to bound memory; all by default. Traced and compiled
            densities compute all at once; the latter keep next to no intermediate results.
        randomness: ``"error"``, ``"same"`` or ``"different"``, as for ``torch.vmap``.

    Returns:
        A function of the method's own arguments. What it returns has the members as its first dim; a distribution comes
        back as a distribution with the members as its first batch dim.

    Raises:
        PlateError: Outside of a call, for a module that is not linked hierarchically, or with nothing batched.

    Example:
        >>> import caskade_pyro as ck, torch
        >>> class Line(ck.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.slope = ck.Param("slope", shape=())
        ...
        ...     @ck.forward
        ...     def at(self, x, slope):
        ...         return slope * x
        >>> class Lines(ck.Module):
        ...     def __init__(self, line, n):
        ...         super().__init__()
        ...         self.hierarchical_link("lines", line, size=n)
        ...
        ...     @ck.forward
        ...     def at(self, x):
        ...         return ck.vmap(self.lines.at)(x)
        >>> Lines(Line(), 3).at(torch.tensor(2.0), torch.tensor([1.0, 2.0, 3.0]))
        tensor([2., 4., 6.])
    """
    child: Any = method.__self__ if inspect.ismethod(method) else None
    if child is None or is_param(child) or not hasattr(child, "children"):
        raise PlateError(
            f"ck.vmap needs a forward method of a linked module, such as self.galaxies.stamp; got {method!r}."
        )

    _check_settings(in_dims, chunk_size, randomness)

    def over_plate(*args: Any, **kwargs: Any) -> Any:
        evaluation = current_evaluation()
        if evaluation is None:
            raise PlateError(f"ck.vmap of {child!r} runs inside a forward method of the module that links it.")
        members = member_values(evaluation, child)
        arg_dims = in_dims if isinstance(in_dims, tuple) else (in_dims,) * len(args)
        if len(arg_dims) != len(args):
            raise PlateError(f"ck.vmap of {child!r}: in_dims has {len(arg_dims)} entries for {len(args)} arguments.")
        args = _of_picked(evaluation.layout, members.plate.name, args, arg_dims)
        if all(dim is None for dim in arg_dims) and (error := members.nothing_batched(evaluation.layout)):
            raise error
        if (error := members.disagreement(args, arg_dims)) is not None:
            raise error
        return map_members(
            evaluation, child, members, lambda *own: method(*own, **kwargs), args, arg_dims, chunk_size, randomness
        )

    return over_plate


def _check_settings(in_dims: Any, chunk_size: Any, randomness: Any) -> None:
    entries = in_dims if isinstance(in_dims, tuple) else (in_dims,)
    if not all(one is None or (isinstance(one, int) and not isinstance(one, bool)) for one in entries):
        raise PlateError(
            f"in_dims of ck.vmap must be a dim, None, or a tuple of these for the arguments; got {shown(in_dims)}."
        )
    if chunk_size is not None:
        whole("chunk_size of ck.vmap", chunk_size, 1, PlateError)
    check_one_of("randomness of ck.vmap", randomness, ("error", "same", "different"), PlateError)


def _of_picked(layout: PlateLayout, plate: str, args: tuple[Any, ...], dims: tuple[int | None, ...]) -> tuple[Any, ...]:
    """The arguments that differ between members, those of the members that the run sees."""
    if plate not in layout.picks.indices:
        return args
    return tuple(
        arg if dim is None or not isinstance(arg, Tensor) else layout.picks.rows(arg, (plate,), dim % arg.ndim)
        for arg, dim in zip(args, dims, strict=True)
    )
