"""One thread at a time: Pyro's handlers, its store of params and its switches belong to the whole process.

Whatever runs a model takes its turn first, so that calls from several threads wait for each other instead of mixing.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["in_turn", "in_turn_of_another", "out_of_turn"]


class _Holding(threading.local):
    depth = 0


_holding = _Holding()
_lock = threading.Lock()


@contextmanager
def in_turn() -> Iterator[None]:
    """Wait until no other thread runs a model; calls within the block need not wait again."""
    if _holding.depth == 0:
        _lock.acquire()
    _holding.depth += 1
    try:
        yield
    finally:
        _holding.depth -= 1
        if _holding.depth == 0:
            _lock.release()


@contextmanager
def out_of_turn() -> Iterator[None]:
    """Let others have their turn in the block, in which no model runs in this thread."""
    depth = _holding.depth
    if depth:
        _holding.depth = 0
        _lock.release()
    try:
        yield
    finally:
        if depth:
            _lock.acquire()
            _holding.depth = depth


@contextmanager
def in_turn_of_another() -> Iterator[None]:
    """For a thread that works for another one, which holds the turn and waits."""
    _holding.depth += 1
    try:
        yield
    finally:
        _holding.depth -= 1


def _after_fork() -> None:
    """In a forked process only the thread that forked lives on: a turn of any other has ended."""
    global _lock  # noqa: PLW0603 - the old one may be held by a thread that is not here
    _lock = threading.Lock()
    if _holding.depth:
        _lock.acquire()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
