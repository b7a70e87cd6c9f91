"""Nodes and their links: the bare graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, SupportsIndex

import torch

from ...errors import (
    ActiveStateError,
    CaskadeException,
    GraphError,
    LinkToAttributeError,
    NotLinkedError,
)
from ..calls.evaluation import is_active
from ..views import drawing
from ..views.printing import graph_html, graph_text
from . import copying
from .declaration import PlateDeclaration, declare_plate
from .names import check_name
from .structure import Structure
from .traversal import mark_stale, reaches, topological_order

if TYPE_CHECKING:
    import graphviz
    import h5py

__all__ = ["Node"]


class Node:
    """A named node of a directed acyclic graph, linked to its children by keys that are also its attributes.

    Args:
        name: A Python identifier; the class name if not given.
        link: Nodes to link at once, each under its own name.
        description: Free text.

    Raises:
        NodeConfigurationError: The name is not an identifier.

    Example:
        >>> parent, child = Node("parent"), Node("child")
        >>> parent.link("part", child)
        >>> parent.part
        Node(child)
    """

    def __init__(
        self, name: str | None = None, link: Node | Sequence[Node] | None = None, description: str = ""
    ) -> None:
        name = type(self).__name__ if name is None else name
        check_name(name, f"name of a {type(self).__name__}")
        self._name: str = name
        self._children: dict[str, Node] = {}
        self._parents: dict[Node, int] = {}
        self._plates: dict[str, PlateDeclaration] = {}
        self._stale: bool = True
        self._structure: Structure | None = None
        self.description: str = description
        self.meta = SimpleNamespace()
        self.saveattrs: set[str] = set()
        if link is not None:
            self.link(link)

    @property
    def name(self) -> str:
        """The node's own name."""
        return self._name

    @property
    def children(self) -> Mapping[str, Node]:
        """The linked nodes by key, in the order of linking."""
        return self._children

    @property
    def parents(self) -> Iterable[Node]:
        """The nodes that link to this one."""
        return self._parents.keys()

    @property
    def subgraphs(self) -> frozenset[Node]:
        """The children that are linked hierarchically."""
        return frozenset(self._children[key] for key in self._plates)

    @property
    def plate_declarations(self) -> Mapping[str, PlateDeclaration]:
        """What each hierarchical link says of its plate, by key."""
        return self._plates

    @property
    def active(self) -> bool:
        """Whether a call that involves this node runs in this thread."""
        return is_active(self)

    @property
    def structure(self) -> Structure:
        """What is known of the graph at and below this node, computed once after each edit."""
        structure = self._structure
        if structure is None:
            structure = self.__dict__["_structure"] = Structure(self)
            for node in structure.order:
                node.__dict__["_stale"] = False
        return structure

    def topological_ordering(self) -> tuple[Node, ...]:
        """All nodes at and below this one, parents before children."""
        return topological_order(self)

    # Links

    def link(
        self, key: str | Node | Sequence[str] | Sequence[Node], child: Node | Sequence[Node] | None = None
    ) -> None:
        """Link a node as a child, so that ``self.key`` is that node.

        Args:
            key: The key, or a node (or several) to be linked under its own name.
            child: The node, or as many nodes as there are keys.

        Raises:
            GraphError: The link would close a cycle, or the key is taken by another child.
            LinkToAttributeError: The key is an ordinary attribute.
            ActiveStateError: A call runs.
        """
        if isinstance(key, (list, tuple)) and not isinstance(key, Node):
            pairs = [(k, None) for k in key] if child is None else list(zip(key, child, strict=True))  # type: ignore[arg-type]
            self._link_all(pairs)
            return
        if child is None:
            if not isinstance(key, Node):
                raise GraphError(f"link({key!r}) of {self!r}: give the node to link under this key.")
            setattr(self, key.name, key)
        else:
            setattr(self, key, child)  # type: ignore[arg-type]

    def _link_all(self, pairs: Iterable[tuple[Any, Any]]) -> None:
        """Link several nodes, all or nothing."""
        before = set(self._children)
        try:
            for key, child in pairs:
                self.link(key, child)
        except CaskadeException:
            for key in self._children.keys() - before:
                self._unlink(key)
            raise

    def hierarchical_link(
        self, key: str, child: Node, size: int | None = None, members: Sequence[str] | None = None
    ) -> None:
        """Link a node whose subgraph is repeated: a plate.

        Args:
            key: The key; the plate is named by the path of such keys from the root.
            child: The module of ONE member.
            size: The number of members. Dynamic params below that say nothing of their batch are then repeated that
                often. Without it the size is read from the batch dims of the params.
            members: Names of the members, as coordinates of draws.

        Raises:
            GraphError: As for `link`; or the node is already linked without a plate.

        Example:
            >>> import caskade_pyro as ck
            >>> school = ck.Module("school")
            >>> school.effect = ck.Param("effect", shape=())
            >>> district = ck.Module("district")
            >>> district.hierarchical_link("schools", school, size=8)
            >>> ck.plate_layout(district).plates[0].size
            8
        """
        self._refuse_while_active("link", key)
        where = f"hierarchical_link({key!r}) of {self!r}"
        if not isinstance(child, Node):
            raise GraphError(f"{where}: the child must be a Module, not a {type(child).__name__}.")
        declaration = declare_plate(where, size, members)
        if self._children.get(key) is child and key not in self._plates:
            raise GraphError(
                f"{child!r} is already linked to {self!r} under {key!r} without a plate; unlink({key!r}) first."
            )
        setattr(self, key, child)
        self._plates[key] = declaration
        self._invalidate()

    def unlink(self, key: str | Node | Sequence[str | Node] | None = None) -> None:
        """Remove links, given by key or by node; all of them if nothing is given.

        Raises:
            NotLinkedError: There is no such link.
            ActiveStateError: A call runs.
        """
        if key is None:
            keys: Sequence[str | Node] = list(self._children)
        else:
            keys = [key] if isinstance(key, (str, Node)) else key
        for one in dict.fromkeys([self._key_of(one) for one in keys]):
            self._unlink(one)

    def _key_of(self, key: str | Node) -> str:
        if isinstance(key, Node):
            for name, child in self._children.items():
                if child is key:
                    return name
            raise NotLinkedError(f"{key!r} is not linked to {self!r}; its children are {self._listing()}.")
        if key not in self._children:
            raise NotLinkedError(f"{self!r} has no child {key!r}; its children are {self._listing()}.")
        return key

    def _listing(self) -> str:
        return ", ".join(self._children) or "none"

    def _link(self, key: str, child: Node) -> None:
        check_name(key, f"key of a child of {self!r}")
        if self._children.get(key) is child:
            return
        self._refuse_while_active("link", key)
        if key in self._children:
            raise GraphError(f"{self!r} already has a child {key!r}: {self._children[key]!r}; unlink({key!r}) first.")
        if child._parents.get(self):
            known = self._key_of(child)
            raise GraphError(
                f"{child!r} is already linked to {self!r} under the key {known!r}, and cannot be linked as {key!r} as well. "
                f"Use self.{known}, or keep a handle as self.meta.{key}, which adds no link."
            )
        if hasattr(self, key):
            raise LinkToAttributeError(
                f"{key!r} is already an attribute of {self!r} and cannot be the key of a child; choose another key."
            )
        if reaches(child, self):
            raise GraphError(f"Linking {child!r} to {self!r} would close a cycle.")
        self._children[key] = child
        child._parents[self] = 1
        super().__setattr__(key, child)
        self._invalidate()

    def _unlink(self, key: str) -> None:
        self._refuse_while_active("unlink", key)
        child = self._children.pop(key)
        child._parents.pop(self, None)
        self._plates.pop(key, None)
        self.__dict__.pop(key, None)
        self._invalidate()

    def _invalidate(self) -> None:
        mark_stale(self)

    def _refuse_while_active(self, action: str, what: str) -> None:
        if is_active(self):
            raise ActiveStateError(f"Cannot {action} {what!r} of {self!r} during a call that involves it.")

    def __setattr__(self, key: str, value: Any) -> None:
        if isinstance(value, Node) and not has_setter(type(self), key):
            self._link(key, value)
        else:
            super().__setattr__(key, value)

    def __delattr__(self, key: str) -> None:
        if key in self._children:
            self._unlink(key)
        else:
            super().__delattr__(key)

    def __getitem__(self, key: str) -> Node:
        if key not in self._children:
            raise NotLinkedError(f"{self!r} has no child {key!r}; its children are {self._listing()}.")
        return self._children[key]

    def __setitem__(self, key: str, value: Node) -> None:
        self.link(key, value)

    # Everything below

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Node:
        """Move the values of all params at and below this node to a device or dtype."""
        self._refuse_while_active("move", self._name)
        for node in topological_order(self):
            node._to(device, dtype)
        return self

    def _to(self, device: torch.device | str | None, dtype: torch.dtype | None) -> None:
        """Nothing to move: only params hold values."""

    def graphviz(
        self,
        saveto: str | PathLike[str] | None = None,
        *,
        collapse: str | Node | Sequence[str | Node] = (),
        depth: int | None = None,
    ) -> graphviz.Digraph:
        """A picture of the graph at and below this node, with a box around every plate.

        Args:
            saveto: A file to write, its format taken from the ending (``.svg``, ``.png``, ``.pdf``, ``.html``, ``.dot``,
                ``.mmd``).
            collapse: Modules to draw as one node with all that they alone own: paths from here, names, or the modules
                themselves.
            depth: How many links from here the picture goes; modules at the end of that many are drawn as one node.

        Returns:
            A graphviz object, which shows itself in a notebook.

        Raises:
            PlateError: The plates of the graph contradict each other.
            CaskadeException: The ending of ``saveto`` is no known format, ``collapse`` names no module, or ``depth`` is
                negative.
            MissingDependencyError: A file is to be written and there is no Graphviz.
        """
        return drawing.renderer().graph(self, saveto, collapse=collapse, depth=depth)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name})"

    # Views for people

    def __str__(self) -> str:
        return graph_text(self)

    def __format__(self, specification: str) -> str:
        # In a sentence a node is its short form; print shows the graph.
        return format(repr(self), specification)

    def _repr_html_(self) -> str:
        return graph_html(self)

    # States in files

    def save_state(self, saveto: str | PathLike[str] | h5py.Group, appendable: bool = False) -> None:
        """Save the values of all params at and below this node, with their roles, bounds and units, to an HDF5 file.

        The groups of the file follow the links, so that ``file["survey/galaxies/flux/value"]`` is a param's value. Further
        attributes of a node are saved if their names are in its set ``saveattrs``. A file given by its name is replaced in
        one step: if anything fails, it stays what it was. Needs ``pip install caskade_pyro[hdf5]``.

        Args:
            saveto: The name of a file that ends in ``.h5`` or ``.hdf5``, or an open ``h5py.File``.
            appendable: Whether further states are to be appended: values then have a first dim that counts states.

        Raises:
            StateFileError: The file has another format, or already holds this node.
            MissingDependencyError: ``h5py`` is not installed.
            ActiveStateError: A call runs.

        Example:
            >>> import os, tempfile
            >>> import caskade_pyro as ck
            >>> line = ck.Module("line")
            >>> line.slope = ck.Param("slope", 2.0)
            >>> file = os.path.join(tempfile.mkdtemp(), "line.h5")
            >>> line.save_state(file, appendable=True)
            >>> line.slope = 3.0
            >>> line.append_state(file)
            >>> line.load_state(file, index=0)
            >>> line.slope.value
            tensor(2.)
        """
        from ..files.state import save_state

        save_state(self, saveto, appendable)

    def append_state(self, saveto: str | PathLike[str] | h5py.Group) -> None:
        """Append the values of all params as a further state to a file that was saved with ``appendable=True``.

        An append that is interrupted, at whatever moment, leaves all earlier states as they were. One process appends at a
        time. Roles, bounds, units and ``saveattrs`` are those of the first state.

        Args:
            saveto: The name of the file, or an open ``h5py.File``.

        Raises:
            StateMismatchError: The graph has changed since; the message lists all differences.
            StateFileError: The file cannot take further states.
            FileNotFoundError: There is no such file.
            ActiveStateError: A call runs.
        """
        from ..files.state import append_state

        append_state(self, saveto)

    def load_state(self, loadfrom: str | PathLike[str] | h5py.Group, index: int = -1, **options: Any) -> None:
        """Load a saved state: values, roles (static or dynamic), bounds, units and ``saveattrs``.

        Pointers stay as the graph has them. If anything does not fit, nothing is changed. Files of the package ``caskade``
        can be loaded too.

        Args:
            loadfrom: The name of a file, or an open ``h5py.File``.
            index: Which state, the last by default.
            options: Passed on to ``h5py.File``.

        Raises:
            StateMismatchError: The graph is not the one that was saved; the message lists all differences.
            StateFileError: The file does not have this state.
            FileNotFoundError: There is no such file.
            ActiveStateError: A call runs.
        """
        from ..files.state import load_state

        load_state(self, loadfrom, index, **options)

    # Copies: a node is copied and pickled with all that is below it, and nothing that is above.

    def __copy__(self) -> Node:
        """Another node with the same children."""
        return copying.copied(self)  # type: ignore[no-any-return]

    def __deepcopy__(self, memo: dict[int, Any]) -> Node:
        """A graph of its own: copies of this node and of all below."""
        return copying.deep_copied(self, memo)  # type: ignore[no-any-return]

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        """For pickle: this node and all below, as a table, whose depth costs no recursion."""
        return copying.reduced(self)

    def __setstate__(self, table: copying.GraphTable) -> None:
        """For pickle: the table fills its nodes itself."""


def has_setter(owner: type, key: str) -> bool:
    """Whether setting an attribute is the business of a property."""
    return getattr(getattr(owner, key, None), "fset", None) is not None
