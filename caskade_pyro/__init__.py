"""Hierarchical Bayesian models from simulators: graphs of modules and params that are Pyro models."""

from .bridge import BoundModel, PyroModel
from .errors import *  # noqa: F403  - the module's __all__ is the list of public errors
from .errors import __all__ as _errors
from .graph import Module, Node, Param, Placement, Plate, PlateLayout, Prior, Role, forward, plate_layout, prior, vmap

__version__ = "0.1.0"

__all__ = [
    "BoundModel",
    "PyroModel",
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
    *_errors,
]
