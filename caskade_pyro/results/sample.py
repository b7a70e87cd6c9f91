"""NUTS, from a bound model to ArviZ data."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Any
from warnings import warn

import arviz as az
import numpy as np

from ..bridge.bound import BoundModel, check_bound
from ..bridge.reparametrise import NonCentered
from ..bridge.resolution import roundings
from ..bridge.turns import in_turn
from ..density import LogDensity, Metric, find_blocks
from ..errors import ConvergenceWarning, PrecisionWarning, SamplingError
from ..graph.arguments import flag, names, number, whole
from ..inference.chains import Draws, run_chains
from ..inference.engines import choose_engine
from ..inference.seeds import LARGEST_SEED, fresh_seed
from ..inference.settings import ADAPTATIONS, ChainSettings, Dense
from ..inference.trusted import run_trusted
from ..inference.vectorized import run_together, superchains
from .diagnostics import find_trouble
from .fit import Fit
from .keep import Attempts, result_of
from .metric import Metrical, make_metric, metric_of_fit
from .resolution import unresolved
from .starting import Start, check_start, starting_points

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
    start: Start | None = None,
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
        start: Values by site, in the user's params, to start at, inside of the supports of their priors; sites without a value
            start near the median of their prior. Or an earlier posterior of the same model, of which chains take up the last
            draws, one of each chain (of more chains than it has, also those before the last). Or a fit of the same model,
            then chains start at draws from it and, unless ``metric`` is given, with its covariance as the inverse mass matrix.
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
    draws, tune, chains = whole("draws", draws, 1), whole("tune", tune, 0), whole("chains", chains, 1)
    seed = fresh_seed() if seed is None else whole("seed", seed, 0, most=LARGEST_SEED)
    cores = None if cores is None else whole("cores", cores, 1)
    vectorized, progress = flag("vectorized", vectorized), flag("progress", progress)
    chunk_size = _chunks(vectorized, chunk_size)
    check_start(start)
    target_accept = number("target_accept", target_accept, 0.0, 1.0)
    max_tree_depth = whole("max_tree_depth", max_tree_depth, 1)

    def run(again: bool) -> tuple[ChainSettings, Draws, float]:
        sampler = choose_engine(engine, density, vectorized, stacklevel=4, told=again)
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
            starts=starting_points(density, start, superchains(chains) if vectorized else chains, seed),
            metric=known,
        )
        prepared = perf_counter()
        if vectorized:
            drawn = run_together(density, settings, chains, chunk_size, progress, stacklevel=4)
        else:
            drawn = run_chains(density, settings, chains, cores, progress)
        return settings, drawn, prepared

    with in_turn():
        bound.check_samplable()
        bound.check_whole()
        began = perf_counter()
        density = LogDensity(bound, noncentered)
        settings, drawn, prepared = run_trusted(density, run, lambda found: found[1].z, stacklevel=2)
        seconds = {"preparing_time": prepared - began, "sampling_time": perf_counter() - prepared}
        grouped = {"superchains": superchains(chains)} if vectorized else {}
        attempts = Attempts()
        posterior = result_of(
            density, drawn, lambda: _attributes(density, settings, drawn) | seconds | grouped, attempts
        )
        coarse, trouble = _trouble(bound, posterior, attempts) if drawn.complete else ([], [])
    attempts.warn(stacklevel=2)
    for message in coarse:
        warn(PrecisionWarning(message), stacklevel=2)
    _warn(trouble, drawn, draws, chains)
    return posterior


def _chunks(vectorized: bool, chunk_size: Any) -> int | None:
    if chunk_size is None:
        return None
    if not vectorized:
        raise SamplingError("chunk_size= is for vectorized=True: chains in processes evaluate one point at a time.")
    return whole("chunk_size", chunk_size, 1)


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


def _trouble(bound: BoundModel, posterior: az.InferenceData, attempts: Attempts) -> tuple[list[str], list[str]]:
    """What single precision does not resolve, and what else is wrong with the draws."""
    coarse: list[str] = attempts("a look at the precision", lambda: unresolved(bound, posterior), list)
    rounded = bool(coarse or attempts("a look at the precision", lambda: roundings(bound), list))
    trouble: list[str] = attempts("diagnostics", lambda: find_trouble(posterior, rounded), list)
    return coarse, trouble


def _warn(trouble: Sequence[str], drawn: Draws, draws: int, chains: int) -> None:
    """Warn of trouble, or after an interrupt of what is missing; called by `sample` itself, for the line that is shown."""
    for message in trouble:
        warn(ConvergenceWarning(message), stacklevel=3)
    if drawn.complete:
        return
    kept = drawn.z.shape
    warn(
        ConvergenceWarning(f"Interrupted: kept {kept[1]} of {draws} draws of {kept[0]} of {chains} chains."),
        stacklevel=3,
    )


def _metric(
    density: LogDensity,
    metric: str | Metrical,
    start: Start | None,
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
        known_ones = ", ".join(map(repr, ("auto", *ADAPTATIONS)))
        raise SamplingError(f"There is no metric {metric!r}; choose {known_ones}, or give one, as ck.metric does.")
    enough = "structured" if tune >= ENOUGH_WARM_UP else "diagonal"
    adapt = enough if metric == "auto" else metric
    if metric != "auto" or dense or not isinstance(start, Fit):
        return adapt, None
    known = metric_of_fit(density, start)
    return ("diagonal" if known is not None and not known.is_diagonal else adapt), known


def _dense(density: LogDensity, dense: bool | Sequence[str]) -> Dense:
    """The names under which the sites of a block of the mass matrix are sampled."""
    if isinstance(dense, (bool, np.bool_)):
        return bool(dense)
    dense = names("dense", dense, 'True or ["mean", "scatter"]')
    decisions = density.bound.decisions(density.noncentered)
    unknown = [name for name in dense if name not in decisions]
    if unknown:
        raise SamplingError(f"dense= names {', '.join(unknown)}, but the sites are {', '.join(decisions)}.")
    return [tuple(decisions[name].sampled_as for name in dense)]
