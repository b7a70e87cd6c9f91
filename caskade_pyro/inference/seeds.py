"""Seeds: the same draws for the same seed, whatever runs them."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import torch

from ..bridge.randomness import own_numbers

__all__ = ["LARGEST_SEED", "fresh_seed", "on_one_core", "seeded", "stream_seed"]


LARGEST_SEED = 2**63 - 1
"""The largest seed that files of draws can hold."""


def fresh_seed() -> int:
    """A seed from the operating system's entropy."""
    return int(np.random.SeedSequence().generate_state(1)[0])


def stream_seed(seed: int, stream: int) -> int:
    """The seed of one of many independent streams: a chain, or a set of predictions."""
    return int(np.random.SeedSequence([seed, stream]).generate_state(1)[0])


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from a seed, in one thread of arithmetic, so that sums come out the same everywhere; other threads notice nothing.

    torch's draws come from a generator of our own. Distributions of a user's own may draw with numpy or Python's ``random``,
    whose generators belong to all threads: these are seeded, and put back afterwards, where no other thread is alive.
    """
    alone = threading.active_count() == 1
    with on_one_core(), own_numbers(seed), _seeded_for_all(seed) if alone else nullcontext():
        yield


@contextmanager
def on_one_core() -> Iterator[None]:
    """One thread of arithmetic, so that sums come out the same everywhere."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _seeded_for_all(seed: int) -> Iterator[None]:
    python, arrays = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)  # noqa: NPY002
