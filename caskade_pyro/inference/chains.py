"""Several chains, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, cast

import numpy as np

from ..bridge.bound import BoundModel
from ..errors import SamplingError
from .nuts import Chain, ChainSettings, run_chain
from .progress import Progress, ProgressBars

__all__ = ["Draws", "run_chains"]

SECONDS_BETWEEN_REPORTS = 0.1

Running = dict["Connection[Any, Any]", tuple[int, Any]]
"""The chains at work: by the connection to its process, the number of a chain and the process."""


@dataclass(frozen=True)
class Draws:
    """The draws of several chains.

    Attributes:
        params: By site, in the user's params, of shape ``(chains, draws, *plates, *shape)``.
        stats: By name, of shape ``(chains, draws)``.
        step_sizes: The adapted step size of each chain.
        complete: Whether all draws were made; False after an interrupt.
        eager_because: Why the density was not traced; None if it was.
    """

    params: dict[str, np.ndarray[Any, Any]]
    stats: dict[str, np.ndarray[Any, Any]]
    step_sizes: tuple[float, ...]
    complete: bool
    eager_because: str | None


def run_chains(bound: BoundModel, settings: ChainSettings, chains: int, cores: int | None, progress: bool) -> Draws:
    """Run chains side by side and put their draws together.

    Args:
        bound: The model.
        settings: How each chain is run.
        chains: How many.
        cores: How many at once; as many as there are processors by default. One runs them in this process.
        progress: Whether to show a line for each chain.

    Returns:
        The draws. After Ctrl-C those that all chains have made so far; the draws are the same for any ``cores``.

    Raises:
        SamplingError: A chain failed.
        KeyboardInterrupt: On Ctrl-C before the first draw.
    """
    at_once = min(chains, cores or os.cpu_count() or 1)
    with ProgressBars(chains, settings.tune, settings.draws, progress) as bars:
        if at_once == 1:
            finished = _here(bound, settings, chains, bars.update)
        else:
            finished = _in_processes(bound, settings, chains, at_once, bars.update)
    return _together(finished)


def _together(finished: list[Chain]) -> Draws:
    shortest = min(len(chain.stats["diverging"]) for chain in finished)
    if shortest == 0:
        raise KeyboardInterrupt
    return Draws(
        params={name: np.stack([chain.draws[name][:shortest] for chain in finished]) for name in finished[0].draws},
        stats={name: np.stack([chain.stats[name][:shortest] for chain in finished]) for name in finished[0].stats},
        step_sizes=tuple(chain.step_size for chain in finished),
        complete=all(chain.complete for chain in finished),
        eager_because=finished[0].eager_because,
    )


def _here(bound: BoundModel, settings: ChainSettings, chains: int, report: Callable[[Progress], None]) -> list[Chain]:
    """One chain after the other in this process; an interrupt keeps the draws of the chain that it meets."""
    finished: list[Chain] = []
    for chain in range(chains):
        try:
            finished.append(run_chain(bound, settings, chain, report, lambda: False))
        except KeyboardInterrupt:
            if not finished:
                raise
            break
        except Exception as error:  # whatever the user's simulator raises
            raise SamplingError(f"Chain {chain + 1} failed: {error}") from error
        if not finished[-1].complete:
            break
    return finished


def _in_processes(
    bound: BoundModel, settings: ChainSettings, chains: int, at_once: int, report: Callable[[Progress], None]
) -> list[Chain]:
    # Forked processes need not pickle the model, which may hold lambdas or classes of a notebook.
    context = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else None)
    stop = context.Event()
    waiting = list(range(chains))
    running: Running = {}
    finished: dict[int, Chain] = {}
    try:
        while waiting or running:
            try:
                while waiting and len(running) < at_once and not stop.is_set():
                    chain = waiting.pop(0)
                    connection, process = _start(context, bound, settings, chain, stop)
                    running[connection] = (chain, process)
                if not running:
                    break
                _listen(running, finished, report)
            except KeyboardInterrupt:
                stop.set()
    finally:
        for _, process in running.values():
            process.terminate()
            process.join()
    return [finished[chain] for chain in sorted(finished)]


def _start(
    context: Any, bound: BoundModel, settings: ChainSettings, chain: int, stop: Any
) -> tuple[Connection[Any, Any], Any]:
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sending, bound, settings, chain, stop), daemon=True)
    process.start()
    sending.close()
    return receiving, process


def _listen(running: Running, finished: dict[int, Chain], report: Callable[[Progress], None]) -> None:
    """Take in what the processes have to say."""
    for connection in cast("list[Connection[Any, Any]]", wait(list(running))):
        chain, process = running[connection]
        try:
            message: Progress | Chain | str = connection.recv()
        except EOFError:
            process.join()
            raise SamplingError(f"Chain {chain + 1} died with exit code {process.exitcode}.") from None
        if isinstance(message, Progress):
            report(message)
        elif isinstance(message, Chain):
            finished[chain] = message
            del running[connection]
            process.join()
        else:
            raise SamplingError(f"Chain {chain + 1} failed:\n{message}")


def _work(sending: Connection[Any, Any], bound: BoundModel, settings: ChainSettings, chain: int, stop: Any) -> None:
    """The life of a process: run one chain and send what comes of it."""
    # Ctrl-C reaches all processes of the terminal; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    last = 0.0
    total = settings.tune + settings.draws

    def report(progress: Progress) -> None:
        nonlocal last
        if progress.step == total or time.monotonic() - last > SECONDS_BETWEEN_REPORTS:
            last = time.monotonic()
            sending.send(progress)

    try:
        sending.send(run_chain(bound, settings, chain, report, stop.is_set))
    except Exception:  # noqa: BLE001 - whatever the user's simulator raises is told to the parent, which raises
        sending.send(traceback.format_exc())
    finally:
        sending.close()
