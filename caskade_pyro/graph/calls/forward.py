"""The decorator of methods that compute with params."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor

from ...errors import ActiveStateError, FillParamsError
from ..nodes.structure import is_param
from ..plates.members import Members, check_entry, enter_constants, member_values
from . import ambient
from .compiling import read_graph
from .evaluation import Evaluation, active_evaluation, current_evaluation, current_root, functorch_level
from .packing import as_value, unpack

if TYPE_CHECKING:
    from ..nodes.module import Module
    from ..nodes.param import Param
    from ..nodes.values import ParamHolder
    from ..plates.layout import PlateLayout

__all__ = ["fill_params", "forward", "given_values", "open_call", "open_evaluation"]

Method = TypeVar("Method", bound=Callable[..., Any])


def forward(method: Method) -> Method:
    """Let a method receive the values of its module's params.

    Arguments named like a param of the module are filled with the values of the call. From outside, the method takes
    the params of the whole graph as one more argument, the last positional one or ``params=``: a tensor, a list or a
    dict. From inside another forward method it is called without them. A param given by keyword overrides the value
    for this call. ``{key}_params`` and ``{key}_dims``, for a hierarchically linked child, are the values of its
    dynamic params and the dims along which its members lie, to be given to ``torch.vmap``.

    Args:
        method: A method of a `Module`.

    Raises:
        FillParamsError: The params do not match the graph, or one has no value.

    Example:
        >>> import caskade_pyro as ck, torch
        >>> class Decay(ck.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.rate = ck.Param("rate", shape=())
        ...
        ...     @ck.forward
        ...     def at(self, t, rate):
        ...         return torch.exp(-rate * t)
        >>> Decay().at(torch.tensor([0.0, 1.0]), torch.tensor([2.0]))
        tensor([1.0000, 0.1353])
    """
    signature = _Signature(method)

    @wraps(method)
    def wrapped(self: Module, *args: Any, **kwargs: Any) -> Any:
        evaluation = current_evaluation()
        if evaluation is not None and self in evaluation.standpoint.online and "params" not in kwargs:
            if functorch_level() == evaluation.level:
                return signature.run(self, evaluation, args, kwargs)
            with evaluation.scope({}) as scope:
                return signature.run(self, scope, args, kwargs)
        if torch.compiler.is_compiling():
            read_graph(self)
        args, params, kwargs = signature.take_params(self, args, kwargs)
        with open_call(self, params) as evaluation:
            return signature.run(self, evaluation, args, kwargs)

    # The compiler counts its versions by code object, so each method has its own; tracebacks show the method's name.
    wrapped.__code__ = wrapped.__code__.replace(co_name=method.__name__)  # type: ignore[attr-defined]
    return cast("Method", wrapped)


def open_call(module: Module, params: Any) -> Evaluation:
    """The evaluation of a call that is given all the params that it needs.

    No params at all, ``params=()``, ask for the values that the graph holds. Whoever says so may lack some: what is missing
    is an error only where it is asked for.

    Raises:
        FillParamsError: The params do not match the graph, or one has no value.
    """
    if isinstance(params, (list, tuple)) and not params:
        return open_evaluation(module, None)
    evaluation = open_evaluation(module, params)
    if ambient.state.overrides or len(evaluation.values) < len(module.structure.dynamic_params):
        _check_complete(module, evaluation)
    return evaluation


def open_evaluation(module: ParamHolder, params: Any) -> Evaluation:
    """The evaluation of a call that is given params; inside of that of the caller, where the module belongs to it."""
    around = active_evaluation(module)
    standpoint = module.structure.layout.standpoint if around is None else around.standpoint.enter(module)
    values = given_values(module, standpoint.layout, standpoint.inside, params)
    if around is None:
        if ambient.state.overrides:
            values.update(ambient.overrides_below(module))
    else:
        if params is None:
            check_entry(module, around, standpoint.inside)
        if standpoint.carries:
            enter_constants(module, around, standpoint.inside, values)
    return Evaluation(standpoint, values, around)


def given_values(
    module: ParamHolder, layout: PlateLayout, inside: tuple[str, ...], params: Any, dynamic: bool = True
) -> dict[Param, Tensor]:
    """The values that a call is given, brought from the real line into the bounds of the params where they are such."""
    values = {} if params is None else unpack(module, layout, inside, params, dynamic)
    if ambient.state.unconstrained and ambient.takes_unconstrained(module, current_root()):
        return inside_bounds(values)
    return values


def inside_bounds(values: dict[Param, Tensor]) -> dict[Param, Tensor]:
    """Values that were given unconstrained, each inside of the bounds of its param."""
    return {param: param.from_valid(value) for param, value in values.items()}


def fill_params(module: ParamHolder, params: Any, dynamic: bool = True) -> None:
    """Give params their values for the call of a module that runs; overridden ones keep theirs.

    Raises:
        ActiveStateError: No call of this module runs, or a torch transform was entered since.
    """
    evaluation = current_evaluation()
    while evaluation is not None and evaluation.scoped:
        evaluation = evaluation.outer
    if evaluation is None or evaluation.root is not module:
        raise ActiveStateError(f"fill_params of {module!r} belongs inside of `with ActiveContext(module):`.")
    if evaluation.level != functorch_level():
        raise ActiveStateError(
            f"fill_params of {module!r} runs under a torch transform (vmap, grad, ...) that was entered after its "
            "ActiveContext, so the values would not make sense after it. Open the context inside of the transform."
        )
    values = unpack(module, evaluation.layout, evaluation.inside, params, dynamic)
    before = evaluation.previous
    where = None if before is None else before.root
    if ambient.takes_unconstrained(module, module) or ambient.takes_unconstrained(module, where):
        values = inside_bounds(values)
    if evaluation.outer is None:
        values.update(ambient.overrides_below(module))
    evaluation.fill(values)


def _check_complete(module: Module, evaluation: Evaluation) -> None:
    missing = [param for param in module.structure.dynamic_params if evaluation.value(param) is None]
    if missing:
        names = ", ".join(evaluation.layout.paths[param] for param in missing)
        raise FillParamsError(
            f"The call of {module!r} is given no value for {names}, which {'is' if len(missing) == 1 else 'are'} dynamic "
            "and without a value of its own. Pass params as the last argument, or set the value."
        )


class _Request(NamedTuple):
    """An argument that the graph fills: with the value of a param, or for the members of a linked child.

    Attributes:
        name: The argument.
        param: The param.
        child: The child whose members' values, or the dims of these, are asked for.
    """

    name: str
    param: Param | None
    child: Module | None


class _Filling(NamedTuple):
    """What a method and the graph of its module say together, remembered until the graph is edited.

    Attributes:
        requests: The arguments that the graph fills.
        most: How many positional arguments a call without keywords can have that is given no params.
    """

    requests: tuple[_Request, ...]
    most: float


class _Signature:
    """What the decorator knows of a method: which arguments it takes and which of them a graph can fill."""

    def __init__(self, method: Callable[..., Any]) -> None:
        parameters = list(inspect.signature(method).parameters.values())[1:]
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        self.method = method
        self.names = tuple(p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))
        self.positional = tuple((p.name, p.default is p.empty) for p in parameters if p.kind in positional)
        self.takes_any = any(p.kind is p.VAR_POSITIONAL for p in parameters)

    def filling(self, module: Module) -> _Filling:
        """What the graph of a module fills in."""
        remembered = module.structure.fillings
        known: _Filling | None = remembered.get(self)
        if known is None:
            requests = tuple(self._requests(module))
            known = remembered[self] = _Filling(requests, self._most_without_params(module, requests, ()))
        return known

    def _requests(self, module: Module) -> Iterator[_Request]:
        for name in self.names:
            child = module.children.get(name)
            if child is not None and is_param(child):
                yield _Request(name, cast("Param", child), None)
            elif (key := _plate_key(module, name)) is not None:
                yield _Request(name, None, cast("Module", module.children[key]))

    def take_params(
        self, module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], Any, dict[str, Any]]:
        """Separate the params of the graph from the method's own arguments."""
        if "params" in kwargs:
            kwargs = dict(kwargs)
            return args, kwargs.pop("params"), kwargs
        if not args:
            return args, None, kwargs
        requests, most = self.filling(module)
        if kwargs:
            most = self._most_without_params(module, requests, kwargs)
        return (args[:-1], args[-1], kwargs) if len(args) > most else (args, None, kwargs)

    def _most_without_params(self, module: Module, requests: tuple[_Request, ...], keywords: Iterable[str]) -> float:
        """How many positional arguments a call can have that is given no params."""
        filled = {request.name for request in requests}.union(keywords)
        if module.structure.dynamic_params:
            return sum(required for name, required in self.positional if name not in filled)
        return float("inf") if self.takes_any else self._reachable(filled)

    def _reachable(self, filled: set[str]) -> int:
        """How many arguments can be given by position: those in front of the first one that the graph fills."""
        for index, (name, _) in enumerate(self.positional):
            if name in filled:
                return index
        return len(self.positional)

    def run(self, module: Module, evaluation: Evaluation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the method with the values of an evaluation."""
        if kwargs and (overrides := _overrides(module, evaluation, kwargs)):
            own = {name: value for name, value in kwargs.items() if module.children.get(name) not in overrides}
            with evaluation.scope(overrides) as scope:
                return self._call(module, scope, args, own)
        return self._call(module, evaluation, args, kwargs)

    def _call(self, module: Module, evaluation: Evaluation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        filled: dict[str, Any] = {}
        members: Members | None = None
        for name, param, child in self.filling(module).requests:
            if param is not None:
                filled[name] = _require(evaluation, param)
            elif child is not None and name not in kwargs:
                # The values may have been looked up already, for the other of {key}_params and {key}_dims.
                if members is None or members.plate.module is not child:
                    members = member_values(evaluation, child)
                filled[name] = _grouped(child, members.values if name.endswith("_params") else members.dims)
        if members is None:
            return self.method(module, *args, **filled, **kwargs)
        try:
            return self.method(module, *args, **filled, **kwargs)
        except ValueError as error:
            # torch.vmap knows dims and sizes, but not whose they are.
            explained = members.nothing_batched() or members.disagreement()
            if explained is None or not str(error).startswith("vmap"):
                raise
            raise explained from error


def _overrides(module: Module, evaluation: Evaluation, kwargs: dict[str, Any]) -> dict[Param, Tensor]:
    """The values of a module's own params that were given by keyword."""
    overrides = {}
    for name, value in kwargs.items():
        child = module.children.get(name)
        if child is not None and is_param(child):
            param = cast("Param", child)
            overrides[param] = as_value(param, evaluation.layout.paths[param], value)
    return overrides


def _require(evaluation: Evaluation, param: Param) -> Tensor:
    value = evaluation.value(param)
    if value is None:
        what = "live and not set yet in this call" if param.live else f"{param.node_type} and has no value"
        raise FillParamsError(f"Param {evaluation.layout.paths.get(param, param.name)} is asked for, but it is {what}.")
    return value


def _plate_key(module: Module, name: str) -> str | None:
    for suffix in ("_params", "_dims"):
        key = name.removesuffix(suffix)
        if key != name and key in module.plate_declarations:
            return key
    return None


def _grouped(child: Module, entries: list[Any]) -> list[Any]:
    """What is said of the params of a linked child, dynamic ones first, in the form in which a call of the child takes it.

    That is a list for its dynamic params; with several groups of these, a list for each group.
    """
    params, groups = child.structure.dynamic_params, child.structure.groups
    if len(groups) > 1:
        by_param = list(zip(params, entries, strict=False))
        return [[entry for param, entry in by_param if param.group == group] for group in groups]
    return entries[: len(params)]
