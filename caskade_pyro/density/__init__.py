"""The log density of a bound model over unconstrained params, and its traced form."""

from .potential import Potential, make_potential

__all__ = ["Potential", "make_potential"]
