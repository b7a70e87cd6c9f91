"""Several chains, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, cast

import numpy as np

from ..bridge.turns import in_turn, out_of_turn
from ..density import LogDensity
from ..errors import SamplingError
from .lean import run_lean_chain
from .nuts import run_pyro_chain
from .progress import Progress, SamplingProgress
from .settings import Chain, ChainSettings

__all__ = ["Draws", "run_chains"]

SECONDS_BETWEEN_REPORTS = 0.1

Running = dict["Connection[Any, Any]", tuple[int, Any]]
"""The chains at work: by the connection to its process, the number of a chain and the process."""


@dataclass(frozen=True)
class Draws:
    """The draws of several chains.

    Attributes:
        z: Unconstrained, of shape ``(chains, draws, dim)``.
        stats: By name, of shape ``(chains, draws)``.
        step_sizes: The adapted step size of each chain.
        complete: Whether all draws were made; False after an interrupt.
    """

    z: np.ndarray[Any, Any]
    stats: dict[str, np.ndarray[Any, Any]]
    step_sizes: tuple[float, ...]
    complete: bool


def run_chains(density: LogDensity, settings: ChainSettings, chains: int, cores: int | None, progress: bool) -> Draws:
    """Run chains side by side and put their draws together.

    Args:
        density: The density to sample.
        settings: How each chain is run.
        chains: How many.
        cores: How many at once; as many as there are processors by default. One runs them in this process, as does a process
            that may have no children.
        progress: Whether to show where they stand.

    Returns:
        The draws. After Ctrl-C those that all chains have made so far; the draws are the same for any ``cores``.

    Raises:
        SamplingError: A chain failed.
        KeyboardInterrupt: On Ctrl-C before the first draw.
    """
    # A process of a multiprocessing.Pool may have no children.
    at_once = 1 if multiprocessing.current_process().daemon else min(chains, cores or usable_cores())
    with SamplingProgress(chains, settings.tune, settings.draws, progress) as shown:
        if at_once == 1:
            finished = _here(density, settings, chains, shown.update)
        else:
            with out_of_turn():
                finished = _in_processes(density, settings, chains, at_once, shown.update)
    return _together(finished)


def usable_cores() -> int:
    """How many processors this process may use; fewer than there are on a shared machine or in a container."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _run_chain(density: LogDensity, settings: ChainSettings, *rest: Any) -> Chain:
    run = run_pyro_chain if settings.engine == "pyro" else run_lean_chain
    return run(density, settings, *rest)


def _together(finished: list[Chain]) -> Draws:
    shortest = min(len(chain.stats["diverging"]) for chain in finished)
    if shortest == 0:
        raise KeyboardInterrupt
    return Draws(
        z=np.stack([chain.draws[:shortest] for chain in finished]),
        stats={name: np.stack([chain.stats[name][:shortest] for chain in finished]) for name in finished[0].stats},
        step_sizes=tuple(chain.step_size for chain in finished),
        complete=all(chain.complete for chain in finished),
    )


def _here(density: LogDensity, settings: ChainSettings, chains: int, report: Callable[[Progress], None]) -> list[Chain]:
    """One chain after the other in this process; an interrupt keeps the draws of the chain that it meets."""
    finished: list[Chain] = []
    for chain in range(chains):
        try:
            finished.append(_run_chain(density, settings, chain, report, lambda: False))
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
    density: LogDensity, settings: ChainSettings, chains: int, at_once: int, report: Callable[[Progress], None]
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
                    with in_turn():  # a process inherits the handlers of Pyro that are at work
                        connection, process = _start(context, density, settings, chain, stop)
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
    context: Any, density: LogDensity, settings: ChainSettings, chain: int, stop: Any
) -> tuple[Connection[Any, Any], Any]:
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sending, density, settings, chain, stop), daemon=True)
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


def _work(sending: Connection[Any, Any], density: LogDensity, settings: ChainSettings, chain: int, stop: Any) -> None:
    """The life of a process: run one chain and send what comes of it."""
    # Ctrl-C reaches all processes of the terminal; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    last = 0.0
    total = settings.tune + settings.draws
    one_at_a_time = threading.Lock()  # a sampler may report from a thread of its own

    def send(message: Any) -> None:
        with one_at_a_time:
            if not sending.closed:  # that thread may have a last word after the end
                sending.send(message)

    def report(progress: Progress) -> None:
        nonlocal last
        if progress.step == total or time.monotonic() - last > SECONDS_BETWEEN_REPORTS:
            last = time.monotonic()
            send(progress)

    try:
        send(_run_chain(density, settings, chain, report, stop.is_set))
    except Exception:  # noqa: BLE001 - whatever the user's simulator raises is told to the parent, which raises
        send(traceback.format_exc())
    finally:
        with one_at_a_time:
            sending.close()
