"""From a traced program to code whose loops are known: the passes, in the order in which they run."""

from .from_graph import baked, build
from .fusion import Nest, Order, is_whole
from .loops import Loops
from .scalars import written_out

__all__ = ["Loops", "Nest", "Order", "baked", "build", "is_whole", "written_out"]
