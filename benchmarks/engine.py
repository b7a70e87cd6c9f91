"""The graph engine against the package `caskade`: what a call, an access and an edit cost beside the arithmetic.

    python benchmarks/engine.py [--json engine.json]

Both packages run the same modules on the same tensors in one process, in turn, and the table shows medians and their
ratios. A call's overhead is the call minus the same torch arithmetic without a graph. It is a small difference of large
numbers, so it is taken within each of many short rounds, where both met the same machine, and times are those of the
processor: everything here runs in one thread, and what other programs take from it in between is not counted. The ladder
of diamonds runs on ours alone: the other package walks it in exponential time.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from operator import sub
from pathlib import Path
from types import ModuleType
from typing import Any

import caskade
import torch

import caskade_pyro

PACKAGES = {"caskade": caskade, "caskade_pyro": caskade_pyro}
ROUNDS = 120
ROUND_SECONDS = 0.004


@dataclass(frozen=True)
class Row:
    """One comparison: medians in microseconds, what is left of ours where arithmetic is taken away, and the ratio."""

    name: str
    caskade: float
    caskade_pyro: float
    ratio: float


def five_params(ck: ModuleType) -> tuple[Callable[[], Any], Callable[[], Any], Any]:
    """A module of five params: the call, the bare arithmetic, and the module."""

    class Five(ck.Module):
        def __init__(self) -> None:
            super().__init__("five")
            for name in "abcde":
                setattr(self, name, ck.Param(name, 1.0, shape=(), dynamic=True))

        @ck.forward
        def run(self, x, a, b, c, d, e):
            return a + b * x + c * x + d * x + e

    module, x = Five(), torch.linspace(0, 1, 10)
    params = torch.ones(5)

    def bare() -> torch.Tensor:
        a, b, c, d, e = params
        return a + b * x + c * x + d * x + e

    return lambda: module.run(x, params), bare, module


def sixty_modules(ck: ModuleType) -> tuple[Callable[[], Any], Callable[[], Any], Any]:
    """Sixty lenses that share a cosmology."""

    class Lens(ck.Module):
        def __init__(self, name: str, shared: Any) -> None:
            super().__init__(name)
            self.mass = ck.Param("mass", 1.0, shape=(), dynamic=True)
            self.h0 = ck.Param("h0", shared)

        @ck.forward
        def deflect(self, x, mass, h0):
            return mass * x + h0

    class Cluster(ck.Module):
        def __init__(self) -> None:
            super().__init__("cluster")
            self.h0 = ck.Param("h0", 0.7, shape=(), dynamic=True)
            self.keys = [f"lens{i}" for i in range(60)]
            for key in self.keys:
                setattr(self, key, Lens(key, self.h0))

        @ck.forward
        def deflect(self, x):
            for key in self.keys:
                x = self[key].deflect(x)
            return x

    module, x = Cluster(), torch.linspace(0, 1, 10)
    params = torch.ones(61)

    def bare() -> torch.Tensor:
        h0, *masses = params
        y = x
        for mass in masses:
            y = mass * y + h0
        return y

    return lambda: module.deflect(x, params), bare, module


def hundred_members(ck: ModuleType) -> tuple[Callable[[], Any], Callable[[], Any], Any]:
    """A hundred blobs under vmap."""

    class Blob(ck.Module):
        def __init__(self) -> None:
            super().__init__("blob")
            self.x0 = ck.Param("x0", torch.zeros(100), shape=(), dynamic=True)
            self.width = ck.Param("width", torch.ones(100), shape=(), dynamic=True)

        @ck.forward
        def at(self, x, x0, width):
            return torch.exp(-(((x - x0) / width) ** 2))

    class Blobs(ck.Module):
        def __init__(self) -> None:
            super().__init__("blobs")
            self.hierarchical_link("blob", Blob())

        @ck.forward
        def at(self, x, blob_params, blob_dims):
            return torch.vmap(self.blob.at, in_dims=(None, blob_dims))(x, blob_params).sum(0)

    module, x = Blobs(), torch.linspace(0, 1, 10)
    params = torch.ones(200)

    def one(x: torch.Tensor, members: list[torch.Tensor]) -> torch.Tensor:
        x0, width = members
        return torch.exp(-(((x - x0) / width) ** 2))

    def bare() -> torch.Tensor:  # the same vmap over a list, which is what both packages hand to torch
        return torch.vmap(one, in_dims=(None, [0, 0]))(x, list(params.split(100))).sum(0)

    return lambda: module.at(x, params), bare, module


CASES = {
    "5 params": five_params,
    "60 modules sharing a param": sixty_modules,
    "100 members under vmap": hundred_members,
}


def edit(module: Any) -> Callable[[], Any]:
    """Take the first dynamic param out of the graph's inputs, look at the inputs, and put it back."""
    param = module.dynamic_params[0]

    def run() -> None:
        param.to_static()
        len(module.dynamic_params)
        param.to_dynamic()
        len(module.dynamic_params)

    return run


