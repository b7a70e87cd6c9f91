"""From a function of tensors to machine code that gives its value and gradient. It knows torch, and nothing of models."""

from .failures import NotFactorisedError, first_line, or_impossible
from .inductor import NotFlatError, Wrapped
from .library import Native, cache_folder, load_native
from .torch_internals import unwatched
from .trace import Program, UntraceableError, record, trace_program

__all__ = [
    "Native",
    "NotFactorisedError",
    "NotFlatError",
    "Program",
    "UntraceableError",
    "Wrapped",
    "cache_folder",
    "first_line",
    "load_native",
    "or_impossible",
    "record",
    "trace_program",
    "unwatched",
]
