"""What a variational fit costs: ours, on the compiled density, against Pyro's SVI with the model written by hand.

    python benchmarks/svi.py [--json svi.json] [--models eight_schools radon blobs galaxies] [--steps 2000]

All fits run in turn in one process on one thread, with the same guide, optimiser, learning rate and number of steps; the
times are for the whole fit. "Cold": with an empty cache of compiled code; "again": with what the fit before left there.
"""

import argparse
import json
import tempfile
import time
import warnings
from os import environ
from pathlib import Path

import numpy as np
import pyro
import torch
from problems import NAMES, load
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide.initialization import init_to_median
from pyro.optim import ClippedAdam

import caskade_pyro as ck
from caskade_pyro.inference.guides import GUIDES

CHOICES = ("normal", "full_rank")
LAST = 200
LR = 0.02


def ours(problem, data, guide, steps):
    """The loss of each step of our fit."""
    fitted = ck.fit(problem.bridged(data), guide, steps=steps, seed=1, lr=LR, engine="compiled", progress=False)
    return fitted.losses


def pyros(problem, data, guide, steps):
    """The loss of each step of Pyro's SVI."""
    pyro.clear_param_store()
    pyro.set_rng_seed(1)
    model = problem.by_hand(data)
    made = GUIDES[guide](model, init_loc_fn=init_to_median(num_samples=10))
    svi = SVI(model, made, ClippedAdam({"lr": LR, "lrd": 0.1 ** (1 / steps)}), Trace_ELBO())
    return np.array([svi.step() for _ in range(steps)])


def timed(function, *args):
    """Seconds, and the mean of the last losses."""
    began = time.perf_counter()
    losses = function(*args)
    return time.perf_counter() - began, float(losses[-LAST:].mean())


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--models", nargs="+", default=NAMES)
    parser.add_argument("--steps", type=int, default=2000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    found = []
    columns = ("cold, s", "again, s", "Pyro, s", "ratio", "loss", "Pyro's loss")
    print(f"{'model':15}{'guide':12}" + "".join(f"{column:>13}" for column in columns))
    for name in options.models:
        problem = load(name)
        data = problem.data()
        for guide in CHOICES:
            with tempfile.TemporaryDirectory() as cache:
                environ["CASKADE_PYRO_CACHE"] = cache
                cold, _ = timed(ours, problem, data, guide, options.steps)
                again, loss = timed(ours, problem, data, guide, options.steps)
            theirs, other = timed(pyros, problem, data, guide, options.steps)
            row = (cold, again, theirs, theirs / again, loss, other)
            found.append({"model": name, "guide": guide, **dict(zip(columns, row, strict=True))})
            print(f"{name:15}{guide:12}" + "".join(f"{value:13.2f}" for value in row), flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
