"""Hierarchical Bayesian models from simulators: graphs of modules and params that are Pyro models."""

from . import diagram, errors
from .bridge import BoundModel, PyroModel, TruncatedNormal, draw_members, draw_slots
from .density import LogDensity, Metric
from .errors import *  # noqa: F403 - every error and warning is public
from .graph import (
    ActiveContext,
    ArrayLike,
    Module,
    Node,
    NodeCollection,
    NodeDict,
    NodeList,
    NodeTuple,
    OverrideParam,
    Param,
    Placement,
    Plate,
    PlateLayout,
    Prior,
    Role,
    ValidContext,
    active_cache,
    backend,
    forward,
    plate_layout,
    prior,
    subsample,
    vmap,
)
from .results import Calibration, Fit, calibrate, fit, log_likelihood, metric, point, predict, prior_predictive, sample

__version__ = "0.1.0"

__all__ = [
    "ActiveContext",
    "ArrayLike",
    "BoundModel",
    "Calibration",
    "Fit",
    "LogDensity",
    "Metric",
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
    "PyroModel",
    "Role",
    "TruncatedNormal",
    "ValidContext",
    "active_cache",
    "backend",
    "calibrate",
    "diagram",
    "draw_members",
    "draw_slots",
    "fit",
    "forward",
    "log_likelihood",
    "metric",
    "plate_layout",
    "point",
    "predict",
    "prior",
    "prior_predictive",
    "sample",
    "subsample",
    "vmap",
]
__all__ += errors.__all__
