"""What the decorator of forward methods knows of a method, and how it calls it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Set
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from ...errors import FillParamsError, PlateError
from ..nodes.structure import is_param
from ..plates.members import Members, member_values
from .packing import as_value

if TYPE_CHECKING:
    from torch import Tensor

    from ..nodes.module import Module
    from ..nodes.param import Param
    from .evaluation import Evaluation

__all__ = ["Signature"]


class Signature:
    """Which arguments a method takes, and which of them a graph can fill.

    Args:
        method: The method.
    """

    def __init__(self, method: Callable[..., Any]) -> None:
        parameters = list(inspect.signature(method).parameters.values())[1:]
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        self.method = method
        self.names = tuple(p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))
        self.positional = tuple((p.name, p.default is p.empty) for p in parameters if p.kind in positional)
        self.takes_any = any(p.kind is p.VAR_POSITIONAL for p in parameters)

    def take_params(
        self, module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], Any, dict[str, Any]]:
        """Separate the params of the graph from the method's own arguments."""
        if "params" in kwargs:
            kwargs = dict(kwargs)
            return args, kwargs.pop("params"), kwargs
        if not args:
            return args, None, kwargs
        filling = self._filling(module)
        most = self._most_without_params(module, {*filling.names, *kwargs}) if kwargs else filling.most
        return (args[:-1], args[-1], kwargs) if len(args) > most else (args, None, kwargs)

    def run(self, module: Module, evaluation: Evaluation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the method with the values of an evaluation."""
        if kwargs and (overrides := _overrides(module, evaluation, kwargs)):
            own = {name: value for name, value in kwargs.items() if module.children.get(name) not in overrides}
            with evaluation.scope(overrides) as scope:
                return self._call(module, scope, args, own)
        return self._call(module, evaluation, args, kwargs)

    def _call(self, module: Module, evaluation: Evaluation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        filling = self._filling(module)
        filled: dict[str, Any] = {}
        for name, param in filling.params:
            value = evaluation.value(param)
            if value is None:
                raise _no_value(evaluation, param)
            filled[name] = value
        if not filling.members:
            return self.method(module, *args, **filled, **kwargs)
        seen = _fill_members(filling, evaluation, kwargs, filled)
        try:
            return self.method(module, *args, **filled, **kwargs)
        except ValueError as error:
            # torch.vmap knows dims and sizes, but not whose they are.
            explained = _explanation(seen) if str(error).startswith("vmap") else None
            if explained is None:
                raise
            raise explained from error

    def _filling(self, module: Module) -> _Filling:
        """What the graph of a module fills in, remembered until the graph is edited."""
        remembered = module.structure.fillings
        known: _Filling | None = remembered.get(self)
        if known is None:
            known = remembered[self] = self._look_at(module)
        return known

    def _look_at(self, module: Module) -> _Filling:
        params = []
        members: dict[Module, dict[str, str]] = {}
        for name in self.names:
            child = module.children.get(name)
            key, _, what = name.rpartition("_")
            if child is not None and is_param(child):
                params.append((name, cast("Param", child)))
            elif what in ("params", "dims") and key in module.plate_declarations:
                members.setdefault(cast("Module", module.children[key]), {})[name] = what
        names = frozenset(name for name, _ in params).union(*members.values())
        pairs = tuple((child, tuple(asked.items())) for child, asked in members.items())
        return _Filling(tuple(params), pairs, names, self._most_without_params(module, names))

    def _most_without_params(self, module: Module, filled: Set[str]) -> float:
        """How many positional arguments a call can have that is given no params."""
        if module.structure.dynamic_params:
            return sum(required for name, required in self.positional if name not in filled)
        return float("inf") if self.takes_any else self._reachable(filled)

    def _reachable(self, filled: Set[str]) -> int:
        """How many arguments can be given by position: those in front of the first one that the graph fills."""
        for index, (name, _) in enumerate(self.positional):
            if name in filled:
                return index
        return len(self.positional)


class _Filling(NamedTuple):
    """The arguments of a method that the graph of its module fills.

    Attributes:
        params: Those that are filled with the value of a param.
        members: Linked children, each with the arguments that ask for its members' params, and those for their dims.
        names: All of them.
        most: How many positional arguments a call without keywords can have that is given no params.
    """

    params: tuple[tuple[str, Param], ...]
    members: tuple[tuple[Module, tuple[tuple[str, str], ...]], ...]
    names: frozenset[str]
    most: float


def _overrides(module: Module, evaluation: Evaluation, kwargs: dict[str, Any]) -> dict[Param, Tensor]:
    """The values of a module's own params that were given by keyword."""
    overrides = {}
    for name, value in kwargs.items():
        child = module.children.get(name)
        if child is not None and is_param(child):
            param = cast("Param", child)
            overrides[param] = as_value(param, evaluation.layout.paths[param], value)
    return overrides


def _no_value(evaluation: Evaluation, param: Param) -> FillParamsError:
    what = "live and not set yet in this call" if param.live else f"{param.node_type} and has no value"
    return FillParamsError(f"Param {evaluation.layout.paths.get(param, param.name)} is asked for, but it is {what}.")


def _fill_members(
    filling: _Filling, evaluation: Evaluation, kwargs: dict[str, Any], filled: dict[str, Any]
) -> list[Members]:
    """Fill in what a method asks of the members of linked children, and was not given; returns these members."""
    seen = []
    for child, asked in filling.members:
        members: Members | None = None
        for name, what in asked:
            if name in kwargs:
                continue
            if members is None:
                members = member_values(evaluation, child)
                seen.append(members)
            filled[name] = _for_call(child, members.values if what == "params" else members.dims)
    return seen


def _explanation(seen: list[Members]) -> PlateError | None:
    """Whose the dims are that do not fit each other."""
    for members in seen:
        if (found := members.nothing_batched() or members.disagreement()) is not None:
            return found
    return None


def _for_call(child: Module, entries: list[Any]) -> list[Any]:
    """What is said of the params of a linked child, dynamic ones first, in the form in which a call of the child takes it.

    That is a list for its dynamic params; with several groups of these, a list for each group.
    """
    params, groups = child.structure.dynamic_params, child.structure.groups
    if len(groups) > 1:
        by_param = list(zip(params, entries, strict=False))
        return [[entry for param, entry in by_param if param.group == group] for group in groups]
    return entries[: len(params)]
