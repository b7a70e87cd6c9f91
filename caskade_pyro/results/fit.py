"""Variational fits, from a bound model to ArviZ data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import arviz as az
import numpy as np

from ..bridge.bound import BoundModel
from ..bridge.reparametrise import NonCentered
from ..errors import SamplingError
from ..inference.seeds import fresh_seed
from ..inference.svi import Fitted, run_svi
from .arviz import to_inference_data

__all__ = ["Fit", "fit"]


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

    def sample(self, draws: int = 1000, seed: int | None = None) -> az.InferenceData:
        """Draws from the fit, as ArviZ data like those of `sample`, in one chain."""
        seed = self.fitted.seed if seed is None else seed
        drawn = {name: value[None] for name, value in self.fitted.draw(draws, seed).items()}
        return to_inference_data(self.fitted.bound, {"posterior": drawn}, {"seed": seed})

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
            ``"delta"`` (the mode), or a Pyro AutoGuide class.
        steps: How many steps to take; the learning rate falls to a tenth over them.
        seed: The same seed gives the same fit.
        lr: The learning rate at the start.
        particles: How many draws estimate the gradient of each step.
        noncentered: Which sites the guide describes as offsets from their population.
        engine: ``"auto"``: steps on the compiled density, and Pyro's SVI where they cannot be had, with a warning; without one
            where plates are subsampled. ``"compiled"``: the former or an error. ``"pyro"``: Pyro's SVI. The same seed gives the
            same losses, but for rounding.
        progress: Whether to show progress.

    Returns:
        The fit; its ``sample()`` gives ArviZ data in the user's params.

    Raises:
        SamplingError: The guide is unknown, or the loss is not finite.

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
    if steps < 1:
        raise SamplingError(f"steps must be at least 1, not {steps}.")
    bound.check_samplable()
    seed = fresh_seed() if seed is None else seed
    return Fit(run_svi(bound, guide, steps, seed, lr, particles, noncentered, engine, progress, 2))
