"""Many chains as one batch against a few in processes: effective draws per second, and what a gradient costs.

    python benchmarks/many_chains.py [--models eight_schools radon] [--json many_chains.json]

Each run is in a process of its own that finds the density compiled. A gradient's cost has the sampler's in it: the time of
sampling over the gradients of all chains, where warm-up is taken to need as many for each draw as what follows.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

RUNS = {
    "4 chains in processes": {"chains": 4, "tune": 1000, "draws": 1000},
    "64 as a batch": {"chains": 64, "tune": 150, "draws": 150, "vectorized": True},
    "512 as a batch": {"chains": 512, "tune": 60, "draws": 40, "vectorized": True},
    "2048 as a batch": {"chains": 2048, "tune": 50, "draws": 20, "vectorized": True},
    "64 as a batch, traced": {"chains": 64, "tune": 150, "draws": 150, "vectorized": True},
}
COLUMNS = ("seconds", "smallest ESS", "ESS/s", "gradients", "us per gradient", "divergences")


def measure(model, name):
    """The figures of one run, in this process."""
    import arviz as az
    import numpy as np
    from problems import load

    import caskade_pyro as ck

    warnings.simplefilter("ignore")
    settings = RUNS[name]
    problem = load(model)
    bound = problem.bridged(problem.data())
    began = time.perf_counter()
    posterior = ck.sample(bound, seed=1, progress=False, **settings)
    seconds = time.perf_counter() - began
    ess = az.ess(posterior.posterior)
    smallest = min(float(ess[variable].min()) for variable in ess.data_vars)
    steps = int(posterior.sample_stats["n_steps"].sum())
    at_once = 1 if settings.get("vectorized") else min(settings["chains"], len(os.sched_getaffinity(0)))
    every = steps * (1 + settings["tune"] / settings["draws"])
    cost = posterior.posterior.attrs["sampling_time"] * at_once / every * 1e6
    figures = (seconds, smallest, smallest / seconds, steps, cost, int(np.sum(posterior.sample_stats["diverging"])))
    return dict(zip(COLUMNS, figures, strict=True))


def in_a_process(model, name, cache):
    """The figures of one run, from a process of its own."""
    environment = os.environ | {"CASKADE_PYRO_CACHE": cache, "OMP_NUM_THREADS": "1"}
    if name.endswith("traced"):
        environment |= {"CXX": "no-compiler"}
    command = [sys.executable, __file__, "--one", model, name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["eight_schools", "radon"])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*options.one)))
        return
    found = {}
    with tempfile.TemporaryDirectory() as cache:
        for model in options.models:
            print(f"{model:24}" + "".join(f"{name:>17}" for name in COLUMNS))
            in_a_process(model, next(iter(RUNS)), cache)  # which compiles
            for name in RUNS:
                found[f"{model}, {name}"] = row = in_a_process(model, name, cache)
                print(f"{name:24}" + "".join(f"{one:17.4g}" for one in row.values()), flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
