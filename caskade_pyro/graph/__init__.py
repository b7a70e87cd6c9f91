"""The graph engine: params, modules, links, calls and the plate layout. It knows torch, and nothing of Pyro."""

from .active_cache import active_cache
from .backend import ArrayLike, backend
from .collections import NodeCollection, NodeDict, NodeList, NodeTuple
from .contexts import ActiveContext, OverrideParam, ValidContext
from .forward import forward
from .layout import Placement, Plate, PlateLayout, plate_layout
from .members import vmap
from .module import Module
from .node import Node
from .param import Param, Role
from .prior import Prior, prior

__all__ = [
    "ActiveContext",
    "ArrayLike",
    "Module",
    "Node",
    "NodeCollection",
    "NodeDict",
    "NodeList",
    "NodeTuple",
    "OverrideParam",
    "Param",
    "Placement",
    "Plate",
    "PlateLayout",
    "Prior",
    "Role",
    "ValidContext",
    "active_cache",
    "backend",
    "forward",
    "plate_layout",
    "prior",
    "vmap",
]
