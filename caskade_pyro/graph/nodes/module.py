"""Modules: the parts of a simulator."""

from __future__ import annotations

from typing import Any

from ...errors import CaskadeException, NodeConfigurationError
from ..calls.forward import fill_params
from .collections import as_collection
from .node import Node, has_setter
from .param import Param
from .values import ParamHolder

__all__ = ["Module"]


class Module(ParamHolder):
    """A part of a simulator: it holds params and other modules, and computes with them in `forward` methods.

    Setting an attribute to a param or module links it; setting a param's attribute again gives the param a value. A
    list, tuple or dict that holds nodes only becomes a `NodeList`, `NodeTuple` or `NodeDict` of the attribute's name.

    Args:
        name: A Python identifier; the class name if not given.
        link: Nodes to link at once, each under its own name.
        description: Free text.

    Example:
        >>> import caskade_pyro as ck
        >>> class Line(ck.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.slope = ck.Param("slope", shape=())
        ...         self.offset = ck.Param("offset", 1.0)
        ...
        ...     @ck.forward
        ...     def at(self, x, slope, offset):
        ...         return offset + slope * x
        >>> line = Line()
        >>> line.at(2.0, params=[3.0])
        tensor(7.)
    """

    def fill_params(self, params: Any, dynamic: bool = True) -> None:
        """Give the params below their values for the call that an `ActiveContext` of this module has opened.

        Args:
            params: In any of the forms that a forward method takes.
            dynamic: The dynamic params, or the static ones.

        Raises:
            ActiveStateError: There is no such call, or a torch transform was entered since.
            FillParamsError: The params do not match the graph.
        """
        fill_params(self, params, dynamic)

    def __setattr__(self, key: str, value: Any) -> None:
        children = self.__dict__.get("_children")
        if children is None:
            if isinstance(value, Node):
                raise NodeConfigurationError(
                    f"{type(self).__name__}.__init__ must call super().__init__() before it sets {key!r}."
                )
        elif isinstance(children.get(key), Param) and (isinstance(value, Param) or not isinstance(value, Node)):
            if value is not children[key]:
                children[key].value = value
            return
        collection = None if children is None or has_setter(type(self), key) else as_collection(value, key)
        if collection is None:
            super().__setattr__(key, value)
            return
        try:
            super().__setattr__(key, collection)
        except CaskadeException:
            collection._relink({})  # it is no part of the graph, so its members must not know it
            raise
