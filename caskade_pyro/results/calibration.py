"""Simulation-based calibration: whether inference gives back what a model puts in."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import arviz as az
import numpy as np
import torch
import xarray as xr
from arviz.stats.ecdf_utils import ecdf_confidence_band

from ..bridge.bound import BoundModel, check_bound
from ..bridge.turns import in_turn
from ..errors import ConvergenceWarning, SamplingError
from ..graph.arguments import flag, shown, whole
from ..inference.parallel import map_in_processes
from ..inference.predictive import draw_predictions
from ..inference.seeds import LARGEST_SEED, fresh_seed, stream_seed
from .arviz import dimensions
from .sample import sample

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Calibration", "calibrate"]

Infer = Callable[[BoundModel, int], az.InferenceData]
Band = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]

POINTS = 20
"""At so many points the distribution of ranks is compared with the uniform one."""


@dataclass(frozen=True)
class Calibration:
    """Ranks of true params among the draws of their posteriors, over many simulated data sets.

    Attributes:
        ranks: By site, the number of draws below the truth, of dims ``(simulation, *plates, ...)``.
        draws: How many draws each rank counts: ranks run from 0 to ``draws``.
    """

    ranks: xr.Dataset
    draws: int

    def outside(self, prob: float = 0.99) -> tuple[str, ...]:
        """The scalars whose ranks are not uniform.

        Args:
            prob: The probability that a perfect inference has none.

        Returns:
            Their names, with the indices of members and components; empty if all is well.
        """
        names, ranks = self._scalars()
        low, high = self.band(prob ** (1 / len(names)))
        differences = self._differences(ranks)
        return tuple(
            name
            for name, difference in zip(names, differences, strict=True)
            if bool(((difference < low) | (difference > high)).any())
        )

    def band(self, prob: float) -> Band:
        """Within what the distribution of ranks of one scalar stays, with some probability, if they are uniform.

        The simultaneous confidence band of Säilynoja, Bürkner and Vehtari (2022) for the difference between the empirical
        distribution function and the uniform one.

        Returns:
            The lower and the upper limit at each of the points.
        """
        points = self.points
        count = self.ranks.sizes["simulation"]
        low, high = ecdf_confidence_band(count, points, points, prob=prob, method="optimized")
        return low - points, high - points

    @property
    def points(self) -> np.ndarray[Any, Any]:
        """The shares of ranks at which their distribution is looked at."""
        edges = np.unique(np.linspace(0, self.draws + 1, POINTS + 1).round().astype(int))
        points: np.ndarray[Any, Any] = edges[1:-1] / (self.draws + 1)
        return points

    def _differences(self, ranks: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Empirical minus uniform distribution of each scalar, ``(scalars, points)``."""
        shares = (ranks + 0.5) / (self.draws + 1)
        points = self.points
        found: np.ndarray[Any, Any] = np.stack([(shares < point).mean(0) for point in points], axis=1) - points
        return found

    def _scalars(self) -> tuple[list[str], np.ndarray[Any, Any]]:
        names: list[str] = []
        columns = []
        for name, values in self.ranks.data_vars.items():
            flat = values.values.reshape(values.shape[0], -1)
            indices = np.ndindex(*values.shape[1:])
            names += [f"{name}[{', '.join(map(str, index))}]" if index else str(name) for index in indices]
            columns.append(flat)
        return names, np.concatenate(columns, axis=1)

    def plot(self, prob: float = 0.95) -> Figure:
        """A row for each site: a histogram of ranks, and how their distribution differs from the uniform one.

        Args:
            prob: The probability that the line of a scalar stays within the band.

        Returns:
            The figure. Each line is one scalar; the grey band is what uniform ranks give.
        """
        import matplotlib.pyplot as plt

        sites = list(self.ranks.data_vars)
        figure, axes = plt.subplots(len(sites), 2, figsize=(8, 1.8 * len(sites)), squeeze=False, layout="constrained")
        low, high = self.band(prob)
        for name, (histogram, curve) in zip(sites, axes, strict=True):
            ranks = self.ranks[name].values.reshape(self.ranks.sizes["simulation"], -1)
            self._draw_histogram(histogram, ranks)
            curve.fill_between(self.points, low, high, color="0.85", linewidth=0)
            curve.axhline(0, color="0.5", linewidth=0.8)
            curve.plot(self.points, self._differences(ranks).T, color="#0072B2", linewidth=0.9, alpha=0.8)
            histogram.set_ylabel(str(name))
        axes[0, 0].set_title("ranks")
        axes[0, 1].set_title("ECDF of ranks minus uniform")
        axes[-1, 0].set_xlabel(f"rank among {self.draws} draws")
        axes[-1, 1].set_xlabel("share of ranks")
        return figure

    def _draw_histogram(self, axes: Any, ranks: np.ndarray[Any, Any]) -> None:
        """The counts of all members together, with what 95 % of uniform ones would give for one scalar."""
        from scipy.stats import binom

        edges = np.concatenate([[0.0], self.points, [1.0]]) * (self.draws + 1) - 0.5
        shares = np.diff(edges) / (self.draws + 1)
        low, high = (binom.ppf(q, ranks.shape[0], shares) for q in (0.025, 0.975))
        axes.fill_between(np.repeat(edges, 2)[1:-1], np.repeat(low, 2), np.repeat(high, 2), color="0.85", linewidth=0)
        for column in ranks.T:
            axes.stairs(np.histogram(column, edges)[0], edges, color="#0072B2", linewidth=0.9, alpha=0.8)
        axes.set_ylim(bottom=0)

    def __str__(self) -> str:
        bad = self.outside()
        verdict = f"not uniform: {', '.join(bad)}" if bad else "all within what uniform ranks give"
        return f"Calibration({self.ranks.sizes['simulation']} simulations, ranks among {self.draws} draws; {verdict})"

    __repr__ = __str__


