"""The log density of a bound model over unconstrained params: eager, traced and compiled; and metrics for its samplers."""

from .agreement import spread_over
from .blocks import Block, find_blocks, places_of_sites
from .flat import Slot
from .log_density import LogDensity
from .metric import Metric
from .native_whitened import NativeWhitened
from .whitened import Whitened

__all__ = [
    "Block",
    "LogDensity",
    "Metric",
    "NativeWhitened",
    "Slot",
    "Whitened",
    "find_blocks",
    "places_of_sites",
    "spread_over",
]
