"""The check of a run against a reference posterior, as `tests/references/README.md` describes the references."""

import json
from pathlib import Path

import arviz as az
import numpy as np

REFERENCES = Path(__file__).parent / "references"


def load(name):
    """The data of a reference posterior, and what is known of each scalar."""
    folder = REFERENCES / name
    data = json.loads((folder / "data.json").read_text())
    reference = json.loads((folder / "reference.json").read_text())
    return data, reference.get("parameters_exact") or reference["parameters"]


def check(posterior, known, variables):
    """Raise unless a run agrees with a reference.

    Args:
        posterior: ArviZ data.
        known: By scalar of the reference, its mean, sd and Monte Carlo error.
        variables: By name in the reference, the name of the site, or a function of the posterior.
    """
    for name, site in variables.items():
        draws = site(posterior.posterior) if callable(site) else posterior.posterior[site]
        flat = draws.values.reshape((*draws.shape[:2], -1))
        for index in range(flat.shape[2]):
            scalar = name if draws.ndim == 2 else f"{name}[{index + 1}]"
            _check_scalar(scalar, flat[:, :, index], known[scalar])


def _check_scalar(scalar, draws, known):
    assert az.rhat(draws) < 1.01, f"{scalar}: R-hat {az.rhat(draws)}"
    ess = az.ess(draws)
    assert ess > 400, f"{scalar}: bulk ESS {ess}"
    z = (draws.mean() - known["mean"]) / np.hypot(az.mcse(draws), known["mcse_mean"])
    assert abs(z) < 4.5, f"{scalar}: the mean {draws.mean():.4g} is {z:.1f} standard errors from {known['mean']:.4g}"
    if ess > 1000:
        ratio = draws.std() / known["sd"]
        assert abs(ratio - 1) < 0.1, f"{scalar}: the sd is {ratio:.3f} times that of the reference"
