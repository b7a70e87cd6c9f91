"""Samples all posteriors whose answers are known, with the defaults of `ck.sample`, and prints how they compare.

    python tests/run_references.py [name ...] [--seed 1] [--draws 8000]

Only the number of draws is not the default: a standard deviation is known from 1000 effective draws to two per cent where
the posterior is normal, but where it has a long tail, as the scatter of a few groups has, to six or seven.

Exits with an error if one misses: z is the error of a mean in its standard errors (the reference's own included), to be below
4.5; R-hat below 1.01; the bulk effective sample size above 400; and where that is above 1000, the standard deviation
within a tenth.
"""

import argparse
import sys
import time
import warnings

from reference_check import compare, load
from reference_models import MODELS

import caskade_pyro as ck


def main():
    """Sample, compare, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(MODELS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--draws", type=int, default=8000, help="of each of the four chains")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=ck.ConvergenceWarning)  # the comparison decides
    print("| posterior | scalars | max abs z | R-hat | bulk ESS | sd ratios | divergences | seconds | |")
    print("|---|---|---|---|---|---|---|---|---|")
    missed = []
    for name in options.names:
        data, known = load(name)
        bound, variables = MODELS[name](data)
        begin = time.perf_counter()
        posterior = ck.sample(bound, draws=options.draws, seed=options.seed, progress=False)
        seconds = time.perf_counter() - begin
        scalars = compare(posterior, known, variables)
        wrong = [message for scalar in scalars for message in scalar.complaints()]
        missed += [f"{name}: {message}" for message in wrong]
        ratios = [scalar.sd_ratio for scalar in scalars if scalar.ess > 1000]
        shown = f"{min(ratios):.2f} to {max(ratios):.2f}" if ratios else "-"
        print(
            f"| {name} | {len(scalars)} | {max(abs(scalar.z) for scalar in scalars):.1f} "
            f"| {max(scalar.rhat for scalar in scalars):.3f} | {min(scalar.ess for scalar in scalars):.0f} | {shown} "
            f"| {int(posterior.sample_stats['diverging'].sum())} | {seconds:.0f} | {'missed' if wrong else 'passed'} |",
            flush=True,
        )
    if missed:
        sys.exit("\n".join(missed))


if __name__ == "__main__":
    main()
