"""The params of a graph between their bounds and on the real line, in every form in which they can be given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ...errors import FillParamsSequenceError, ParamConfigurationError
from ..calls.ambient import takes_unconstrained
from ..calls.evaluation import active_evaluation, current_root
from ..calls.packing import descend, pack, unpack_group
from .node import Node
from .structure import is_param

if TYPE_CHECKING:
    from ..plates.layout import PlateLayout
    from .param import Param

__all__ = ["UnconstrainedValues"]

Change = Callable[["Param", Any], Tensor]


class UnconstrainedValues(Node):
    """What a node with params below it knows of their bounds."""

    @property
    def valid_context(self) -> bool:
        """Whether values are exchanged unconstrained: inside of a `ValidContext`, in this thread."""
        return takes_unconstrained(self, current_root())

    def to_valid(self, params: Any, param_list: Sequence[Param] | None = None, group: int | None = None) -> Any:
        """Map values of the dynamic params to the real line, each by its own bounds.

        Args:
            params: In any of the forms that `get_values` returns, batch dims included.
            param_list: Only these params; all dynamic ones by default.
            group: The group that ``params`` belong to; with several groups and no choice, a list with the values of each.

        Returns:
            The unconstrained values in the same form.

        Raises:
            ParamConfigurationError: A value lies on or outside of a bound.
            FillParamsError: The values do not match the params.

        Example:
            >>> import caskade_pyro as ck
            >>> disk = ck.Module("disk")
            >>> disk.q = ck.Param("q", 0.5, valid=(0.0, 1.0), dynamic=True)
            >>> disk.radius = ck.Param("radius", 1.0, valid=(0.0, None), dynamic=True)
            >>> disk.to_valid(disk.get_values())
            tensor([0., 0.])
        """
        return _in_groups(self, params, param_list, group, lambda param, value: param.to_valid(value))

    def from_valid(self, valid_params: Any, param_list: Sequence[Param] | None = None, group: int | None = None) -> Any:
        """Map any real numbers to values of the dynamic params between their bounds: the inverse of `to_valid`.

        Args:
            valid_params: Unconstrained values, in any of the forms that `get_values` returns.
            param_list: Only these params; all dynamic ones by default.
            group: The group that the values belong to; with several groups and no choice, a list with those of each.

        Returns:
            The values in the same form.

        Raises:
            FillParamsError: The values do not match the params.
        """
        return _in_groups(self, valid_params, param_list, group, lambda param, value: param.from_valid(value))


def _in_groups(node: Node, params: Any, chosen: Sequence[Param] | None, group: int | None, change: Change) -> Any:
    """The params of all groups, or of the one that is named, each value changed."""
    known = node.structure.dynamic_params if chosen is None else tuple(chosen)
    groups = sorted({param.group for param in known})
    if group is not None:
        if group not in groups:
            raise ParamConfigurationError(
                f"{node!r} has no dynamic params of group {group!r}; its groups are {groups}."
            )
        return changed(node, params, tuple(param for param in known if param.group == group), change)
    if len(groups) <= 1:
        return changed(node, params, known, change)
    if not isinstance(params, (list, tuple)) or len(params) != len(groups):
        raise FillParamsSequenceError(
            f"{node!r} has the param groups {groups} and needs a list with the params of each."
        )
    return [
        changed(node, of_group, tuple(param for param in known if param.group == one), change)
        for one, of_group in zip(groups, params, strict=True)
    ]


def changed(root: Node, params: Any, chosen: tuple[Param, ...], change: Change) -> Any:
    """The params of one group in the same form, the value of each changed."""
    evaluation = active_evaluation(root)
    layout = root.structure.layout if evaluation is None else evaluation.layout
    inside = () if evaluation is None else evaluation.inside
    if not isinstance(params, Mapping):
        return _changed_row(root, layout, inside, params, chosen, change)
    result: dict[str, Any] = {}
    stack: list[tuple[Node, Mapping[str, Any], dict[str, Any]]] = [(root, params, result)]
    while stack:
        here, mapping, into = stack.pop()
        for key, value in mapping.items():
            child = descend(root, here, key)
            if isinstance(value, Mapping):
                into[key] = {}
                stack.append((child, value, into[key]))
            elif is_param(child):
                into[key] = change(child, value)  # type: ignore[arg-type]
            else:
                below = child.structure.members
                members = tuple(param for param in chosen if param in below)
                into[key] = _changed_row(child, layout, layout.chains[child], value, members, change)
    return result


def _changed_row(
    node: Node, layout: PlateLayout, inside: tuple[str, ...], params: Any, chosen: tuple[Param, ...], change: Change
) -> Any:
    """A vector or a list of params, changed."""
    values = unpack_group(node, layout, inside, params, chosen)
    if not isinstance(params, Tensor):
        return [change(param, value) for param, value in values.items()]
    if not chosen:
        return params
    return pack(node, layout, inside, chosen, lambda param: change(param, values[param]))
