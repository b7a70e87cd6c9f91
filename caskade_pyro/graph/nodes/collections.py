"""Lists, tuples and dicts of nodes that are themselves nodes of the graph.

The members are the children: whatever changes the one changes the other in the same step, or fails and changes nothing.
The children of a list stand in the order of their first places. Each is linked under its own name; a member whose name
an earlier one has already taken gets a numbered key (``blob``, ``blob_2``, ``blob_3``), so the keys depend on nothing but
the members and their order. A node that stands in a list several times is linked once.

A key that is also the name of a method (a param called ``count``) is no attribute: ``nodes["count"]`` finds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, SupportsIndex

from ...errors import CollectionError, GraphError
from ..calls.evaluation import current_evaluation
from .collection_base import NodeCollection, numbered
from .names import check_name
from .node import Node

__all__ = ["NodeCollection", "NodeDict", "NodeList", "NodeTuple", "as_collection"]


class NodeTuple(NodeCollection, tuple[Node, ...]):
    """A tuple of nodes, linked as its children; it cannot change.

    Args:
        iterable: The nodes.
        name: A Python identifier; the class name if not given.

    Raises:
        CollectionError: A member is no node.

    Example:
        >>> import caskade_pyro as ck
        >>> pair = ck.NodeTuple([ck.Param("a", 1.0), ck.Param("b", 2.0)], name="pair")
        >>> pair["b"] is pair[1]
        True
        >>> pair.to_dynamic()
        >>> pair.get_values()
        tensor([1., 2.])
    """

    def __new__(cls, iterable: Iterable[Node] = (), name: str | None = None) -> NodeTuple:  # noqa: ARG004
        """The bare tuple; its links are made when it is initialised."""
        return tuple.__new__(cls, () if iterable is None else iterable)

    def __init__(self, iterable: Iterable[Node] = (), name: str | None = None) -> None:  # noqa: ARG002
        super().__init__(name)
        self._check_kind(self)
        self._attach(numbered(dict.fromkeys(self), {}, {}))

    def _link(self, key: str, child: Node) -> None:
        if self._children.get(key) is not child:
            raise self._unchanging()

    def _drop(self, keys: set[str]) -> None:
        if keys:
            raise self._unchanging()

    def _unchanging(self) -> CollectionError:
        return CollectionError(f"{self!r} is a tuple, whose members cannot change; use a NodeList instead.")

    def __getitem__(self, key: str | SupportsIndex | slice) -> Any:
        if isinstance(key, str):
            return super().__getitem__(key)
        found: Any = super(Node, self).__getitem__(key)
        if not isinstance(key, slice) or current_evaluation() is not None:
            return found
        return type(self)(found, name=self.name)

    def __setitem__(self, key: Any, value: Any) -> None:
        raise self._unchanging()

    def __delitem__(self, key: Any) -> None:
        raise self._unchanging()

    def __add__(self, other: tuple[Any, ...]) -> NodeTuple:
        return type(self)(tuple(self) + other, name=self.name)

    def __mul__(self, times: SupportsIndex) -> NodeTuple:
        return type(self)(tuple(self) * times, name=self.name)

    __rmul__ = __mul__


class NodeList(NodeCollection, list[Node]):  # type: ignore[misc] # the list's own methods have other signatures
    """A list of nodes, linked as its children, with all that a list can do.

    A slice is a `NodeList` of its own; during a call, which changes no graph, it is a plain list.

    Args:
        iterable: The nodes.
        name: A Python identifier; the class name if not given.

    Raises:
        CollectionError: A member is no node.

    Example:
        >>> import caskade_pyro as ck
        >>> blobs = ck.NodeList([ck.Module("blob"), ck.Module("blob")], name="blobs")
        >>> blobs.append(ck.Module("core"))
        >>> list(blobs.children)
        ['blob', 'blob_2', 'core']
        >>> blobs.pop(0)
        Module(blob)
        >>> list(blobs.children)
        ['blob', 'core']
    """

    def __init__(self, iterable: Iterable[Node] = (), name: str | None = None) -> None:
        super().__init__(name)
        self._numbers: dict[str, int] = {}
        self.extend(iterable)

    def _replace(self, nodes: list[Node]) -> None:
        """Make these the members; on an error nothing has changed."""
        self._check_kind(nodes)
        numbers: dict[str, int] = {}
        self._relink(numbered(dict.fromkeys(nodes), {}, numbers))
        list.__setitem__(self, slice(None), nodes)
        self._numbers = numbers

    def _changed(self, change: Callable[[list[Node]], Any]) -> Any:
        """Apply a change to a plain copy, then make the outcome the members."""
        nodes = list(self)
        result = change(nodes)
        self._replace(nodes)
        return result

    def _link(self, key: str, child: Node) -> None:
        if self._children.get(key) is not child:
            raise CollectionError(
                f"{self!r} links its members only: append({child!r}) instead of linking it as {key!r}."
            )

    def _drop(self, keys: set[str]) -> None:
        gone = {self._children[key] for key in keys}
        self._replace([node for node in self if node not in gone])

    def append(self, node: Node) -> None:
        """Add a node at the end."""
        self.extend((node,))

    def extend(self, iterable: Iterable[Node]) -> None:
        """Add nodes at the end."""
        nodes = list(iterable)
        self._check_kind(nodes)
        fresh = [node for node in dict.fromkeys(nodes) if self not in node._parents]
        numbers = dict(self._numbers)
        self._attach(numbered(fresh, self._children, numbers))
        list.extend(self, nodes)
        self._numbers = numbers

    def insert(self, index: SupportsIndex, node: Node) -> None:
        """Add a node in front of the one at an index."""
        self._changed(lambda nodes: nodes.insert(index, node))

    def pop(self, index: SupportsIndex = -1) -> Node:
        """Remove and return the node at an index."""
        node: Node = self._changed(lambda nodes: nodes.pop(index))
        return node

    def remove(self, node: Node) -> None:
        """Remove the first place of a node; ValueError if there is none."""
        self._changed(lambda nodes: nodes.remove(node))

    def clear(self) -> None:
        """Remove all members."""
        self._replace([])

    def reverse(self) -> None:
        """Turn the order round."""
        self._changed(list.reverse)

    def sort(self, *, key: Callable[[Node], Any] | None = None, reverse: bool = False) -> None:
        """Sort the members, by what ``key`` returns for each, or by their names."""
        by = (lambda node: node.name) if key is None else key
        self._replace(sorted(self, key=by, reverse=reverse))

    def copy(self) -> NodeList:
        """Another list of the same nodes, of the same name."""
        return type(self)(list(self), name=self.name)

    __copy__ = copy

    def __getitem__(self, key: str | SupportsIndex | slice) -> Any:
        if isinstance(key, str):
            return super().__getitem__(key)
        found: Any = super(Node, self).__getitem__(key)
        if not isinstance(key, slice) or current_evaluation() is not None:
            return found
        return type(self)(found, name=self.name)

    def __setitem__(self, key: SupportsIndex | slice, value: Any) -> None:  # type: ignore[override]
        if isinstance(key, str):
            raise CollectionError(f"{self!r}: members are set by their index, not by the key {key!r}.")
        self._changed(lambda nodes: nodes.__setitem__(key, value))

    def __delitem__(self, key: str | SupportsIndex | slice) -> None:
        if isinstance(key, str):
            self.unlink(key)
        else:
            self._changed(lambda nodes: nodes.__delitem__(key))

    def __add__(self, other: list[Any]) -> NodeList:  # type: ignore[override]
        return type(self)(list(self) + other, name=self.name)

    def __iadd__(self, other: Iterable[Node]) -> NodeList:  # type: ignore[override,misc]
        self.extend(other)
        return self

    def __mul__(self, times: SupportsIndex) -> NodeList:
        return type(self)(list(self) * times, name=self.name)

    __rmul__ = __mul__

    def __imul__(self, times: SupportsIndex) -> NodeList:
        self._replace(list(self) * times)
        return self


class NodeDict(NodeCollection, dict[str, Node]):  # type: ignore[misc] # the dict's own methods have other signatures
    """A dict of nodes, linked as its children under their keys, with all that a dict can do.

    Keys are Python identifiers. One node may stand under several keys.

    Args:
        mapping: The nodes by key.
        name: A Python identifier; the class name if not given.

    Raises:
        CollectionError: A member is no node, or a key no string.
        NodeConfigurationError: A key is no Python identifier.

    Example:
        >>> import caskade_pyro as ck
        >>> bands = ck.NodeDict({"g": ck.Param("flux", 1.0)}, name="bands")
        >>> bands["r"] = ck.Param("flux", 2.0)
        >>> bands.get_values("dict", dynamic=False)
        {'g': tensor(1.), 'r': tensor(2.)}
    """

    def __init__(self, mapping: Mapping[str, Node] | None = None, name: str | None = None) -> None:
        super().__init__(name)
        self._put(dict(() if mapping is None else mapping))

    def _put(self, added: dict[str, Node]) -> None:
        """Add members or replace those with the same keys; on an error nothing has changed."""
        for key in added:
            if not isinstance(key, str):
                raise CollectionError(f"The keys of {self!r} must be strings, not {key!r}.")
            check_name(key, f"key of a member of {self!r}")
        self._check_kind(added.values())
        if self._children.keys().isdisjoint(added):
            self._attach(added)
        else:
            self._relink({**self._children, **added})
        dict.update(self, added)

    def _link(self, key: str, child: Node) -> None:
        former = self._children.get(key, child)
        if former is not child:
            raise GraphError(f"{self!r} already has a member {key!r}: {former!r}; replace it by [{key!r}] = ...")
        if key not in self._children:
            self._put({key: child})

    def _drop(self, keys: set[str]) -> None:
        self._relink({key: node for key, node in self._children.items() if key not in keys})
        for key in keys:
            dict.__delitem__(self, key)

    def __setitem__(self, key: str, value: Node) -> None:
        self._put({key: value})

    def __delitem__(self, key: str) -> None:
        self._drop({self._key_of(key)})

    def update(self, mapping: Any = (), /, **nodes: Node) -> None:
        """Add members, or replace those with the same keys: all of them or none."""
        self._put(dict(mapping, **nodes))

    def pop(self, key: str, *default: Any) -> Any:
        """Remove and return the node at a key, or return the default if there is none."""
        if key not in self and default:
            return dict.pop(self, key, *default)
        node = self[key]
        self._drop({key})
        return node

    def popitem(self) -> tuple[str, Node]:
        """Remove and return the last key and its node; KeyError if there is none."""
        key = next(reversed(self), None)
        if key is None:
            raise KeyError(f"{self!r} is empty.")
        return key, self.pop(key)

    def clear(self) -> None:
        """Remove all members."""
        self._drop(set(self))

    def setdefault(self, key: str, default: Node) -> Node:
        """The node at a key; if there is none, the default is put there first."""
        if key not in self:
            self[key] = default
        return self[key]

    def copy(self) -> NodeDict:
        """Another dict of the same nodes, of the same name."""
        return type(self)(self, name=self.name)

    __copy__ = copy

    def __or__(self, other: Mapping[str, Node]) -> NodeDict:  # type: ignore[override]
        return type(self)({**self, **other}, name=self.name)

    def __ror__(self, other: Mapping[str, Node]) -> NodeDict:  # type: ignore[override]
        return type(self)({**other, **self}, name=self.name)

    def __ior__(self, other: Any) -> NodeDict:  # type: ignore[override,misc]
        self.update(other)
        return self


def as_collection(value: object, name: str) -> NodeCollection | None:
    """A list, tuple or dict that holds nodes only, as a collection; None for anything else.

    Empty ones stay what they are, and so do those with other members, dicts with keys that are no strings, and named
    tuples, whose members are known by the names of their fields.
    """
    if not isinstance(value, (list, tuple, dict)) or isinstance(value, Node) or hasattr(value, "_fields"):
        return None
    members = value.values() if isinstance(value, dict) else value
    if not value or not all(isinstance(member, Node) for member in members):
        return None
    if isinstance(value, dict):
        return NodeDict(value, name=name) if all(isinstance(key, str) for key in value) else None
    return NodeList(value, name=name) if isinstance(value, list) else NodeTuple(value, name=name)
