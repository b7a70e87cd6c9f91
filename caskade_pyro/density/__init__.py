"""The log density of a bound model over unconstrained params: eager, traced and compiled."""

from .log_density import LogDensity

__all__ = ["LogDensity"]
