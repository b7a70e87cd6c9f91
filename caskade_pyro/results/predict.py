"""Predictions and log likelihoods as ArviZ data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import arviz as az
import numpy as np
import xarray as xr

from ..bridge.bound import BoundModel, check_bound
from ..bridge.plan import Plan
from ..errors import ObservationError
from ..graph.arguments import flag, whole
from ..inference.pointwise import Pointwise, pointwise_log_likelihood
from ..inference.predictive import draw_predictions
from ..inference.seeds import LARGEST_SEED, fresh_seed
from .arviz import to_inference_data
from .members import New
from .posterior_draws import PosteriorDraws, posterior_draws

__all__ = ["log_likelihood", "predict", "prior_predictive"]

Arrays = dict[str, np.ndarray[Any, Any]]


def _settings(seed: Any, chunk_size: Any, progress: Any) -> tuple[int, int | None, bool]:
    """The seed, the size of chunks and whether to show progress, checked."""
    return (
        fresh_seed() if seed is None else whole("seed", seed, 0, most=LARGEST_SEED),
        None if chunk_size is None else whole("chunk_size", chunk_size, 1),
        flag("progress", progress),
    )


def predict(
    bound: BoundModel,
    posterior: az.InferenceData,
    draws: int | None = None,
    seed: int | None = None,
    *,
    new: New = (),
    chunk_size: int | None = None,
    progress: bool = True,
) -> az.InferenceData:
    """Draw data that the model predicts for the params of a posterior.

    Missing data are predicted like the others, and so imputed.

    Args:
        bound: The model; with other inputs than those of the fit it predicts for these. Of subsampled plates it predicts all
            members.
        posterior: Draws, from `sample` or `Fit.sample`.
        draws: How many predictions of each chain, spread evenly over its draws; one for each draw by default.
        seed: Of the predictions.
        new: Plates with other members than those of the fit, of which ``bound`` may have any number: the params of these
            members are drawn from the population that the posterior describes. Members that have names which the posterior
            knows keep their draws. Or, by plate, the names (where they have none, the numbers) of the members to be drawn, as
            in ``{"schools": ["new school"]}``; all others keep their draws.
        chunk_size: How many draws to run side by side; by default as many as fit into a bounded amount of memory.
        progress: Whether to show progress.

    Returns:
        ArviZ data with the group ``posterior_predictive``: the data, what the simulator reports of live params, and the
        params, and what pointers make of them, in plates with new members. With a `NewMemberWarning` where members have
        names that the posterior does not know and ``new`` does not say so.

    Raises:
        SamplingError: The posterior is that of another model.
        PlateError: ``new`` names no plate, or no member of one.
        ObservationError: The model predicts nothing: its likelihood is a `pyro.factor` of the simulator.

    Example:
        >>> import caskade_pyro as ck, arviz as az, numpy as np, pyro.distributions as dist, torch
        >>> class Mean(ck.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.mu = ck.Param("mu", prior=dist.Normal(0.0, 1.0))
        ...
        ...     @ck.forward
        ...     def data(self, mu):
        ...         return dist.Normal(mu, 1.0)
        >>> bound = ck.PyroModel(Mean().data).bind(obs=torch.tensor([0.9, float("nan")]))
        >>> posterior = az.from_dict(posterior={"mu": np.zeros((2, 50), dtype="float32")})
        >>> ck.predict(bound, posterior, seed=1, progress=False).posterior_predictive["obs"].shape
        (2, 50, 2)
    """
    check_bound(bound, "ck.predict")
    draws = None if draws is None else whole("draws", draws, 1)
    seed, chunk_size, progress = _settings(seed, chunk_size, progress)
    all_members = bound.whole()
    plan = all_members.plan
    found = posterior_draws(plan, posterior, new, refuse=False, stacklevel=3)
    draws = found.draws if draws is None else min(draws, found.draws)
    found = found.thinned(draws)
    predicted = draw_predictions(
        all_members, found.values, found.chains * draws, seed, progress, chunk_size, found.known
    )
    wanted = {name: value for name, value in predicted.items() if not _stands_in_posterior(plan, name, found)}
    if not wanted:
        raise ObservationError(
            f"{bound!r} predicts nothing: its likelihood is what the simulator weighs itself, with {_weighed(plan)}."
        )
    group = {name: value.reshape((found.chains, draws, *value.shape[1:])) for name, value in wanted.items()}
    return to_inference_data(all_members, {"posterior_predictive": group}, {"seed": seed})


def _weighed(plan: Plan) -> str:
    """What a simulator observes or weighs itself."""
    return ", ".join(site.name for site in plan.inner if site.observed)


def _stands_in_posterior(plan: Plan, name: str, draws: PosteriorDraws) -> bool:
    """Whether a quantity is known from the posterior: its draws are, or it is computed from such ones alone."""
    if name in draws.complete:
        return True
    for one in plan.reported:
        if one.name == name and not one.from_simulator:
            of_known = all(plan.layout.paths[parent] in draws.complete for parent in one.parents)
            return of_known and not draws.new_plates & set(one.plate_names)
    return False


def prior_predictive(
    bound: BoundModel,
    draws: int = 500,
    seed: int | None = None,
    *,
    chunk_size: int | None = None,
    progress: bool = True,
) -> az.InferenceData:
    """Draw params from the priors, and the data that the model predicts for them.

    Args:
        bound: The model; of subsampled plates all members are drawn.
        draws: How many draws.
        seed: The same seed gives the same draws.
        chunk_size: How many draws to run side by side; by default as many as fit into a bounded amount of memory.
        progress: Whether to show progress.

    Returns:
        ArviZ data with the groups ``prior`` and ``prior_predictive``. Members that the simulator draws in another number
        each time are filled up with NaN.

    Raises:
        SamplingError: A prior is improper.

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
    check_bound(bound, "ck.prior_predictive")
    draws = whole("draws", draws, 1)
    seed, chunk_size, progress = _settings(seed, chunk_size, progress)
    bound = bound.whole()
    predicted = draw_predictions(bound, {}, draws, seed, progress, chunk_size)
    observations = bound.plan.observations
    groups = {
        "prior": {name: value[None] for name, value in predicted.items() if name not in observations},
        "prior_predictive": {name: value[None] for name, value in predicted.items() if name in observations},
    }
    return to_inference_data(bound, {name: group for name, group in groups.items() if group}, {"seed": seed})


def log_likelihood(
    bound: BoundModel, posterior: az.InferenceData, *, chunk_size: int | None = None, progress: bool = True
) -> az.InferenceData:
    """The log likelihood of each single observation at each draw, for ``az.loo`` and ``az.compare``.

    Args:
        bound: The model with its data.
        posterior: Draws, from `sample` or `Fit.sample`.
        chunk_size: How many draws to run side by side; by default as many as fit into a bounded amount of memory.
        progress: Whether to show progress.

    Returns:
        ArviZ data with the group ``log_likelihood``, to be put beside the posterior: ``posterior.extend(...)``. What is
        one observation (an image, say, of many pixels) has one value. Where data are missing, the dims are
        one, ``{name}_observed``, of those that are there; its coordinates ``{name}_{plate}`` say which.

    Raises:
        ObservationError: The model has no data.
        SamplingError: The posterior is that of another model.

    Example:
        >>> import caskade_pyro as ck, arviz as az, numpy as np, pyro.distributions as dist, torch
        >>> class Mean(ck.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.mu = ck.Param("mu", prior=dist.Normal(0.0, 1.0))
        ...
        ...     @ck.forward
        ...     def data(self, mu):
        ...         return dist.Normal(mu, 1.0)
        >>> bound = ck.PyroModel(Mean().data).bind(obs=torch.zeros(3))
        >>> posterior = az.from_dict(posterior={"mu": np.zeros((1, 2), dtype="float32")})
        >>> ck.log_likelihood(bound, posterior, progress=False).log_likelihood["obs"].values.round(3)[0, 0]
        array([-0.919, -0.919, -0.919], dtype=float32)
    """
    check_bound(bound, "ck.log_likelihood")
    _, chunk_size, progress = _settings(None, chunk_size, progress)
    if not bound.data:
        weighed = _weighed(bound.plan)
        instead = (
            f"but what the simulator weighs itself, with {weighed}, which is of no single observations. Return "
            "a distribution of the data for these"
            if weighed
            else "so there is no likelihood: bind(..., obs=...)"
        )
        raise ObservationError(f"{bound.model!r} has no data, {instead}.")
    all_members = bound.whole()
    params = posterior_draws(all_members.plan, posterior)
    chains, draws = params.chains, params.draws
    found = pointwise_log_likelihood(all_members, params.values, chains * draws, progress, chunk_size)
    group = {name: one.values.reshape((chains, draws, *one.values.shape[1:])) for name, one in found.items()}
    together = to_inference_data(all_members, {"log_likelihood": group}, {})
    together["log_likelihood"] = _of_observed(together["log_likelihood"], found)
    return together


def _of_observed(whole: xr.Dataset, found: Mapping[str, Pointwise]) -> xr.Dataset:
    """Log likelihoods without those of what is no datum, which ArviZ would take for observations of a density.

    Raises:
        ObservationError: There are no data at all.
    """
    if not any(one.present.any() for one in found.values()):
        raise ObservationError(f"Masks leave out all data of {', '.join(found)}, so that there is no likelihood.")
    for name, one in found.items():
        if one.present.all():
            continue
        if not one.present.any():
            whole = whole.drop_vars(name)
            continue
        row, values = f"{name}_observed", whole[name]
        places = zip(values.dims[2:], np.nonzero(one.present), strict=True)
        single = values.isel({dim: xr.DataArray(at, dims=row) for dim, at in places})
        # As coordinates of their own, since other data of the same plates may be complete.
        whole[name] = single.rename({dim: f"{name}_{dim}" for dim in single.coords if dim not in ("chain", "draw")})
    unused = set(whole.dims) - {dim for variable in whole.data_vars.values() for dim in variable.dims}
    return whole.drop_dims(unused)
