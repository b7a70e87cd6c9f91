"""The bridge to Pyro: dynamic params become sample sites, hierarchical links become plates."""

from .bound import BoundModel
from .model import PyroModel
from .population import draw_members, draw_slots
from .truncated_normal import TruncatedNormal

__all__ = ["BoundModel", "PyroModel", "TruncatedNormal", "draw_members", "draw_slots"]
