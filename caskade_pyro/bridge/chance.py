"""Simulators that are not the same each time: they draw random numbers that are no sites, or keep state between calls.

A density is a function of the params. What a simulator draws by itself makes it another one at each evaluation, and what is
sampled is no posterior.
"""

from __future__ import annotations

import linecache
import random
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, sleep
from types import FrameType, TracebackType
from typing import Any

import numpy as np
import pyro
import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import Distribution
from torch.utils._python_dispatch import TorchDispatchMode

from ..errors import ModelError
from ..graph.plates.distributions import parts
from .randomness import OwnNumbers

__all__ = ["Watch", "check_same", "drawn_in_vmap", "state_of_others", "watched"]

LIBRARIES = tuple(
    f"{Path(str(module.__file__)).parent}/" for module in (torch, pyro, np, sys.modules[__name__.partition(".")[0]])
)
"""Where lines are not the user's."""

STANDARD = f"{sysconfig.get_path('stdlib')}/"
"""Where the lines of Python's own library are."""

SIMULATE = str(Path(__file__).with_name("simulate.py"))
"""Whose lines call the simulator."""

PORTIONS = ("p", "dropout", "dropout_p")
"""Arguments that say how much is dropped: nothing, and nothing is random."""

ROUNDS, REST = 3, 0.01
"""How often it is looked whether a run moves a generator, and for how long, in seconds, nothing runs in between."""

INSTEAD = (
    "Its density would be another one at each evaluation, so that what is sampled is no posterior. Make what it draws sites "
    "(a param with a prior, pyro.sample or ck.draw_members), leave noise to the distribution that it returns, or draw "
    "once, outside, and give the numbers as an input."
)


class Watch(TorchDispatchMode):
    """Sees random numbers that a simulator draws with torch, but for those of its sites.

    Args:
        method: The name of the simulator.
        numbers: Where the draws of this thread come from; a generator of the simulator's own may be seeded in each call.

    Attributes:
        sites: How many sites are being sampled.
        found: What was drawn, in words.
        seen: What was drawn from other generators.
    """

    def __init__(self, method: str, numbers: OwnNumbers) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.method, self.numbers = method, numbers
        self.sites = 0
        self.found = self.seen = ""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Look at an operation of torch."""
        named = dict(kwargs or {})
        if self.sites == 0 and _draws(func, args, named):
            what = _drawn_with(f"torch's {func.name().partition('::')[2].partition('.')[0]}", _line(sys._getframe()))
            given = named.get("generator")
            if given is None or any(given is own for own in self.numbers.generators.values()):
                self.found = self.found or what
            else:
                self.seen = what
        return func(*args, **named)


class _Sites(Messenger):
    """Tells a watch when a site is sampled."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self.watch = watch

    def _pyro_sample(self, _: Any) -> None:
        self.watch.sites += 1

    def _pyro_post_sample(self, _: Any) -> None:
        self.watch.sites -= 1


@contextmanager
def watched(method: str) -> Iterator[Watch]:
    """Look out for random numbers that a simulator draws with torch in this block.

    Args:
        method: Its name.
    """
    with OwnNumbers(0) as numbers, Watch(method, numbers) as watch, _Sites(watch):
        yield watch


def _draws(func: Any, args: Sequence[Any], named: Mapping[str, Any]) -> bool:
    """Whether an operation draws random numbers."""
    arguments = [one.name for one in func._schema.arguments]
    if torch.Tag.nondeterministic_seeded not in func.tags and "generator" not in arguments:
        return False
    given = dict(zip(arguments, args, strict=False)) | dict(named)
    nothing = any(
        name in arguments and given.get(name, 0.0) == 0.0 for name in PORTIONS if "generator" not in arguments
    )
    return not nothing and given.get("train", True) is not False


def _drawn_with(what: str, line: str) -> str:
    return f"draws random numbers with {what}{line}"


def _refused(method: str, what: str) -> ModelError:
    return ModelError(f"{method} {what}. {INSTEAD}")


