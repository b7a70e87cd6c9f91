"""The graph engine: params, modules, links, calls and the plate layout. It knows torch, and nothing of Pyro."""

from .backend import ArrayLike, backend
from .calls.active_cache import active_cache
from .calls.contexts import ActiveContext, OverrideParam, ValidContext
from .calls.forward import forward
from .nodes.collections import NodeCollection, NodeDict, NodeList, NodeTuple
from .nodes.module import Module
from .nodes.node import Node
from .nodes.param import Param, Role
from .nodes.prior import Prior, prior
from .plates.layout import Placement, Plate, PlateLayout, plate_layout
from .plates.members import vmap
from .plates.subsample import subsample

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
    "subsample",
    "vmap",
]
