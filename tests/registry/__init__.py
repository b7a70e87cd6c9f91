"""Bridged models beside the same models written by hand in Pyro: every shape of model that the package is for.

Each entry of `PAIRS` is a function that returns both, with the same data and site names.
"""

from . import crossed, datasets, hierarchies, likelihoods, populations, priors, shared, simulators
from .pair import Pair

__all__ = ["PAIRS", "Pair"]

_TOPICS = (hierarchies, shared, crossed, priors, likelihoods, datasets, simulators, populations)

PAIRS = {name: pair for topic in _TOPICS for name, pair in topic.PAIRS.items()}
