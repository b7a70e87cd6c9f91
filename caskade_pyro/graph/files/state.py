"""Saving the state of a graph to HDF5, appending further states, and loading one of them back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter
from typing import TYPE_CHECKING, Any
from warnings import warn

import torch
from torch import Tensor

from ...errors import PlateError, SaveStateWarning, StateFileError, StateMismatchError
from ..calls.evaluation import Evaluation
from ..nodes.paths import node_path
from ..nodes.structure import is_param
from .state_file import COUNT, Stored, as_path, count_states, decode, encode, opened, read, replacing, write, write_row
from .state_match import Match, append_difference, load_difference, match

if TYPE_CHECKING:
    from ..nodes.node import Node
    from ..nodes.param import Param

__all__ = ["append_state", "load_state", "save_state"]

Values = dict["Param", Tensor | None]


def save_state(root: Node, saveto: Any, appendable: bool = False) -> None:
    """Save the state of a graph: see `Node.save_state`."""
    root._refuse_while_active("save", "the state")
    path = as_path(saveto)
    values = _present_values(root)
    if path is not None:
        with replacing(path, copied=False) as file:
            _save(root, file, values, appendable)
        return
    if root.name in saveto:
        raise StateFileError(f"The open file already holds {root.name!r}; append to it, or use another file.")
    try:
        _save(root, saveto, values, appendable)
    except BaseException:
        if root.name in saveto:
            del saveto[root.name]
        raise


def _save(root: Node, into: Any, values: Values, appendable: bool) -> None:
    top = into.create_group(root.name)
    top.attrs[COUNT] = 0
    groups = {root: top}
    for node in root.structure.order:
        for key, child in node.children.items():
            if child in groups:
                groups[node][key] = groups[child]
            else:
                groups[child] = groups[node].create_group(key)
    for node, group in groups.items():
        _save_attributes(node, group)
    for param, value in values.items():
        role = param.role.value
        write(groups[param], Stored(role, value, appendable, param.valid, param.cyclic, param.units))
    into.file.flush()
    top.attrs[COUNT] = 1


def _save_attributes(node: Node, group: Any) -> None:
    for name in sorted(node.saveattrs):
        try:
            group.attrs[name] = encode(attrgetter(name)(node))
        except (AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
            warn(
                SaveStateWarning(f"{node_path(node)}: the attribute {name!r} cannot be saved to HDF5 ({error})."),
                stacklevel=2,
            )


def append_state(root: Node, saveto: Any) -> None:
    """Append the state of a graph to a file: see `Node.append_state`."""
    root._refuse_while_active("append", "the state")
    path = as_path(saveto)
    values = _present_values(root)
    if path is None:
        _append(root, saveto, values)
        return
    with replacing(path, copied=True) as file:
        _append(root, file, values)


def _append(root: Node, file: Any, values: Values) -> None:
    top = _top(root, file)
    found = match(root, top)
    states = count_states(top, found.datasets)
    if any(not dataset.attrs.get("appendable", False) for dataset in found.datasets):
        raise StateFileError(f"{file.file.filename!r} holds one state only; save it with appendable=True first.")
    for param, value in values.items():
        if param in found.groups and not found.differs(param):
            found.add(param, append_difference(param, value, found.groups[param]))
    _refuse(root, file, found)
    for param, value in values.items():
        if value is not None and found.groups[param]["value"].ndim:
            write_row(found.groups[param], value, states)
    file.file.flush()
    top.attrs[COUNT] = states + 1
    file.file.flush()


def load_state(root: Node, loadfrom: Any, index: int = -1, **options: Any) -> None:
    """Load a state of a graph: see `Node.load_state`."""
    root._refuse_while_active("load", "the state")
    with opened(loadfrom, **options) as file:
        top = _top(root, file)
        found = match(root, top)
        row = _row(file, count_states(top, found.datasets), index)
        stored: dict[Param, Stored] = {}
        for node, group in found.groups.items():
            if is_param(node) and not found.differs(node):
                stored[node] = read(group, row)  # type: ignore[index]
                found.add(node, load_difference(node, stored[node]))  # type: ignore[arg-type,index]
        foreign = COUNT not in top.attrs
        attributes = [one for node, group in found.groups.items() for one in _attributes(node, group, foreign)]
        _refuse(root, file, found)
    with _all_or_nothing([*root.structure.order, *(owner for owner, _, _ in attributes)]):
        for param, one in stored.items():
            _set(param, one)
        for owner, name, value in attributes:
            setattr(owner, name, value)


def _top(root: Node, file: Any) -> Any:
    if root.name not in file:
        raise StateFileError(
            f"{file.file.filename!r} holds no state of {root!r}, but of {', '.join(file) or 'nothing'}; "
            "the module must have the name that it was saved with."
        )
    return file[root.name]


def _refuse(root: Node, file: Any, found: Match) -> None:
    if found.differences:
        listing = "\n".join(f"  {line}" for line in found.differences)
        raise StateMismatchError(f"{root!r} is not the graph that {file.file.filename!r} was saved from:\n{listing}")


def _row(file: Any, states: int, index: int) -> int:
    if not -states <= index < states:
        raise StateFileError(f"{file.file.filename!r} holds {states} complete states; there is no state {index}.")
    return index % states


def _set(param: Param, stored: Stored) -> None:
    param.cyclic = False
    param.valid = None
    if not param.pointer:
        value = None if stored.value is None else stored.value.to(param.device)
        if stored.role == "dynamic":
            param.to_dynamic(value)
        else:
            param.to_static(value)
    param.valid = stored.valid
    param.cyclic = stored.cyclic
    param.units = stored.units


def _attributes(node: Node, group: Any, foreign: bool) -> Iterator[tuple[Any, str, Any]]:
    """What a file says of the attributes that a node wants saved: the object to set it on, the name and the value."""
    for name in sorted(node.saveattrs & set(group.attrs)):
        owner, _, last = name.rpartition(".")
        holder = attrgetter(owner)(node) if owner else node
        yield holder, last, decode(group.attrs[name], getattr(holder, last, None), foreign)


@contextmanager
def _all_or_nothing(objects: list[Any]) -> Iterator[None]:
    """Give objects their attributes back if the block fails; links do not change in it."""
    before = [(one, dict(vars(one))) for one in objects if hasattr(one, "__dict__")]
    try:
        yield
    except BaseException:
        for one, attributes in before:
            vars(one).clear()
            vars(one).update(attributes)
        raise


# Values


def _present_values(root: Node) -> Values:
    """The value of each param; pointers too, for those who read the file, where they have one."""
    structure = root.structure
    values: Values = {param: param.stored_value for param in structure.params}
    if not structure.pointer_params:
        return values
    try:
        with torch.no_grad(), Evaluation(structure.layout.standpoint, {}):
            _follow_pointers(root, values)
    except PlateError as error:
        warn(SaveStateWarning(f"{root!r}: the values of pointers cannot be saved. {error}"), stacklevel=4)
    return values


def _follow_pointers(root: Node, values: Values) -> None:
    """Fill in what pointers give, those first that others read, so that each is computed once."""
    unset: set[Node] = set()
    for node in reversed(root.structure.order):
        if not is_param(node):
            if any(child in unset for child in node.children.values()):
                unset.add(node)
        elif not node.pointer:  # type: ignore[attr-defined]
            if values[node] is None:  # type: ignore[index]
                unset.add(node)
        elif any(child in unset for child in node.children.values()):
            unset.add(node)
        else:
            values[node] = _follow(node)  # type: ignore[index,arg-type]


def _follow(pointer: Param) -> Tensor | None:
    try:
        return pointer.value
    except Exception as error:  # noqa: BLE001 - a pointer is the user's own function, and its value only informs
        warn(
            SaveStateWarning(f"{node_path(pointer)}: the value of this pointer cannot be computed ({error!r})."),
            stacklevel=2,
        )
        return None
