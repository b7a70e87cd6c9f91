"""What a forward method asks of the graph, and how it is called with that."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Set
from itertools import chain
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

__all__ = ["Signature", "Wiring"]


class Signature:
    """The arguments of a method.

    Args:
        method: The method.

    Attributes:
        names: The arguments that have a name.
        positional: Those that can be given by position, and whether they must be given.
        takes_any: Whether further ones can be given by position.
    """

    def __init__(self, method: Callable[..., Any]) -> None:
        parameters = list(inspect.signature(method).parameters.values())[1:]
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        self.method = method
        self.names = tuple(p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))
        self.positional = tuple((p.name, p.default is p.empty) for p in parameters if p.kind in positional)
        self.takes_any = any(p.kind is p.VAR_POSITIONAL for p in parameters)

    def wiring(self, module: Module) -> Wiring:
        """The method's part in the graph of a module, remembered until that is edited."""
        wirings = module.structure.wirings
        known: Wiring | None = wirings.get(self)
        if known is None:
            known = wirings[self] = Wiring(self, module)
        return known


class Wiring:
    """Which arguments of a method the graph of its module fills.

    Args:
        signature: The arguments of the method.
        module: The module.

    Attributes:
        params: The arguments that are filled with the value of a param.
        members: The linked children of whose members arguments ask.
        names: All arguments that are filled.
        most: How many positional arguments a call without keywords can have that is given no params.
    """

    def __init__(self, signature: Signature, module: Module) -> None:
        self.signature = signature
        self.module = module
        params: list[tuple[str, Param]] = []
        asked: dict[Module, list[tuple[str, bool]]] = {}
        for name in signature.names:
            child = module.children.get(name)
            key, _, what = name.rpartition("_")
            if child is not None and is_param(child):
                params.append((name, cast("Param", child)))
            elif what in ("params", "dims") and key in module.plate_declarations:
                asked.setdefault(cast("Module", module.children[key]), []).append((name, what == "params"))
        self.params = tuple(params)
        self.members = tuple(_Asked(child, tuple(names), _groups(child)) for child, names in asked.items())
        self.names = frozenset(name for name, _ in chain(params, *asked.values()))
        self.most = self._most_without_params(self.names)

    def take_params(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], Any, dict[str, Any]]:
        """Separate the params of the graph from the method's own arguments."""
        if "params" in kwargs:
            kwargs = dict(kwargs)
            return args, kwargs.pop("params"), kwargs
        if not args:
            return args, None, kwargs
        most = self._most_without_params(self.names.union(kwargs)) if kwargs else self.most
        return (args[:-1], args[-1], kwargs) if len(args) > most else (args, None, kwargs)

    def _most_without_params(self, filled: Set[str]) -> float:
        """How many positional arguments a call can have that is given no params."""
        if self.module.structure.dynamic_params:
            return sum(required for name, required in self.signature.positional if name not in filled)
        return float("inf") if self.signature.takes_any else self._reachable(filled)

    def _reachable(self, filled: Set[str]) -> int:
        """How many arguments can be given by position: those in front of the first one that the graph fills."""
        for index, (name, _) in enumerate(self.signature.positional):
            if name in filled:
                return index
        return len(self.signature.positional)

    def run(self, evaluation: Evaluation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the method with the values of an evaluation."""
        module = self.module
        if kwargs and (overrides := _overrides(module, evaluation, kwargs)):
            own = {name: value for name, value in kwargs.items() if module.children.get(name) not in overrides}
            with evaluation.scope(overrides) as scope:
                return self.run(scope, args, own)
        filled: dict[str, Any] = {}
        for name, param in self.params:
            value = evaluation.value(param)
            if value is None:
                raise _no_value(evaluation, param)
            filled[name] = value
        if not self.members:
            return self.signature.method(module, *args, **filled, **kwargs)
        seen = self._fill_members(evaluation, kwargs, filled)
        try:
            return self.signature.method(module, *args, **filled, **kwargs)
        except ValueError as error:
            # torch.vmap knows dims and sizes, but not whose they are.
            explained = _explanation(seen) if str(error).startswith("vmap") else None
            if explained is None:
                raise
            raise explained from error

    def _fill_members(self, evaluation: Evaluation, kwargs: dict[str, Any], filled: dict[str, Any]) -> list[Members]:
        """Fill in what is asked of the members of linked children, and was not given; returns these members."""
        seen = []
        for asked in self.members:
            members: Members | None = None
            for name, wants_params in asked.arguments:
                if name in kwargs:
                    continue
                if members is None:
                    members = member_values(evaluation, asked.child)
                    seen.append(members)
                filled[name] = asked.for_call(members.values if wants_params else members.dims)
        return seen


class _Asked(NamedTuple):
    """What a method asks of the members of a linked child.

    Attributes:
        child: The child.
        arguments: Their names, and whether each asks for the params of the members, or for their dims.
        groups: For each group of the child's dynamic params, the places of these among all of its dynamic params.
    """

    child: Module
    arguments: tuple[tuple[str, bool], ...]
    groups: tuple[tuple[int, ...], ...]

    def for_call(self, entries: list[Any]) -> list[Any]:
        """Entries for the child's params, dynamic ones first, as a call of it takes them: in several groups, a list of each."""
        if len(self.groups) > 1:
            return [[entries[place] for place in group] for group in self.groups]
        return entries[: len(self.groups[0])] if self.groups else []


def _groups(child: Module) -> tuple[tuple[int, ...], ...]:
    params = child.structure.dynamic_params
    return tuple(
        tuple(place for place, param in enumerate(params) if param.group == group) for group in child.structure.groups
    )


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


def _explanation(seen: list[Members]) -> PlateError | None:
    """Whose the dims are that do not fit each other."""
    for members in seen:
        if (found := members.nothing_batched() or members.disagreement()) is not None:
            return found
    return None