def measured(functions: dict[str, Callable[[], Any]]) -> dict[str, list[float]]:
    """Microseconds of each function in each of many short rounds, all measured in turn within each."""
    repeats = {name: max(1, int(ROUND_SECONDS / _seconds(function))) for name, function in functions.items()}
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(ROUNDS):
        for name, function in functions.items():
            begin = time.process_time()
            for _ in range(repeats[name]):
                function()
            times[name].append((time.process_time() - begin) / repeats[name] * 1e6)
    return times


def medians(functions: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Median microseconds of each function."""
    return {name: statistics.median(times) for name, times in measured(functions).items()}


def overheads(calls: dict[str, Callable[[], Any]], bare: Callable[[], Any]) -> dict[str, float]:
    """Median microseconds by which each call costs more than the arithmetic alone in the same round."""
    times = measured({**calls, "bare": bare})
    return {name: statistics.median(map(sub, times[name], times["bare"])) for name in calls}


def _seconds(function: Callable[[], Any]) -> float:
    """The shortest of a few calls: one that was interrupted says nothing of how many fit into a round."""
    times = []
    for _ in range(10):
        begin = time.process_time()
        function()
        times.append(time.process_time() - begin)
    return min(times)


def compare() -> list[Row]:
    """Calls, accesses and edits of each case."""
    rows = []
    for name, case in CASES.items():
        made = {package: case(ck) for package, ck in PACKAGES.items()}
        bare = made["caskade"][1]
        calls = {package: call for package, (call, _, _) in made.items()}
        for package in made:
            torch.testing.assert_close(calls[package](), bare())
        rows.append(_row(f"{name}: call minus arithmetic", overheads(calls, bare)))
        modules = {package: module for package, (_, _, module) in made.items()}
        vectors = {package: module.get_values() for package, module in modules.items()}
        rows.append(_row(f"{name}: get_values", medians({p: m.get_values for p, m in modules.items()})))
        setters = {p: (lambda m=m, v=vectors[p]: m.set_values(v)) for p, m in modules.items()}
        rows.append(_row(f"{name}: set_values", medians(setters)))
        rows.append(_row(f"{name}: edit a role", medians({p: edit(m) for p, m in modules.items()})))
    return rows


def _row(name: str, found: dict[str, float]) -> Row:
    return Row(name, found["caskade"], found["caskade_pyro"], found["caskade_pyro"] / found["caskade"])


def ladder(levels: int = 1000) -> dict[str, float]:
    """Seconds to build, run, print and draw a ladder of diamonds."""
    ck = caskade_pyro

    class Rung(ck.Module):
        def __init__(self, name: str, below: "Rung | None") -> None:
            super().__init__(name)
            self.left = ck.Module("left")
            self.right = ck.Module("right")
            self.offset = ck.Param("offset", 1.0, shape=(), dynamic=True)
            self.below = below
            if below is not None:
                self.left.link("below", below)
                self.right.link("below", below)

        @ck.forward
        def own(self, offset):
            return offset

    seconds = {}
    begin = time.perf_counter()
    top: Rung | None = None
    for level in range(levels):
        top = Rung(f"rung{level}", top)
    seconds["build"] = time.perf_counter() - begin
    for what, action in {
        "run": lambda: top.own(torch.ones(levels)),
        "get and set values": lambda: top.set_values(top.get_values()),
        "print": lambda: str(top),
        "draw the source": lambda: top.graphviz().source,
    }.items():
        begin = time.perf_counter()
        action()
        seconds[what] = time.perf_counter() - begin
    seconds["all"] = sum(seconds.values())
    return seconds


def main() -> None:
    """Run everything and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = compare()
    print(f"{'microseconds':48} {'caskade':>9} {'ours':>9} {'ours / caskade':>15}")
    for row in rows:
        print(f"{row.name:48} {row.caskade:9.1f} {row.caskade_pyro:9.1f} {row.ratio:15.2f}")
    seconds = ladder()
    print("\nladder of 1,000 diamonds, seconds: " + ", ".join(f"{what} {value:.2f}" for what, value in seconds.items()))
    if options.json:
        options.json.write_text(json.dumps({"rows": [asdict(row) for row in rows], "ladder": seconds}, indent=1))


if __name__ == "__main__":
    main()
