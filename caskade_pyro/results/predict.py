"""Predictions and log likelihoods as ArviZ data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import arviz as az
import numpy as np
import pandas as pd
import xarray as xr

from ..bridge.bound import BoundModel, check_bound
from ..bridge.plan import Plan
from ..errors import ObservationError, PlateError, SamplingError
from ..inference.predictive import draw_predictions, missing_observations, pointwise_log_likelihood
from ..inference.seeds import fresh_seed
from .arviz import to_inference_data

__all__ = ["log_likelihood", "posterior_draws", "predict", "prior_predictive"]

Arrays = dict[str, np.ndarray[Any, Any]]


def posterior_draws(plan: Plan, posterior: az.InferenceData, new: Sequence[str] = ()) -> tuple[Arrays, tuple[int, int]]:
    """The draws of every site of a plan with chains put one after the other, and how many chains and draws there are.

    Sites in the plates ``new`` are left out. Members that have names are found by them: the plan may have them in another
    order, or only some of them.

    Raises:
        SamplingError: A site or a member is missing, or has another shape than the model gives it.
        PlateError: ``new`` names no plate.
    """
    unknown = [name for name in new if name not in plan.sizes]
    if unknown:
        raise PlateError(f"new= names {', '.join(unknown)}, but the plates are {', '.join(plan.sizes) or 'none'}.")
    group = _draws_of(posterior)
    found = {}
    for site in plan.latents:
        if set(new) & set(site.plate_names):
            continue
        if site.name not in group:
            raise SamplingError(
                f"The posterior has no draws of {site.name}; it has {', '.join(map(str, group.data_vars))}."
            )
        values = _by_name(plan, site.plate_names, group[site.name]).values
        if values.shape[2:] != site.draw_shape:
            raise SamplingError(
                f"The draws of {site.name} have shape {values.shape[2:]}, but the model's have {site.draw_shape}. To predict "
                "for other members than those of the fit, name their plate: new=(...,)."
            )
        found[site.name] = values.reshape((-1, *site.draw_shape))
    return found, (group.sizes["chain"], group.sizes["draw"])


def _by_name(plan: Plan, plates: Sequence[str], draws: xr.DataArray) -> xr.DataArray:
    """The draws of the members of a plan, where both they and the draws give names to members.

    Raises:
        SamplingError: There are no draws of some members.
    """
    names = {plate.name: plate.members for plate in plan.layout.plates if plate.name in plates and plate.members}
    for plate, members in names.items():
        if plate not in draws.indexes:
            continue
        known = draws.indexes[plate]
        if not known.is_unique or known.equals(pd.RangeIndex(len(known))):
            continue  # mere numbers, as of a fit of members that had no names yet
        places = known.get_indexer(pd.Index(members))
        lacking = [str(member) for member, place in zip(members, places, strict=True) if place < 0]
        if lacking:
            raise SamplingError(
                f"The posterior has no draws of {draws.name} for {', '.join(lacking)} of plate {plate}; it has "
                f"{', '.join(map(str, known))}. To predict for other members than those of the fit, name their plate: "
                f"new=({plate!r},)."
            )
        draws = draws.isel({plate: places})
    return draws


def _draws_of(posterior: object) -> xr.Dataset:
    """The draws of what a user gave as a posterior."""
    if isinstance(posterior, az.InferenceData):
        if "posterior" in posterior:
            found: xr.Dataset = posterior["posterior"]
            return found
        seen = f"has the groups {', '.join(posterior.groups()) or 'none'}"
    else:
        seen = f"is of the type {type(posterior).__name__}"
    raise SamplingError(
        "The posterior must be ArviZ data with a group 'posterior', as ck.sample and Fit.sample return; what was given "
        f"{seen}."
    )


def _check_draws(draws: int) -> None:
    if draws < 1:
        raise SamplingError(f"draws must be at least 1, not {draws}.")


def predict(
    bound: BoundModel,
    posterior: az.InferenceData,
    draws: int | None = None,
    seed: int | None = None,
    *,
    new: str | Sequence[str] = (),
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
        new: Names of plates with other members than those of the fit, of which ``bound`` may have any number. Their
            params are drawn from the population that the posterior describes.
        chunk_size: How many draws to run side by side; by default as many as fit into a bounded amount of memory.
        progress: Whether to show progress.

    Returns:
        ArviZ data with the group ``posterior_predictive``: the data, what the simulator reports of live params, and the
        params of new members.

    Raises:
        SamplingError: The posterior is that of another model.
        PlateError: ``new`` names no plate.

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
    bound = bound.whole()
    plan = bound.plan
    params, (chains, available) = posterior_draws(plan, posterior, (new,) if isinstance(new, str) else new)
    draws = available if draws is None else min(draws, available)
    _check_draws(draws)
    picked = np.linspace(0, available - 1, draws).round().astype(int)
    thinned = {
        name: values.reshape((chains, available, *values.shape[1:]))[:, picked].reshape((-1, *values.shape[1:]))
        for name, values in params.items()
    }
    seed = fresh_seed() if seed is None else seed
    predicted = draw_predictions(bound, thinned, chains * draws, seed, progress, chunk_size)
    wanted = {name: value for name, value in predicted.items() if name not in params and not _repeats(plan, name)}
    group = {name: value.reshape((chains, draws, *value.shape[1:])) for name, value in wanted.items()}
    return to_inference_data(bound, {"posterior_predictive": group}, {"seed": seed})


def _repeats(plan: Plan, name: str) -> bool:
    """Whether something is computed from params alone, and so stands beside them in the posterior."""
    return any(one.name == name and not one.from_simulator for one in plan.reported)


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
    bound = bound.whole()
    _check_draws(draws)
    seed = fresh_seed() if seed is None else seed
    predicted = draw_predictions(bound, {}, draws, seed, progress, chunk_size)
    observations = bound.plan.observations
    groups = {
        "prior": {name: value[None] for name, value in predicted.items() if name not in observations},
        "prior_predictive": {name: value[None] for name, value in predicted.items() if name in observations},
    }
    return to_inference_data(bound, groups, {"seed": seed})


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
    if not bound.data:
        raise ObservationError(f"{bound!r} has no data, so there is no likelihood: bind(..., obs=...).")
    whole = bound.whole()
    params, (chains, draws) = posterior_draws(whole.plan, posterior)
    found = pointwise_log_likelihood(whole, params, chains * draws, progress, chunk_size)
    group = {name: value.reshape((chains, draws, *value.shape[1:])) for name, value in found.items()}
    together = to_inference_data(whole, {"log_likelihood": group}, {})
    together["log_likelihood"] = _of_observed(whole, together["log_likelihood"])
    return together


def _of_observed(bound: BoundModel, found: xr.Dataset) -> xr.Dataset:
    """Log likelihoods without those of missing data, which ArviZ would take for observations of unknown density."""
    for name in bound.data:
        missing = missing_observations(bound, name).numpy()
        if not missing.any():
            continue
        present = np.nonzero(~missing)
        row, whole = f"{name}_observed", found[name]
        single = whole.isel({dim: xr.DataArray(at, dims=row) for dim, at in zip(whole.dims[2:], present, strict=True)})
        # As coordinates of their own, since other data of the same plates may be complete.
        found[name] = single.rename({dim: f"{name}_{dim}" for dim in single.coords if dim not in ("chain", "draw")})
    unused = set(found.dims) - {dim for variable in found.data_vars.values() for dim in variable.dims}
    return found.drop_dims(unused)
