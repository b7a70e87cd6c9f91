"""Traces of functions: graphs of torch's operations."""

from .decompositions import simpler, small_decompositions
from .program import Program, trace_program
from .recorder import INDEXING, UntraceableError, record

__all__ = ["INDEXING", "Program", "UntraceableError", "record", "simpler", "small_decompositions", "trace_program"]