def _line(frame: FrameType | None) -> str:
    """The line of the user's at which a frame, or the nearest caller, stands."""
    while frame is not None and frame.f_code.co_filename != SIMULATE:
        if _is_users(frame.f_code.co_filename):
            return _at(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back
    return ""


def _is_users(file: str) -> bool:
    of_python = file.startswith(STANDARD) and "site-packages" not in file
    return not of_python and file != "<string>" and not file.startswith((*LIBRARIES, "<frozen"))


def _at(file: str, number: int) -> str:
    text = linecache.getline(file, number).strip()
    return f" in line {number} of {Path(file).name}" + (f" ({text})" if text else "")


def drawn_in_vmap(error: BaseException, method: str) -> ModelError | None:
    """The refusal of a simulator that draws random numbers in a vmap, which torch has refused already; None for others."""
    if "randomness" not in str(error) or "vmap" not in str(error):
        return None
    traceback: TracebackType | None = error.__traceback__
    line = ""
    while traceback is not None:
        if _is_users(traceback.tb_frame.f_code.co_filename):
            line = _at(traceback.tb_frame.f_code.co_filename, traceback.tb_lineno)
        traceback = traceback.tb_next
    return _refused(method, _drawn_with("torch", line))


# Generators of others, and state


def state_of_others() -> dict[str, Any]:
    """The states of the generators of numpy and of Python."""
    kind, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    return {"numpy.random": (kind, np.asarray(keys).tobytes(), *rest), "Python's random": random.getstate()}


def check_same(
    method: str,
    first: Sequence[Any],
    again: Callable[[], Sequence[Any]],
    watch: Watch,
) -> None:
    """Check that a simulator draws no random numbers; run it once more, and check that it does the same.

    Args:
        method: Its name.
        first: The distributions that its first run came to.
        again: Runs it, and gives these.
        watch: What was seen in the first run.

    Raises:
        ModelError: It draws some, or does not.
    """
    if watch.found:
        raise _refused(method, watch.found)
    before = state_of_others()
    second = again()
    moved = [name for name, state in state_of_others().items() if state != before[name]]
    same = len(first) == len(second) and all(_same(a, b) for a, b in zip(first, second, strict=True))
    if moved and (not same or _moves(moved[0], again)):
        raise _refused(method, _drawn_with(moved[0], _line_that_moves(moved[0], again)))
    if not same:
        what = watch.seen or (
            "gives another prediction when it runs again for the same params: it keeps state between calls, or draws from a "
            "generator of its own"
        )
        raise _refused(method, what)


def _moves(name: str, run: Callable[[], Any]) -> bool:
    """Whether it is this run that draws from a generator of all threads: it moves with each run, and rests in between."""
    if threading.active_count() == 1:
        return True
    for _ in range(ROUNDS):
        before, began = state_of_others()[name], perf_counter()
        run()
        between = state_of_others()[name]
        if between == before:
            return False
        sleep(max(perf_counter() - began, REST))
        if state_of_others()[name] != between:
            return False  # another thread draws
    return True


def _line_that_moves(name: str, run: Callable[[], Any]) -> str:
    """The line of the user's after which a generator has another state."""
    found: list[str] = []
    last: dict[FrameType, int] = {}
    state = state_of_others()[name]

    def step(frame: FrameType, *_: Any) -> Any:
        nonlocal state
        if not _is_users(frame.f_code.co_filename):
            return None
        now = state_of_others()[name]
        if now != state and not found and frame in last:
            found.append(_at(frame.f_code.co_filename, last[frame]))
        state = now
        last[frame] = frame.f_lineno
        return step

    former = sys.gettrace()
    sys.settrace(step)
    try:
        run()
    finally:
        sys.settrace(former)
    return found[0] if found else ""


def _same(one: Any, other: Any) -> bool:
    """Whether two distributions are the same, but for rounding."""
    mine, others = _tensors(one), _tensors(other)
    return len(mine) == len(others) and all(map(_close, mine, others))


def _close(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if not a.is_floating_point():
        return bool(torch.equal(a, b))
    tolerance = 100 * torch.finfo(a.dtype).eps
    return torch.allclose(a, b, rtol=tolerance, atol=0.0, equal_nan=True)


def _tensors(distribution: Any) -> list[Tensor]:
    """The tensors that make a distribution."""
    try:
        return [one.detach() for one in parts(distribution).tensors]
    except ModelError:
        found: list[Tensor] = []
        for value in vars(distribution).values():
            if isinstance(value, Tensor):
                found.append(value.detach())
            elif isinstance(value, Distribution):
                found += _tensors(value)
        return found