def calibrate(
    bound: BoundModel,
    simulations: int = 200,
    draws: int = 99,
    *,
    infer: Infer | None = None,
    fitted: BoundModel | None = None,
    thin: int = 5,
    tune: int = 500,
    seed: int | None = None,
    cores: int | None = None,
    progress: bool = True,
) -> Calibration:
    """Check an inference by simulation (Talts, Betancourt, Simpson, Vehtari and Gelman 2018).

    Params are drawn from the priors and data from the params; then the params are inferred from the data. Over many such
    simulations the true params must be spread evenly among the draws of their posteriors, whatever the model. If they are
    not, the posteriors are too wide, too narrow or shifted.

    Args:
        bound: The model; of its data only the shapes and what is missing are used.
        simulations: How many data sets. Compiled code is used again for all of them.
        draws: How many draws of each posterior the truth is ranked among.
        infer: From a model with data and a seed, ArviZ data with at least ``draws`` draws; NUTS by default.
        fitted: The model whose params are inferred, if it is another one than that which simulates.
        thin: NUTS draws so many times more, of which every one in so many is kept, since neighbours resemble each other.
        tune: Steps of warm-up of NUTS.
        seed: The same seed gives the same ranks.
        cores: How many simulations run at once; as many as there are processors by default.
        progress: Whether to show progress.

    Returns:
        The ranks, with a picture and a verdict.

    Raises:
        SamplingError: A prior is improper, or an inference failed or gave too few draws.
        KeyboardInterrupt: On Ctrl-C before the first simulation is done; later, what is done is returned.

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
        >>> bound = ck.PyroModel(Mean().data).bind(obs=torch.zeros(3))
        >>> ck.calibrate(bound, simulations=20, draws=19, tune=200, seed=1, cores=1, progress=False)
        Calibration(20 simulations, ranks among 19 draws; all within what uniform ranks give)
    """
    check_bound(bound, "ck.calibrate")
    if fitted is not None:
        check_bound(fitted, "ck.calibrate's fitted=")
    simulations, draws = whole("simulations", simulations, 1), whole("draws", draws, 1)
    thin, tune = whole("thin", thin, 1), whole("tune", tune, 0)
    cores, progress = None if cores is None else whole("cores", cores, 1), flag("progress", progress)
    seed = fresh_seed() if seed is None else whole("seed", seed, 0, most=LARGEST_SEED)
    if infer is not None and not callable(infer):
        raise SamplingError(f"infer must be a function of a model and a seed; got {shown(infer)}.")
    _check_simulated(bound)
    used = bound if fitted is None else fitted
    truths = draw_predictions(bound.whole(), {}, simulations, seed, progress=False)
    sites = [site.name for site in used.plan.latents if site.name in truths]
    run = infer or _nuts(draws * thin, tune)

    def one(index: int) -> dict[str, np.ndarray[Any, Any]]:
        own = stream_seed(seed, index + 2)
        posterior = run(_with_data(used, truths, index), own)["posterior"]
        random = np.random.default_rng(own)
        return {name: _rank(posterior[name], truths[name][index], draws, random) for name in sites}

    with in_turn():
        found = map_in_processes(one, simulations, cores, progress, "calibrate")
    dims = dimensions(used.plan)
    ranks = {name: (("simulation", *dims[name]), np.stack([row[name] for row in found])) for name in sites}
    return Calibration(xr.Dataset(ranks), draws)


