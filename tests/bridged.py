"""Seven plain shapes of the registry, for tests that need few models."""

from registry import PAIRS as ALL_PAIRS
from registry.hierarchies import Galaxy, Survey, axes
from registry.pair import Pair, data
from registry.shared import Line

__all__ = ["PAIRS", "Galaxy", "Line", "Pair", "Survey", "axes", "data"]

PAIRS = {
    name: ALL_PAIRS[name]
    for name in ("one_plate", "two_nested", "shared_param", "outer_batch", "two_data_sets", "crossed", "three_nested")
}
