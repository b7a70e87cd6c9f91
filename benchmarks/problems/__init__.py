"""The models of the benchmarks, each said several times: with this package, by hand in Pyro, NumPyro and PyMC, and bare.

A model is a module with these functions:

- ``data()``: the data, as numpy arrays by name
- ``bridged(data)``: the bound model of this package
- ``by_hand(data)``: the Pyro model
- ``numpyro_model(data)`` and ``pymc_model(data)``: those of the peers, `None` where the peer cannot say it
- ``bare(data)``: a function of a flat vector in torch, the log density without any framework, in the order of
  ``ck.LogDensity(bridged(data), noncentered=False)``
- ``SITES``: by site of the bridged model, the name in the others
"""

from importlib import import_module
from types import ModuleType

__all__ = ["NAMES", "load"]

NAMES = ("eight_schools", "radon", "blobs", "galaxies")


def load(name: str) -> ModuleType:
    """The module of a model."""
    return import_module(f"problems.{name}")
