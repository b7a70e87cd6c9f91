"""NUTS, from a bound model to ArviZ data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any
from warnings import warn

import arviz as az
import numpy as np
import torch

from ..bridge.bound import BoundModel, check_bound
from ..bridge.reparametrise import NonCentered
from ..bridge.resolution import roundings
from ..density import LogDensity, Metric, find_blocks
from ..errors import ConvergenceWarning, PrecisionWarning, SamplingError
from ..inference.chains import Draws, run_chains
from ..inference.engines import choose_engine
from ..inference.seeds import fresh_seed, stream_seed
from ..inference.settings import ADAPTATIONS, ChainSettings, Dense
from ..inference.starts import find_starts
from ..inference.vectorized import run_together, superchains
from .arviz import to_inference_data
from .diagnostics import warn_of_trouble
from .fit import Fit
from .metric import Metrical, draws_of_fit, make_metric, metric_of_fit
from .resolution import unresolved

__all__ = ["sample"]

ENOUGH_WARM_UP = 200
"""From so many steps of warm-up on, a metric with structure is learnt by default; fewer show too little of it."""


def sample(
    bound: BoundModel,
    draws: int = 1000,
    tune: int = 1000,
    chains: int = 4,
    seed: int | None = None,
    *,
    engine: str = "auto",
    cores: int | None = None,
    noncentered: NonCentered = "auto",
    target_accept: float = 0.9,
    max_tree_depth: int = 10,
    metric: str | Metrical = "auto",
    dense: bool | Sequence[str] = False,
    start: Fit | Mapping[str, Any] | None = None,
    vectorized: bool = False,
    chunk_size: int | None = None,
    progress: bool = True,
) -> az.InferenceData:
    """Sample the posterior with NUTS (Hoffman and Gelman 2014), each chain in a process of its own or all in one batch.

    Args:
        bound: The model with its data.
        draws: Draws of each chain.
        tune: Steps of warm-up of each chain, which are not kept.
        chains: How many chains.
        seed: The same seed gives the same draws, whatever ``cores``.
        engine: ``"auto"``: nutpie's NUTS on the compiled density, and where one of them cannot be had, the next best with a
            warning. ``"compiled"``: that or an error. ``"pyro"``: Pyro's own NUTS.
        cores: How many chains run at once; as many as there are processors by default.
        noncentered: Which sites are sampled as offsets from their population: ``"auto"`` (nearly),
            ``"offsets"`` (wholly) where the graph says it pays; True, False or names.
        target_accept: The acceptance probability to adapt the step size to; raise it against divergences. At 0.8, the usual
            default, chains of hierarchical models take a tenth fewer steps, and divergences are common.
        max_tree_depth: The bound on the number of doublings of a trajectory.
        metric: The inverse mass matrix. Whatever `ck.metric` takes, such as a fit or an earlier posterior, is what the warm-up
            starts from, which then adapts variances only and may be short. Or what the warm-up of nutpie's NUTS learns:
            ``"structured"``: covariances of shared params and of those of each member of a plate; ``"low_rank"``: the
            strongest correlations; ``"diagonal"``: variances; ``"auto"`` is structured from 200 steps of warm-up on,
            and diagonal below.
        dense: Names of sites whose joint covariance the mass matrix learns; True for all sites; for Pyro's NUTS.
        start: Values by site, in the user's params, to start at; or a fit of the same model, then chains start at draws from
            it and, unless ``metric`` is given, with its covariance as the inverse mass matrix. Sites without a value start
            near the median of their prior.
        vectorized: Whether all chains run in this process as one batch, on the device of the model's tensors, and learn the
            step size and the mass matrix together: for many chains of a cheap density, for GPUs, and for densities that
            cannot be compiled. With 64 chains a warm-up of 200 steps is long enough for most models, whose mass matrix then
            learns all correlations, unless ``metric="diagonal"``. From 16 chains on, neighbours start at the same points, and
            the nested R-hat of these groups decides whether chains agree (Margossian et al. 2024).
        chunk_size: For vectorized chains, of how many the density is evaluated at once, which bounds the memory of a density
            that is not compiled; all by default.
        progress: Whether to show progress.

    Returns:
        ArviZ data with the groups ``posterior``, ``sample_stats`` and ``observed_data``; variables are the sites, in
        the user's params, dims are the plates. After Ctrl-C it holds the draws made so far.

    Raises:
        SamplingError: A setting is impossible, or a chain failed.

    Example:
        >>> import caskade_pyro as ck, pyro.distributions as dist, torch
        >>> class Mean(ck.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.mu = ck.Param("mu", prior=dist.Normal(0.0, 1.0), units="mag")
        ...
        ...     @ck.forward
        ...     def data(self, mu):
        ...         return dist.Normal(mu, 1.0)
        >>> bound = ck.PyroModel(Mean().data).bind(obs=torch.tensor([0.9, 1.1]))
        >>> posterior = ck.sample(bound, draws=1000, tune=500, chains=2, seed=1, progress=False)
        >>> dict(posterior.posterior.sizes)
        {'chain': 2, 'draw': 1000}
    """
    check_bound(bound, "ck.sample")
    _check_counts(draws, tune, chains)
    _check_chunks(vectorized, chunk_size)
    bound.check_samplable()
    bound.check_whole()
    seed = fresh_seed() if seed is None else seed
    began = perf_counter()
    density = LogDensity(bound, noncentered)
    sampler = choose_engine(engine, density, vectorized, stacklevel=2)
    adapt, known = _metric(density, metric, start, dense, tune)
    settings = ChainSettings(
        draws=draws,
        tune=tune,
        seed=seed,
        target_accept=target_accept,
        max_tree_depth=max_tree_depth,
        engine=sampler,
        dense=_dense(density, dense),
        adapt=adapt,
        slots=density.slices,
        blocks=find_blocks(bound, noncentered, density.slices) if adapt == "structured" else (),
        starts=_starts(density, start, superchains(chains) if vectorized else chains, seed),
        metric=known,
    )
    prepared = perf_counter()
    if vectorized:
        drawn = run_together(density, settings, chains, chunk_size, progress, stacklevel=2)
    else:
        drawn = run_chains(density, settings, chains, cores, progress)
    seconds = {"preparing_time": prepared - began, "sampling_time": perf_counter() - prepared}
    grouped = {"superchains": superchains(chains)} if vectorized else {}
    posterior = _result(density, drawn, _attributes(density, settings, drawn) | seconds | grouped)
    _warn(bound, posterior, drawn, draws, chains)
    return posterior


def _check_counts(draws: int, tune: int, chains: int) -> None:
    for name, value in (("draws", draws), ("chains", chains)):
        if value < 1:
            raise SamplingError(f"{name} must be at least 1, not {value}.")
    if tune < 0:
        raise SamplingError(f"tune must not be negative, but is {tune}.")


def _check_chunks(vectorized: bool, chunk_size: int | None) -> None:
    if chunk_size is not None and not vectorized:
        raise SamplingError("chunk_size= is for vectorized=True: chains in processes evaluate one point at a time.")
    if chunk_size is not None and chunk_size < 1:
        raise SamplingError(f"chunk_size must be at least 1, not {chunk_size}.")


def _attributes(density: LogDensity, settings: ChainSettings, drawn: Draws) -> dict[str, Any]:
    """What is kept with the draws of how they were made."""
    why = "" if density.eager_because is None else f", because {density.eager_because}"
    return {
        "seed": settings.seed,
        "tuning_steps": settings.tune,
        "step_sizes": drawn.step_sizes,
        "engine": settings.engine,
        "density": f"{density.form}{why}",
    }


def _result(density: LogDensity, drawn: Draws, attrs: Mapping[str, Any]) -> az.InferenceData:
    groups = {"posterior": _params(density, drawn.z), "sample_stats": drawn.stats}
    return to_inference_data(density.bound, groups, attrs)


def _warn(bound: BoundModel, posterior: az.InferenceData, drawn: Draws, draws: int, chains: int) -> None:
    """Warn of trouble, or after an interrupt of what is missing; called by `sample` itself, for the line that is shown."""
    if drawn.complete:
        messages = unresolved(bound, posterior)
        for message in messages:
            warn(PrecisionWarning(message), stacklevel=3)
        warn_of_trouble(posterior, stacklevel=4, rounded=bool(messages or roundings(bound)))
        return
    kept = drawn.z.shape
    warn(
        ConvergenceWarning(f"Interrupted: kept {kept[1]} of {draws} draws of {kept[0]} of {chains} chains."),
        stacklevel=3,
    )


def _params(density: LogDensity, z: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """Draws ``(chains, draws, dim)`` in the user's params."""
    found = density.constrain(torch.as_tensor(z.reshape(-1, density.dim), device=density.device))
    return {name: value.cpu().numpy().reshape(z.shape[:2] + tuple(value.shape[1:])) for name, value in found.items()}


def _starts(
    density: LogDensity, start: Fit | Mapping[str, Any] | None, chains: int, seed: int
) -> tuple[np.ndarray[Any, Any], ...] | None:
    """The starting points of the chains, where they are known."""
    if start is None:
        return find_starts(density, chains, seed)
    if not isinstance(start, Fit):
        given = density.sampled_values(start)
        points = [density.initial(stream_seed(seed, chain), given) for chain in range(chains)]
        return tuple(point.double().numpy() for point in points)
    z = draws_of_fit(density, start, chains, stream_seed(seed, chains))
    return tuple(row.double().numpy() for row in z)


def _metric(
    density: LogDensity,
    metric: str | Metrical,
    start: Fit | Mapping[str, Any] | None,
    dense: bool | Sequence[str],
    tune: int,
) -> tuple[str, Metric | None]:
    """What the warm-up learns, and the metric that it starts with.

    Raises:
        SamplingError: There is no such metric, or it does not fit the model.
    """
    if not isinstance(metric, str):
        if dense:
            raise SamplingError(
                "metric= gives the covariance of all sites, and dense= asks for that of some: give one."
            )
        return "diagonal", make_metric(density, metric)
    if metric not in {"auto", *ADAPTATIONS}:
        names = ", ".join(map(repr, ("auto", *ADAPTATIONS)))
        raise SamplingError(f"There is no metric {metric!r}; choose {names}, or give one, as ck.metric does.")
    enough = "structured" if tune >= ENOUGH_WARM_UP else "diagonal"
    adapt = enough if metric == "auto" else metric
    if metric != "auto" or dense or not isinstance(start, Fit):
        return adapt, None
    known = metric_of_fit(density, start)
    return ("diagonal" if known is not None and not known.is_diagonal else adapt), known


def _dense(density: LogDensity, dense: bool | Sequence[str]) -> Dense:
    """The names under which the sites of a block of the mass matrix are sampled."""
    if isinstance(dense, bool):
        return dense
    decisions = density.bound.decisions(density.noncentered)
    unknown = [name for name in dense if name not in decisions]
    if unknown:
        raise SamplingError(f"dense= names {', '.join(unknown)}, but the sites are {', '.join(decisions)}.")
    return [tuple(decisions[name].sampled_as for name in dense)]
