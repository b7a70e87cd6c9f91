"""NUTS from this package against its peers, on the same models and data, each run in a fresh process.

    pip install 'caskade_pyro[bench]'
    python benchmarks/sampling.py [--models radon blobs] [--engines ours numpyro] [--out benchmark_output]

Two chains on two cores, 500 steps of warm-up and 500 draws each, single precision. The figure is the smallest bulk effective
sample size over all latent scalars per second of wall time, imports not counted: compilation counted, with empty caches, and
for this package once more with the code compiled by the run before. This package decides itself whether hierarchical
params are sampled as offsets; where it does so, "ours, centred" samples them as the peers' models, which are centred, have
them. Prints a table; writes JSON and a picture.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")

import numpy as np
from problems import NAMES, load

ENGINES = ("ours", "ours, again", "ours, centred", "numpyro", "pymc", "pyro jit", "pyro")
CHAINS, TUNE, DRAWS = 2, 500, 500
LIMIT = 1500


def ours(problem, data, **settings):
    """This package, as `ck.sample` runs by default."""
    import caskade_pyro as ck

    began = time.perf_counter()
    found = ck.sample(problem.bridged(data), draws=DRAWS, tune=TUNE, chains=CHAINS, seed=1, progress=False, **settings)
    seconds = time.perf_counter() - began
    draws = {name: found.posterior[site].values for site, name in problem.SITES.items()}
    return draws, seconds, int(found.sample_stats["n_steps"].sum())


def by_pyro(problem, data, jit):
    """The hand-written model in Pyro's own NUTS."""
    import pyro
    import torch
    from pyro.infer import MCMC, NUTS

    torch.set_num_threads(1)
    pyro.set_rng_seed(1)
    began = time.perf_counter()
    kernel = NUTS(problem.by_hand(data), jit_compile=jit, ignore_jit_warnings=True)
    chains = MCMC(kernel, num_samples=DRAWS, warmup_steps=TUNE, num_chains=CHAINS, disable_progbar=True)
    chains.run()
    seconds = time.perf_counter() - began
    draws = {name: value.numpy() for name, value in chains.get_samples(group_by_chain=True).items()}
    if "offset" in draws:
        draws["theta"] = draws["mu"][..., None] + draws["tau"][..., None] * draws["offset"]
    return draws, seconds, None


def by_numpyro(problem, data):
    """NumPyro, its chains in parallel."""
    import jax
    from numpyro.infer import MCMC, NUTS, init_to_median

    began = time.perf_counter()
    kernel = NUTS(problem.numpyro_model(data), init_strategy=init_to_median())
    chains = MCMC(kernel, num_warmup=TUNE, num_samples=DRAWS, num_chains=CHAINS, progress_bar=False)
    chains.run(jax.random.PRNGKey(1), extra_fields=("num_steps",))
    draws = {name: np.asarray(value) for name, value in chains.get_samples(group_by_chain=True).items()}
    steps = int(np.asarray(chains.get_extra_fields()["num_steps"]).sum())
    return draws, time.perf_counter() - began, steps


def by_pymc(problem, data):
    """PyMC with nutpie."""
    import nutpie

    began = time.perf_counter()
    model = problem.pymc_model(data)
    compiled = nutpie.compile_pymc_model(model)
    found = nutpie.sample(compiled, draws=DRAWS, tune=TUNE, chains=CHAINS, cores=2, seed=1, progress_bar=False)
    seconds = time.perf_counter() - began
    draws = {name: found.posterior[name].values for name in problem.SITES.values()}
    return draws, seconds, int(found.sample_stats["n_steps"].sum())


RUNS = {
    "ours": ours,
    "ours, again": ours,
    "ours, centred": lambda problem, data: ours(problem, data, noncentered=False),
    "numpyro": by_numpyro,
    "pymc": by_pymc,
    "pyro jit": lambda problem, data: by_pyro(problem, data, jit=True),
    "pyro": lambda problem, data: by_pyro(problem, data, jit=False),
}


