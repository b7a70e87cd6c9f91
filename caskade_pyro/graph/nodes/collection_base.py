"""What the lists, tuples and dicts of nodes share: members that are linked in step with what changes them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...errors import CollectionError, GraphError
from .node import Node
from .structure import is_param
from .traversal import reaches
from .values import ParamHolder

__all__ = ["NodeCollection", "numbered"]


class NodeCollection(ParamHolder, ABC):
    """What the collections of nodes share; each is equal to itself only, as every node is."""

    @property
    def dynamic(self) -> bool:
        """Whether a member is dynamic: a dynamic param, or a module with one of its own."""
        return any(getattr(node, "dynamic", False) for node in self._children.values())

    def unlink(self, key: str | Node | Sequence[str | Node] | None = None) -> None:
        """Remove members from every place where they stand, given by key or by node; all if nothing is given.

        Raises:
            NotLinkedError: There is no such member.
            CollectionError: The collection cannot change.
            ActiveStateError: A call runs.
        """
        if key is None:
            keys: list[str | Node] = list(self._children)
        else:
            keys = [key] if isinstance(key, (str, Node)) else list(key)
        self._drop({self._key_of(one) for one in keys})

    def _unlink(self, key: str) -> None:
        self._drop({key})

    @abstractmethod
    def _drop(self, keys: set[str]) -> None:
        """Remove the members at these keys."""

    # Links

    def _check_kind(self, nodes: Iterable[object]) -> None:
        for node in nodes:
            if not isinstance(node, Node):
                raise CollectionError(
                    f"{self!r} holds nodes only, not {node!r} of type {type(node).__name__}; "
                    "wrap a value as Param(name, value)."
                )

    def _check_new(self, nodes: Iterable[Node]) -> None:
        self._refuse_while_active("change", "the members")
        for node in nodes:
            if self not in node._parents and reaches(node, self):
                raise GraphError(f"Adding {node!r} to {self!r} would close a cycle.")

    def _attach(self, added: Mapping[str, Node]) -> None:
        """Link further nodes under new keys; on an error nothing has changed."""
        self._check_new(added.values())
        for key, node in added.items():
            self._children[key] = node
            node._parents[self] = 1
            self._show_as_attribute(key, node)
        self._invalidate()

    def _relink(self, wanted: Mapping[str, Node]) -> None:
        """Make exactly these nodes the children, in this order; on an error nothing has changed."""
        self._check_new(wanted.values())
        former = dict(self._children)
        self._plates = {key: plate for key, plate in self._plates.items() if wanted.get(key) is former[key]}
        for key, node in former.items():
            if self.__dict__.get(key) is node:
                del self.__dict__[key]
        for node in set(former.values()) - set(wanted.values()):
            node._parents.pop(self, None)
        self._children.clear()
        for key, node in wanted.items():
            self._children[key] = node
            node._parents.setdefault(self, 1)
            self._show_as_attribute(key, node)
        self._invalidate()

    def _show_as_attribute(self, key: str, node: Node) -> None:
        if key not in self.__dict__ and not hasattr(type(self), key):
            self.__dict__[key] = node

    def __setattr__(self, key: str, value: Any) -> None:
        links: dict[str, Any] = self.__dict__.get("_children", {})
        member = links.get(key)
        if member is None or self.__dict__.get(key) is not member or value is member:
            super().__setattr__(key, value)
        elif is_param(links[key]) and not isinstance(value, Node):
            links[key].value = value
        else:
            raise CollectionError(
                f"{key!r} of {self!r} is its member {member!r}, which setting an attribute cannot replace."
            )

    # One node is equal to itself only; list, tuple and dict would compare members.

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name})[{len(self)}]"  # type: ignore[arg-type] # every kind has a length


def numbered(nodes: Iterable[Node], taken: Mapping[str, Node], numbers: dict[str, int]) -> dict[str, Node]:
    """A key for each node; ``numbers`` remembers the next free number of each name that is taken."""
    added: dict[str, Node] = {}
    for node in nodes:
        key = node.name
        while key in taken or key in added:
            number = numbers.get(node.name, 2)
            key, numbers[node.name] = f"{node.name}_{number}", number + 1
        added[key] = node
    return added
