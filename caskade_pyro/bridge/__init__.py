"""The bridge to Pyro: dynamic params become sample sites, hierarchical links become plates."""

from .bound import BoundModel, check_bound
from .model import PyroModel
from .multinomial import Multinomial
from .population import draw_members, draw_slots
from .truncated_normal import TruncatedNormal
from .wrapped_normal import WrappedNormal
from .zero_sum import ZeroSumNormal

__all__ = [
    "BoundModel",
    "Multinomial",
    "PyroModel",
    "TruncatedNormal",
    "WrappedNormal",
    "ZeroSumNormal",
    "check_bound",
    "draw_members",
    "draw_slots",
]
