"""Seeds: the same draws for the same seed, whatever runs them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyro
import torch

__all__ = ["fresh_seed", "seeded", "stream_seed"]


def fresh_seed() -> int:
    """A seed from the operating system's entropy."""
    return int(np.random.SeedSequence().generate_state(1)[0])


def stream_seed(seed: int, stream: int) -> int:
    """The seed of one of many independent streams: a chain, or a set of predictions."""
    return int(np.random.SeedSequence([seed, stream]).generate_state(1)[0])


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed all generators in use and put them back afterwards; one thread, so that sums come out the same everywhere."""
    # Pyro seeds numpy's global generator too, so that one is kept as well.
    python, arrays, threads = random.getstate(), np.random.get_state(), torch.get_num_threads()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        torch.set_num_threads(1)
        pyro.set_rng_seed(seed)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            random.setstate(python)
            np.random.set_state(arrays)  # noqa: NPY002
