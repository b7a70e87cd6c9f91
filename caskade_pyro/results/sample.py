"""NUTS, from a bound model to ArviZ data."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from warnings import warn

import arviz as az

from ..bridge.bound import BoundModel
from ..bridge.reparametrise import NonCentered
from ..errors import ConvergenceWarning, SamplingError
from ..inference.chains import run_chains
from ..inference.nuts import ChainSettings
from ..inference.seeds import fresh_seed
from .arviz import to_inference_data
from .diagnostics import warn_of_trouble
from .fit import Fit

__all__ = ["sample"]


def sample(
    bound: BoundModel,
    draws: int = 1000,
    tune: int = 1000,
    chains: int = 4,
    seed: int | None = None,
    *,
    cores: int | None = None,
    noncentered: NonCentered = "auto",
    target_accept: float = 0.8,
    max_tree_depth: int = 10,
    dense: bool | Sequence[str] = False,
    start: Fit | None = None,
    progress: bool = True,
) -> az.InferenceData:
    """Sample the posterior with NUTS (Hoffman and Gelman 2014), each chain in a process of its own.

    Args:
        bound: The model with its data.
        draws: Draws of each chain.
        tune: Steps of warm-up of each chain, which are not kept.
        chains: How many chains.
        seed: The same seed gives the same draws, whatever ``cores``.
        cores: How many chains run at once; as many as there are processors by default.
        noncentered: Which sites are sampled as offsets from their population: ``"auto"``, True, False or names.
        target_accept: The acceptance probability to adapt the step size to; raise it against divergences.
        max_tree_depth: The bound on the number of doublings of a trajectory.
        dense: Names of sites whose joint covariance the mass matrix learns; True for all sites.
        start: A fit of the same model: chains start at draws from it, with a mass matrix of its variances. A fit of a few
            seconds can spare most of the warm-up where params have very different scales.
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
    for name, value in (("draws", draws), ("chains", chains)):
        if value < 1:
            raise SamplingError(f"{name} must be at least 1, not {value}.")
    if tune < 0:
        raise SamplingError(f"tune must not be negative, but is {tune}.")
    bound.check_samplable()
    bound.check_whole()
    if start is not None and bound.decisions(start.fitted.noncentered) != bound.decisions(noncentered):
        raise SamplingError("start= was fitted with another noncentered= than is asked for here; give both the same.")
    seed = fresh_seed() if seed is None else seed
    settings = ChainSettings(
        draws=draws,
        tune=tune,
        seed=seed,
        noncentered=noncentered,
        target_accept=target_accept,
        max_tree_depth=max_tree_depth,
        dense=dense if isinstance(dense, bool) else [_sampled_names(bound, dense, noncentered)],
        start=None if start is None else start.fitted,
    )
    began = perf_counter()
    drawn = run_chains(bound, settings, chains, cores, progress)
    attrs = {
        "seed": seed,
        "tuning_steps": tune,
        "sampling_time": perf_counter() - began,
        "step_sizes": drawn.step_sizes,
        "density": "traced" if drawn.eager_because is None else f"eager, because {drawn.eager_because}",
    }
    posterior = to_inference_data(bound, {"posterior": drawn.params, "sample_stats": drawn.stats}, attrs)
    if drawn.complete:
        warn_of_trouble(posterior)
    else:
        kept = drawn.stats["diverging"].shape
        warn(
            ConvergenceWarning(f"Interrupted: kept {kept[1]} of {draws} draws of {kept[0]} of {chains} chains."),
            stacklevel=2,
        )
    return posterior


def _sampled_names(bound: BoundModel, dense: Sequence[str], noncentered: NonCentered) -> tuple[str, ...]:
    """The names under which sites are sampled."""
    decisions = bound.decisions(noncentered)
    unknown = [name for name in dense if name not in decisions]
    if unknown:
        raise SamplingError(f"dense= names {', '.join(unknown)}, but the sites are {', '.join(decisions)}.")
    return tuple(decisions[name].sampled_as for name in dense)
