"""What a gradient costs: each route to the density of a model, against its bare arithmetic, compiled by the same compiler.

    python benchmarks/gradient.py [--json gradient.json] [--models eight_schools radon blobs galaxies]

All routes of a model are measured in turn in one process, on one thread; figures are the best of several rounds, in
microseconds for a value with its gradient.
"""

import argparse
import json
import tempfile
import time
import warnings
from os import environ
from pathlib import Path

import pyro
import torch
from problems import NAMES, load
from pyro.infer.mcmc.util import initialize_model

import caskade_pyro as ck
from caskade_pyro.compiler import load_native, trace_program
from caskade_pyro.density.flat import make_flat

ROUNDS, SECONDS = 7, 0.15
ROUTES = ("Pyro", "traced", "compiled", "compiled, in C", "by hand in Pyro, in C", "bare, in C")


def one_round(function):
    """Microseconds of one call, over some tenths of a second."""
    calls, began = 0, time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        function()
        calls += 1
    return (time.perf_counter() - began) / calls * 1e6


def in_c(native):
    """The compiled code, called without copying vectors."""
    return lambda: native._run(native.pointers)


def pyro_eager(model):
    """Pyro's own potential with its gradient."""
    initial, potential, _, _ = initialize_model(model, (), init_strategy=pyro.infer.autoguide.init_to_median)
    leaves = {name: value.detach().requires_grad_() for name, value in initial.items()}

    def run():
        with pyro.validation_enabled(False):
            torch.autograd.grad(potential(leaves), list(leaves.values()))

    return run


def routes(name):
    """By route, a call of the density of a model."""
    problem = load(name)
    data = problem.data()
    traced, compiled = (ck.LogDensity(problem.bridged(data)) for _ in range(2))
    compiled.compile()
    z = compiled.initial(1)
    by_hand = make_flat(problem.by_hand(data))
    hand = load_native(trace_program(by_hand.log_density, z))
    bare = load_native(trace_program(problem.bare(data), z))
    calls = (
        pyro_eager(problem.by_hand(data)),
        lambda: traced.value_and_grad(z),
        lambda: compiled.value_and_grad(z),
        in_c(compiled.native),
        in_c(hand),
        in_c(bare),
    )
    for one in (compiled.native, bare):
        one.run(z)
    return dict(zip(ROUTES, calls, strict=True))


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--models", nargs="+", default=NAMES)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    found = {}
    with tempfile.TemporaryDirectory() as cache:
        environ["CASKADE_PYRO_CACHE"] = cache
        for name in options.models:
            calls = routes(name)
            rounds = [{route: one_round(call) for route, call in calls.items()} for _ in range(ROUNDS)]
            found[name] = {route: min(one[route] for one in rounds) for route in ROUTES}
            found[name]["ratio to bare"] = found[name]["compiled, in C"] / found[name]["bare, in C"]
    print(f"{'microseconds':24}" + "".join(f"{name:>15}" for name in found))
    for row in (*ROUTES, "ratio to bare"):
        print(f"{row:24}" + "".join(f"{found[name][row]:15.2f}" for name in found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
