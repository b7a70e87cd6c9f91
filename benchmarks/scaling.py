"""What a gradient costs as a population grows: the galaxies of the benchmark, tiled.

    python benchmarks/scaling.py [--copies 1 10 100] [--chunks 0 100] [--forms traced compiled] [--json scaling.json]

Each size, chunk size (0: all members at once) and form of the density is measured in a process of its own, on one thread, with
an empty cache of compiled code. Memory is the largest that the process took beyond what it took before the density was run
(working), and all that it took (peak); buffers are what the compiled code writes into.
"""

import argparse
import ctypes
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

SECONDS, ROUNDS = 1.0, 5
COLUMNS = ("members", "chunk", "form", "prepare s", "us", "us per member", "working MB", "peak MB", "buffers MB")


def peak():
    """The largest memory of this process so far, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def now():
    """The memory of this process, in megabytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure(copies, chunk, form):
    """The figures of one density, in this process."""
    import torch
    from problems import load

    import caskade_pyro as ck

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    problem = load("galaxies")
    data = problem.data(copies)
    began = time.perf_counter()
    density = ck.LogDensity(problem.bridged(data, chunk or None))
    if form == "compiled":
        density.compile()
    prepared = time.perf_counter() - began
    native = density.native
    z = density.initial(1)
    # Freed memory is given back, and the mark of the peak put to what is in use, so that what follows is what a gradient takes.
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = now()
    best = min(one_round(density, z) for _ in range(ROUNDS))
    members = len(data["stamps"])
    inputs = 0 if native is None else 1 + len(density._program.constants)
    buffers = 0 if native is None else sum(one.nbytes for one in native.buffers[inputs:])
    figures = (members, chunk, density.form, prepared, best, best / members, mark() - before, peak(), buffers / 2**20)
    return dict(zip(COLUMNS, figures, strict=True))


def mark():
    """The largest memory of this process since its mark was put back, in megabytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def one_round(density, z):
    """Microseconds of one gradient, over a second or at least twice."""
    calls, began = 0, time.perf_counter()
    while calls < 2 or time.perf_counter() - began < SECONDS:
        density.value_and_grad(z)
        calls += 1
    return (time.perf_counter() - began) / calls * 1e6


def in_a_process(copies, chunk, form):
    """The figures of one density, from a process of its own."""
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {
            "CASKADE_PYRO_CACHE": cache,
            "TORCHINDUCTOR_CACHE_DIR": cache,
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, __file__, "--one", str(copies), str(chunk), form]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", nargs="+", type=int, default=[1, 10, 100])
    parser.add_argument("--chunks", nargs="+", type=int, default=[0, 100])
    parser.add_argument("--forms", nargs="+", default=["traced", "compiled"])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        copies, chunk, form = options.one
        print(json.dumps(measure(int(copies), int(chunk), form)))
        return
    found = []
    print("".join(f"{name:>15}" for name in COLUMNS))
    for form in options.forms:
        for chunk in options.chunks:
            for copies in options.copies:
                if chunk >= 58 * copies:
                    continue
                found.append(in_a_process(copies, chunk, form))
                shown = (f"{one:.3g}" if isinstance(one, float) else str(one) for one in found[-1].values())
                print("".join(f"{one:>15}" for one in shown), flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