def work(name, engine, path):
    """The life of a process: one run, and what is to be known of it."""
    import arviz as az

    warnings.simplefilter("ignore")
    problem = load(name)
    draws, seconds, gradients = RUNS[engine](problem, problem.data())
    latent = {one: np.asarray(draws[one]) for one in problem.SITES.values()}
    sizes, errors = az.ess(az.from_dict(latent)), az.mcse(az.from_dict(latent))
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    result = {
        "ess": min(float(sizes[one].min()) for one in latent),
        "seconds": seconds,
        "gradients": gradients,
        "megabytes": peak / 1024,
        "means": {one: value.mean((0, 1)).tolist() for one, value in latent.items()},
        "errors": {one: errors[one].values.tolist() for one in latent},
    }
    path.write_text(json.dumps(result))


def run(name, engine, folder):
    """One run in a process of its own; None if it failed or took too long."""
    path = folder / f"{name} {engine}.json"
    caches = {"CASKADE_PYRO_CACHE": str(folder / "densities"), "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor")}
    caches |= {"PYTENSOR_FLAGS": f"base_compiledir={folder / 'pytensor'}"}
    command = [sys.executable, __file__, "--work", name, engine, str(path)]
    try:
        subprocess.run(command, env={**os.environ, **caches}, check=True, timeout=LIMIT, capture_output=True)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        print(f"{name}, {engine}: {str((error.stderr or b'').decode()[-300:]) or error}", file=sys.stderr)
        return None
    return json.loads(path.read_text())


def apart(one, other):
    """The largest distance of two runs' means, in their Monte Carlo errors."""
    found = []
    for name, mean in one["means"].items():
        error = np.hypot(one["errors"][name], other["errors"][name])
        found.append(np.max(np.abs(np.subtract(mean, other["means"][name])) / error))
    return float(max(found))


def show(found):
    """The table."""
    print(f"{'':14}{'engine':14}{'ESS':>8}{'seconds':>9}{'ESS/s':>9}{'gradients':>11}{'MB':>7}{'means apart':>13}")
    for name, runs in found.items():
        for engine, one in runs.items():
            gradients = one["gradients"] or "-"
            distance = f"{apart(one, runs['ours']):.1f} errors" if "ours" in runs and engine != "ours" else ""
            rate = one["ess"] / one["seconds"]
            print(
                f"{name:14}{engine:14}{one['ess']:8.0f}{one['seconds']:9.1f}{rate:9.1f}{gradients:>11}"
                f"{one['megabytes']:7.0f}{distance:>13}"
            )


def draw(found, path):
    """Bars of effective draws per second, for each model."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(found), figsize=(3.4 * len(found), 3.0), squeeze=False, layout="constrained")
    for axis, (name, runs) in zip(axes.flat, found.items(), strict=True):
        rates = [one["ess"] / one["seconds"] for one in runs.values()]
        colours = ["C1" if engine.startswith("ours") else "C0" for engine in runs]
        bars = axis.barh(range(len(rates)), rates, color=colours)
        axis.bar_label(bars, [f" {rate:.2g}" if rate < 10 else f" {rate:.0f}" for rate in rates], fontsize=8)
        axis.set_yticks(range(len(rates)), runs, fontsize=8)
        axis.invert_yaxis()
        axis.set_xscale("log")
        axis.set_xlim(min(rates) / 2, max(rates) * 8)
        axis.set_title(name.replace("_", " "), fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("smallest effective sample size per second, compilation counted", fontsize=9)
    figure.savefig(path, dpi=130)


def main():
    """Run everything, or one run for a parent."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--out", type=Path, default=Path("benchmark_output"))
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        name, engine, path = options.work
        work(name, engine, Path(path))
        return
    options.out.mkdir(parents=True, exist_ok=True)
    found = {name: {} for name in options.models}
    for name in options.models:
        with tempfile.TemporaryDirectory() as folder:
            for engine in options.engines:
                if engine == "ours, centred" and name != "radon":
                    continue  # all is centred anyway
                one = run(name, engine, Path(folder))
                if one is not None:
                    found[name][engine] = one
                    print(f"{name}, {engine}: {one['seconds']:.1f} s", file=sys.stderr)
        (options.out / "sampling.json").write_text(json.dumps(found, indent=1))
    show(found)
    draw(found, options.out / "sampling.png")


if __name__ == "__main__":
    main()
