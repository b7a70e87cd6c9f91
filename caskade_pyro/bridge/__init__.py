"""The bridge to Pyro: dynamic params become sample sites, hierarchical links become plates."""

from .bound import BoundModel, check_bound
from .model import PyroModel
from .population import draw_members, draw_slots
from .truncated_normal import TruncatedNormal
from .wrapped_normal import WrappedNormal

__all__ = [
    "BoundModel",
    "PyroModel",
    "TruncatedNormal",
    "WrappedNormal",
    "check_bound",
    "draw_members",
    "draw_slots",
]
