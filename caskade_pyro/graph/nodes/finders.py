"""Finding the param behind an index of the vector of params, and the index of a param."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from ...errors import ParamConfigurationError, ParamIndexError
from ..calls.evaluation import active_evaluation
from ..calls.packing import Slot, cached_slots
from .node import Node
from .structure import is_param

if TYPE_CHECKING:
    from .param import Param
    from .shapes import Shape

__all__ = ["Finders"]

Found = tuple["Param", "tuple[int, ...]"]
Index = int | slice | tuple[int, int | slice]


class Finders(Node):
    """What a node with params below it knows of their places."""

    def param_order(self) -> str:
        """The dynamic params in the order in which calls expect them, each after its parent: a line for each group.

        Example:
            >>> import caskade_pyro as ck
            >>> line = ck.Module("line")
            >>> line.slope = ck.Param("slope")
            >>> line.offset = ck.Param("offset")
            >>> line.param_order()
            'line: slope, line: offset'
        """
        lines = []
        for group in _groups(self):
            of_group = _of_group(self, group)
            lines.append(", ".join(f"{next(iter(param.parents)).name}: {param.name}" for param in of_group))
        return "\n".join(lines)

    def find_param(self, idx: int | Sequence[int], group: int | None = None, scheme: str = "array") -> Any:
        """The param that stands at an index of the params.

        Args:
            idx: The index, or several; negative ones count from the end.
            group: The group whose params are counted; without it all dynamic params, in their order.
            scheme: ``"array"`` counts the entries of the vector of params, ``"list"`` the params.

        Returns:
            For an array the param and the index within its value (``()`` for a scalar), for a list the param; for several
            indices a tuple of these.

        Raises:
            ParamIndexError: There are not that many.
            ParamConfigurationError: An unknown scheme or group.

        Example:
            >>> import caskade_pyro as ck
            >>> line = ck.Module("line")
            >>> line.slope = ck.Param("slope")
            >>> line.offset = ck.Param("offset", shape=(2,))
            >>> line.find_param(2)
            (offset, (1,))
        """
        if not isinstance(idx, int):
            return tuple(self.find_param(one, group, scheme) for one in idx)
        params = _of_group(self, group)
        if _is_list(scheme):
            return params[_counted(self, idx, len(params))]
        places = _places(self, params)
        ends = list(accumulate(place.size for place in places))
        at = _counted(self, idx, ends[-1] if ends else 0)
        place = places[bisect_right(ends, at)]
        return place.param, _unravelled(at - ends[bisect_right(ends, at)] + place.size, place.shape)

    def find_index(self, param: Param | Node | Sequence[Param | Node], scheme: str = "array") -> Any:
        """The index at which a param stands among the dynamic params.

        Args:
            param: The param; for a module, its own dynamic params; or several of these.
            scheme: ``"array"`` counts the entries of the vector of params, ``"list"`` the params.

        Returns:
            An int, or a slice where the param takes several entries; with several groups ``(group, index)``; for a module
            or several params a tuple of these.

        Raises:
            ParamConfigurationError: An unknown scheme, or a param that is no dynamic one of this graph.

        Example:
            >>> import caskade_pyro as ck
            >>> line = ck.Module("line")
            >>> line.slope = ck.Param("slope")
            >>> line.offset = ck.Param("offset", shape=(2,))
            >>> line.find_index(line.offset)
            slice(1, 3, None)
        """
        if isinstance(param, (list, tuple)) and not isinstance(param, Node):
            return tuple(self.find_index(one, scheme) for one in param)
        if isinstance(param, Node) and not is_param(param):
            own = (child for child in param.children.values() if is_param(child))
            return tuple(self.find_index(child, scheme) for child in own if child.dynamic)  # type: ignore[attr-defined]
        return _index_of(self, param, _is_list(scheme))  # type: ignore[arg-type]


def _index_of(node: Finders, param: Param, in_list: bool) -> Index:
    groups = _groups(node)
    if param not in node.structure.dynamic_params:
        raise ParamConfigurationError(
            f"{param!r} is not among the dynamic params of {node!r}, which are {node.param_order() or 'none'}."
        )
    params = _of_group(node, param.group)
    at = params.index(param)
    index: int | slice = at
    if not in_list:
        places = _places(node, params)
        start = sum(place.size for place in places[:at])
        index = start if places[at].size == 1 else slice(start, start + places[at].size)
    return index if len(groups) <= 1 else (param.group, index)


def _groups(node: Finders) -> list[int]:
    return sorted({param.group for param in node.structure.dynamic_params})


def _of_group(node: Finders, group: int | None) -> tuple[Param, ...]:
    if group is not None and group not in _groups(node):
        raise ParamConfigurationError(f"{node!r} has no params of group {group!r}; its groups are {_groups(node)}.")
    return tuple(param for param in node.structure.dynamic_params if group is None or param.group == group)


def _places(node: Finders, params: tuple[Param, ...]) -> tuple[Slot, ...]:
    evaluation = active_evaluation(node)
    if evaluation is None:
        return cached_slots(node.structure.layout, node, params, ())
    return cached_slots(evaluation.layout, node, params, evaluation.inside)


def _counted(node: Finders, idx: int, size: int) -> int:
    if not -size <= idx < size:
        raise ParamIndexError(f"{node!r} has {size} of these params, so there is none at the index {idx}.")
    return idx % size


def _is_list(scheme: str) -> bool:
    if scheme not in ("array", "tensor", "list"):
        raise ParamConfigurationError(
            f"The scheme must be 'array' or 'list', not {scheme!r}: a dict is searched by its keys."
        )
    return scheme == "list"


def _unravelled(flat: int, shape: Shape) -> tuple[int, ...]:
    """The index within a shape of the entry at a place of its flattened form."""
    index: list[int] = []
    for size in reversed(shape):
        flat, within = divmod(flat, size)
        index.append(within)
    return tuple(reversed(index))
