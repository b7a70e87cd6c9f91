"""Predictive draws as ArviZ data."""

from __future__ import annotations

from typing import Any

import arviz as az
import numpy as np

from ..bridge.model import BoundModel
from ..bridge.plan import Plan
from ..errors import SamplingError
from ..inference.predictive import draw_predictions
from ..inference.seeds import fresh_seed
from .arviz import to_inference_data

__all__ = ["posterior_draws", "predict", "prior_predictive"]


def posterior_draws(plan: Plan, posterior: az.InferenceData) -> tuple[dict[str, np.ndarray[Any, Any]], tuple[int, int]]:
    """The draws of every site of a plan with chains put one after the other, and how many chains and draws there are.

    Raises:
        SamplingError: A site is missing, or has another shape than the model gives it.
    """
    group = posterior["posterior"]
    found = {}
    for site in plan.sites:
        if site.name not in group:
            raise SamplingError(
                f"The posterior has no draws of {site.name}; it has {', '.join(map(str, group.data_vars))}."
            )
        values = group[site.name].values
        if values.shape[2:] != site.draw_shape:
            raise SamplingError(
                f"The draws of {site.name} have shape {values.shape[2:]}, but the model's have {site.draw_shape}."
            )
        found[site.name] = values.reshape((-1, *site.draw_shape))
    return found, (group.sizes["chain"], group.sizes["draw"])


def predict(
    bound: BoundModel,
    posterior: az.InferenceData,
    draws: int | None = None,
    seed: int | None = None,
    *,
    progress: bool = True,
) -> az.InferenceData:
    """Draw data that the model predicts for the params of a posterior.

    Args:
        bound: The model; with other inputs than those of the fit it predicts for these.
        posterior: Draws, from `sample` or `Fit.sample`.
        draws: How many predictions of each chain, spread evenly over its draws; one for each draw by default.
        seed: Of the predictions.
        progress: Whether to show progress.

    Returns:
        ArviZ data with the group ``posterior_predictive``.

    Raises:
        SamplingError: The posterior is that of another model.
    """
    plan = bound.plan
    params, (chains, available) = posterior_draws(plan, posterior)
    draws = available if draws is None else min(draws, available)
    picked = np.linspace(0, available - 1, draws).round().astype(int)
    thinned = {
        name: values.reshape((chains, available, *values.shape[1:]))[:, picked].reshape((-1, *values.shape[1:]))
        for name, values in params.items()
    }
    seed = fresh_seed() if seed is None else seed
    predicted = draw_predictions(bound, thinned, chains * draws, seed, progress)
    group = {name: predicted[name].reshape((chains, draws, *predicted[name].shape[1:])) for name in plan.observations}
    return to_inference_data(bound, {"posterior_predictive": group}, {"seed": seed})


def prior_predictive(
    bound: BoundModel, draws: int = 500, seed: int | None = None, *, progress: bool = True
) -> az.InferenceData:
    """Draw params from the priors, and the data that the model predicts for them.

    Args:
        bound: The model.
        draws: How many draws.
        seed: The same seed gives the same draws.
        progress: Whether to show progress.

    Returns:
        ArviZ data with the groups ``prior`` and ``prior_predictive``.

    Example:
        >>> import caskade_pyro as ck, pyro.distributions as dist, torch
        >>> class Mean(ck.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.mu = ck.Param("mu", prior=dist.Normal(0.0, 1.0))
        ...
        ...     @ck.forward
        ...     def data(self, mu):
        ...         return dist.Normal(mu, 1.0)
        >>> bound = ck.PyroModel(Mean().data).bind(obs=torch.tensor([0.9, 1.1]))
        >>> ck.prior_predictive(bound, draws=10, seed=1, progress=False).prior_predictive["obs"].shape
        (1, 10, 2)
    """
    seed = fresh_seed() if seed is None else seed
    predicted = draw_predictions(bound, None, draws, seed, progress)
    observations = bound.plan.observations
    groups = {
        "prior": {name: value[None] for name, value in predicted.items() if name not in observations},
        "prior_predictive": {name: value[None] for name, value in predicted.items() if name in observations},
    }
    return to_inference_data(bound, groups, {"seed": seed})