def _check_simulated(bound: BoundModel) -> None:
    """Check that all that a model is inferred from can be simulated.

    Raises:
        SamplingError: The simulator observes or weighs something itself, which stays as it is.
    """
    own = [site.name for site in bound.plan.inner if site.observed]
    if own:
        raise SamplingError(
            f"A calibration simulates data, but {', '.join(own)} of the simulator's own (pyro.factor, or pyro.sample with "
            "obs=) stays as it is. Return a distribution of the data instead."
        )


def _nuts(draws: int, tune: int) -> Infer:
    def infer(bound: BoundModel, seed: int) -> az.InferenceData:
        with warnings.catch_warnings():
            # A single short chain of each is what is meant here; what goes wrong shows in the ranks.
            warnings.simplefilter("ignore", ConvergenceWarning)
            return sample(bound, draws=draws, tune=tune, chains=1, cores=1, seed=seed, progress=False)

    return infer


def _with_data(bound: BoundModel, truths: dict[str, np.ndarray[Any, Any]], index: int) -> BoundModel:
    """The model with simulated data in place of its own, missing where these are."""
    data = {}
    for name, one in bound.plan.observations.items():
        if bound.data and name not in bound.data:
            continue  # a data set without data is no part of the density
        simulated = torch.as_tensor(truths[name][index])
        given = bound.data.get(name)
        missing = torch.zeros(simulated.shape, dtype=torch.bool) if given is None else torch.isnan(given)
        data[one.name] = torch.where(missing, torch.nan, simulated) if bool(missing.any()) else simulated
    return bound.model.bind(*bound.args, obs=data, subsample_size=bound.subsample_size, **bound.kwargs)


def _rank(
    posterior: xr.DataArray, truth: np.ndarray[Any, Any], draws: int, random: np.random.Generator
) -> np.ndarray[Any, Any]:
    """How many of some draws, spread evenly over all, lie below the truth; among equal ones a random place."""
    values = posterior.values.reshape((-1, *posterior.shape[2:]))
    if len(values) < draws:
        raise SamplingError(f"The inference gave {len(values)} draws of {posterior.name}, but {draws} are needed.")
    chosen = values[np.linspace(0, len(values) - 1, draws).round().astype(int)]
    equal = (chosen == truth).sum(0)
    below: np.ndarray[Any, Any] = (chosen < truth).sum(0) + random.integers(0, equal + 1)
    return below
