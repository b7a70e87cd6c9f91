"""The bridge to Pyro: dynamic params become sample sites, hierarchical links become plates."""

from .model import BoundModel, PyroModel

__all__ = ["BoundModel", "PyroModel"]
