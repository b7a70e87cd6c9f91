"""Modules: the parts of a simulator."""

from __future__ import annotations

from typing import Any

from ..errors import NodeConfigurationError
from .node import Node
from .param import Param
from .values import ParamHolder

__all__ = ["Module"]


class Module(ParamHolder):
    """A part of a simulator: it holds params and other modules, and computes with them in `forward` methods.

    Setting an attribute to a param or module links it; setting a param's attribute again gives the param a value.

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

    def __setattr__(self, key: str, value: Any) -> None:
        children = self.__dict__.get("_children")
        if children is None:
            if isinstance(value, Node):
                raise NodeConfigurationError(
                    f"{type(self).__name__}.__init__ must call super().__init__() before it sets {key!r}."
                )
        elif isinstance(children.get(key), Param):
            if value is not children[key]:
                children[key].value = value
            return
        super().__setattr__(key, value)
