"""Whether draws can be trusted."""

from __future__ import annotations

import arviz as az
import numpy as np

from .circular import unwrapped
from .nested import nested_rhat

__all__ = ["find_trouble"]

RHAT, ESS = 1.01, 400


def find_trouble(posterior: az.InferenceData, rounded: bool = False) -> list[str]:
    """Where chains disagree, draws are too dependent, or trajectories diverged (Vehtari et al. 2021).

    Of many chains in groups that start at the same point it is the groups that have to agree (Margossian et al. 2024).

    Args:
        posterior: The draws.
        rounded: Whether single precision is known to be too coarse, which is then the first thing to mend.

    Returns:
        What is wrong, and what to do about it, a sentence each.
    """
    messages = []
    divergences = int(posterior["sample_stats"]["diverging"].sum())
    if divergences:
        because = "the posterior has places that NUTS cannot reach. Raise target_accept=, or look at priors of scales."
        if rounded:
            because = "in single precision the density has steps. Take double precision, as another warning says."
        messages.append(f"{divergences} draws diverged: {because}")
    if posterior["posterior"].sizes["chain"] > 1:
        messages += _disagreement(posterior)
    return messages


def _disagreement(posterior: az.InferenceData) -> list[str]:
    with np.errstate(all="ignore"):  # chains that did not move have no variance; that makes an R-hat of infinity
        draws = posterior["posterior"].map(unwrapped)
        chains = draws.sizes["chain"]
        groups = int(posterior["posterior"].attrs.get("superchains", chains))
        rhat = az.rhat(draws) if groups == chains else nested_rhat(draws, groups)
        ess = az.ess(draws)
    worst_rhat = max(((float(rhat[name].max()), name) for name in rhat.data_vars), default=(1.0, ""))
    worst_ess = min(((float(ess[name].min()), name) for name in ess.data_vars), default=(float("inf"), ""))
    messages = []
    if worst_rhat[0] > RHAT:
        messages.append(
            f"R-hat is up to {worst_rhat[0]:.3f} ({worst_rhat[1]}), above {RHAT}: the chains disagree. Tune longer."
        )
    if worst_ess[0] < ESS:
        messages.append(
            f"The bulk effective sample size is down to {worst_ess[0]:.0f} ({worst_ess[1]}), below {ESS}: draw more."
        )
    return messages
