"""The same function for many indices, in several processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from typing import Any, TypeVar

from .progress import progress_bar

__all__ = ["map_in_processes"]

Result = TypeVar("Result")

_job: list[Callable[[int], Any]] = []
"""What the processes of a pool are to run. They are forked, so the function, which may be a closure, need not pickle."""


def map_in_processes(
    function: Callable[[int], Result], count: int, cores: int | None, progress: bool, description: str
) -> list[Result]:
    """Call a function for the numbers below a count.

    Args:
        function: The function; it must seed itself, so that the results are the same for any number of processes.
        count: How often to call it.
        cores: How many processes; as many as there are processors by default. One runs in this process.
        progress: Whether to show how far it is.
        description: What is shown.

    Returns:
        The results in order. After Ctrl-C those that are there, in order.

    Raises:
        KeyboardInterrupt: On Ctrl-C before the first result.
    """
    # A process of a multiprocessing.Pool may have no children.
    at_once = 1 if multiprocessing.current_process().daemon else min(count, cores or os.cpu_count() or 1)
    found: dict[int, Result] = {}
    with progress_bar(count, description, "run", progress) as bar:
        try:
            # The first runs here: what it compiles is then there for all others.
            found[0] = function(0)
            bar.update()
            rest = range(1, count)
            if at_once == 1 or "fork" not in multiprocessing.get_all_start_methods():
                for index in rest:
                    found[index] = function(index)
                    bar.update()
            else:
                for index, result in _forked(function, rest, at_once):
                    found[index] = result
                    bar.update()
        except KeyboardInterrupt:
            if not found:
                raise
    return [found[index] for index in sorted(found)]


def _forked(function: Callable[[int], Result], indices: range, at_once: int) -> Any:
    _job.append(function)
    try:
        with multiprocessing.get_context("fork").Pool(at_once, initializer=_ignore_interrupts) as pool:
            yield from pool.imap_unordered(_run, indices)
    finally:
        _job.pop()


def _ignore_interrupts() -> None:
    # Ctrl-C reaches all processes of the terminal; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run(index: int) -> tuple[int, Any]:
    return index, _job[-1](index)
