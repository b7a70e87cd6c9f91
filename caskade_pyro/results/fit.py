"""Variational fits, from a bound model to ArviZ data."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import arviz as az
import numpy as np

from ..bridge.bound import BoundModel, check_bound
from ..bridge.reparametrise import NonCentered
from ..bridge.turns import in_turn
from ..inference.fit_settings import check_draws, check_fit_settings, check_seed
from ..inference.seeds import fresh_seed, stream_seed
from ..inference.svi import Fitted, run_svi
from ..inference.weights import Weighed
from ..inference.whole_batch import seconds_for_all
from .arrival import unsettled, warn_of_falling_loss, warn_of_members_left_behind, warn_of_wander
from .arviz import to_inference_data
from .importance import LARGEST_KHAT, largest_shift, pareto_khat, warn_of_khat, warn_of_shift

__all__ = ["Fit", "fit"]

DRAWS_FOR_KHAT = 1000


@dataclass(frozen=True)
class Fit:
    """A variational fit.

    Attributes:
        fitted: The guide and how it was fitted.
    """

    fitted: Fitted

    @property
    def guide(self) -> Any:
        """The fitted guide, for Pyro's own tools."""
        return self.fitted.guide

    @property
    def losses(self) -> np.ndarray[Any, Any]:
        """The negative ELBO at each step."""
        return self.fitted.losses

    @property
    def engine(self) -> str:
        """What took the steps: ``"compiled"``, ``"traced"`` or ``"pyro"``."""
        return self.fitted.engine

    @cached_property
    def khat(self) -> float:
        """How far the guide is from the posterior: the Pareto k-hat of Yao et al. (2018), from 1,000 draws.

        It is the shape of the tail of the ratios of the posterior's density to the guide's. Below 0.5 the guide is close,
        above 0.7 its draws should not be trusted. NaN for a guide without width, ``"delta"``.
        """
        return float("nan") if self._weighed is None else pareto_khat(self._weighed.log_ratios)

    @cached_property
    def _weighed(self) -> Weighed | None:
        return self.fitted.weighed(DRAWS_FOR_KHAT, stream_seed(self.fitted.seed, 1))

    def sample(self, draws: int = 1000, seed: int | None = None) -> az.InferenceData:
        """Draws from the fit, as ArviZ data like those of `sample`, in one chain.

        A warning is given where `khat` says that they should not be trusted, and where importance weights move a mean by
        more than half a standard deviation: then the fit has the right shape, but has not arrived.

        Args:
            draws: How many.
            seed: The same seed gives the same draws; by default that of the fit.

        Raises:
            SamplingError: One of these is no whole number, or too small.
        """
        check_draws(draws)
        check_seed(seed)
        seed = self.fitted.seed if seed is None else int(seed)
        drawn = {name: value[None] for name, value in self.fitted.draw(draws, seed).items()}
        warn_of_khat(self.khat, type(self.guide).__name__, stacklevel=2)
        if self._weighed is not None and self.khat <= LARGEST_KHAT:
            warn_of_shift(largest_shift(self._weighed), stacklevel=2)
        return to_inference_data(self.fitted.bound, {"posterior": drawn}, {"seed": seed, "khat": self.khat})

    def __repr__(self) -> str:
        kind = type(self.guide).__name__
        elbo = -float(np.mean(self.losses[-100:]))
        return f"Fit({kind}, {len(self.losses)} steps, ELBO {elbo:.6g})"


def fit(
    bound: BoundModel,
    guide: str | Callable[..., Any] = "normal",
    steps: int = 2000,
    seed: int | None = None,
    *,
    lr: float = 0.02,
    particles: int = 1,
    noncentered: NonCentered = "auto",
    engine: str = "auto",
    progress: bool = True,
) -> Fit:
    """Fit a guide to the posterior by stochastic variational inference.

    Args:
        bound: The model with its data.
        guide: ``"normal"`` (independent normals), ``"full_rank"`` or ``"low_rank"`` (one joint normal), ``"laplace"``,
            ``"delta"`` (the mode); a guide of Pyro's (`AutoGuide` or `AutoMessenger`), its class or one that is made, which
            is then trained in place; a function of the model that returns a guide; or a guide itself, a function of no
            arguments or of the inputs of the model by their names, and ``obs``.
        steps: How many steps to take; the learning rate falls to a tenth over them.
        seed: The same seed gives the same fit.
        lr: The learning rate at the start.
        particles: How many draws estimate the gradient of each step.
        noncentered: Which sites the guide describes as offsets from their population.
        engine: ``"auto"``: steps on the compiled density, and Pyro's SVI where they cannot be had, with a warning; without one
            where plates are subsampled. There ``"normal"`` and ``"delta"`` bring the members of each step to their best before
            the population moves. ``"compiled"``: compiled steps or an error. ``"pyro"``: Pyro's SVI. The same seed gives the
            same losses, but for rounding, where no plate is subsampled.
        progress: Whether to show progress.

    Returns:
        The fit, with a `ConvergenceWarning` where its loss was still falling at the end, what the members of subsampled plates
            share had not settled, or members were seen too seldom, and a `PerformanceWarning` where a fit of all members is
            cheap; its ``sample()`` gives ArviZ data in the user's params, and its ``khat`` says how far to trust them. After
        Ctrl-C it is that of the steps taken so far.

    Raises:
        SamplingError: The guide or engine is unknown, a setting is no number that it can be, the sites of the guide are not
            those of the model, the step cannot be compiled but has to be, the support of a param depends on others, the
            loss is not finite, or the mode that ``"laplace"`` found is none.

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
        >>> fitted = ck.fit(bound, steps=500, seed=1, progress=False)
        >>> fitted.sample(draws=1000).posterior["mu"].mean().round(1).item()
        0.7
    """
    check_bound(bound, "ck.fit")
    check_fit_settings(steps, lr, particles, seed, engine)
    bound.check_samplable()
    seed = fresh_seed() if seed is None else int(seed)
    with in_turn():
        fitted = run_svi(bound, guide, int(steps), seed, float(lr), int(particles), noncentered, engine, progress, 2)
        if fitted.complete:
            dim = sum(math.prod(site.draw_shape) for site in bound.plan.latents)
            warn_of_falling_loss(fitted.losses, dim, stacklevel=2)
            if unsettled(fitted.losses, fitted.wander) is not None:
                once = seconds_for_all(bound, fitted.noncentered)
                seconds = None if once is None else once * int(steps) * int(particles)
                warn_of_wander(fitted.losses, fitted.wander, seconds, stacklevel=2)
        warn_of_members_left_behind(fitted.visits, type(fitted.guide).__name__, stacklevel=2)
        return Fit(fitted)
