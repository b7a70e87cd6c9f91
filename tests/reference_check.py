"""The check of a run against a reference posterior, as `tests/references/README.md` describes the references."""

import json
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Scalar:
    """One scalar of a run beside its reference: z is the error of the mean in standard errors of both."""

    name: str
    z: float
    rhat: float
    ess: float
    sd_ratio: float

    def complaints(self):
        """What is wrong with it."""
        found = []
        if not self.rhat < 1.01:
            found.append(f"{self.name}: R-hat {self.rhat:.4f}")
        if not self.ess > 400:
            found.append(f"{self.name}: bulk ESS {self.ess:.0f}")
        if not abs(self.z) < 4.5:
            found.append(f"{self.name}: the mean is {self.z:.1f} standard errors off")
        if self.ess > 1000 and not abs(self.sd_ratio - 1) < 0.1:
            found.append(f"{self.name}: the sd is {self.sd_ratio:.3f} times that of the reference")
        return found


def compare(posterior, known, variables):
    """Every scalar of a run beside its reference.

    Args:
        posterior: ArviZ data.
        known: By scalar of the reference, its mean, sd and Monte Carlo error.
        variables: By name in the reference, the name of the site, or a function of the posterior.
    """
    found = []
    for name, site in variables.items():
        draws = site(posterior.posterior) if callable(site) else posterior.posterior[site]
        flat = draws.values.reshape((*draws.shape[:2], -1))
        for index in range(flat.shape[2]):
            scalar = name if draws.ndim == 2 else f"{name}[{index + 1}]"
            found.append(_compare(scalar, flat[:, :, index], known[scalar]))
    return found


def _compare(name, draws, known):
    error = np.hypot(az.mcse(draws), known["mcse_mean"])
    return Scalar(
        name=name,
        z=float((draws.mean() - known["mean"]) / error),
        rhat=float(az.rhat(draws)),
        ess=float(az.ess(draws)),
        sd_ratio=float(draws.std() / known["sd"]),
    )


def check(posterior, known, variables):
    """Raise unless a run agrees with a reference."""
    complaints = [message for scalar in compare(posterior, known, variables) for message in scalar.complaints()]
    assert not complaints, "\n".join(complaints)
