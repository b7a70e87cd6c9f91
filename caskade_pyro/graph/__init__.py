"""The graph engine: params, modules, links, calls and the plate layout. It knows torch, and nothing of Pyro."""

from .forward import forward
from .layout import Placement, Plate, PlateLayout, plate_layout
from .members import vmap
from .module import Module
from .node import Node
from .param import Param, Role
from .prior import Prior, prior

__all__ = [
    "Module",
    "Node",
    "Param",
    "Placement",
    "Plate",
    "PlateLayout",
    "Prior",
    "Role",
    "forward",
    "plate_layout",
    "prior",
    "vmap",
]
