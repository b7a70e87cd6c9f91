"""Variational fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro
import torch
from pyro.infer import SVI, Trace_ELBO, autoguide
from pyro.infer.autoguide.initialization import init_to_median
from pyro.optim import ClippedAdam
from torch import Tensor

from ..bridge.model import BoundModel
from ..bridge.noncentered import NonCentered
from ..errors import SamplingError
from .constrain import to_user_params
from .progress import progress_bar
from .seeds import seeded, stream_seed

__all__ = ["GUIDES", "Fitted", "run_svi"]

GUIDES: dict[str, Callable[..., Any]] = {
    "normal": autoguide.AutoNormal,
    "full_rank": autoguide.AutoMultivariateNormal,
    "low_rank": autoguide.AutoLowRankMultivariateNormal,
    "laplace": autoguide.AutoLaplaceApproximation,
    "delta": autoguide.AutoDelta,
}


@dataclass(frozen=True)
class Fitted:
    """A guide that was fitted to a model.

    Attributes:
        bound: The model.
        guide: The fitted guide.
        losses: The negative ELBO at each step.
        noncentered: Which sites the guide describes as offsets.
        seed: The seed of the fit.
        complete: Whether all steps were taken; False after an interrupt.
    """

    bound: BoundModel
    guide: Any
    losses: np.ndarray[Any, Any]
    noncentered: NonCentered
    seed: int
    complete: bool

    def draw(self, draws: int, seed: int) -> dict[str, np.ndarray[Any, Any]]:
        """Draws from the guide in the user's params, ``(draws, *plates, *shape)`` by site."""
        with seeded(stream_seed(seed, 0)), torch.no_grad():
            one_by_one = [self.guide() for _ in range(draws)]
            stacked: dict[str, Tensor] = {
                name: torch.stack([one[name] for one in one_by_one]) for name in one_by_one[0]
            }
            found = to_user_params(self.bound, stacked, self.noncentered)
        return {name: value.numpy() for name, value in found.items()}


def run_svi(
    bound: BoundModel, guide: str | Callable[..., Any], steps: int, seed: int, lr: float, particles: int,
    noncentered: NonCentered, progress: bool,
) -> Fitted:
    """Fit a guide by stochastic variational inference (Kucukelbir et al. 2017), the learning rate falling to a tenth.

    Raises:
        SamplingError: The guide is unknown, or the loss is not finite.
    """
    model = bound.noncentered(noncentered)
    fitted = _make_guide(guide, model)
    optimiser = ClippedAdam({"lr": lr, "lrd": 0.1 ** (1 / max(1, steps))})
    svi = SVI(model, fitted, optimiser, Trace_ELBO(num_particles=particles))
    losses: list[float] = []
    pyro.clear_param_store()
    with seeded(stream_seed(seed, 0)), progress_bar(steps, "fit", "step", progress) as bar:
        try:
            for step in range(steps):
                losses.append(float(svi.step()))
                if not np.isfinite(losses[-1]):
                    raise SamplingError(f"The loss of the fit is {losses[-1]} at step {step + 1}; try a smaller lr= than {lr}.")
                bar.update()
                if step % 20 == 0:
                    bar.set_postfix_str(f"ELBO {-np.mean(losses[-100:]):.6g}", refresh=False)
        except KeyboardInterrupt:
            if not losses:
                raise
    if isinstance(fitted, autoguide.AutoLaplaceApproximation):
        fitted = fitted.laplace_approximation()
    return Fitted(bound, fitted, np.array(losses), noncentered, seed, complete=len(losses) == steps)


def _make_guide(guide: str | Callable[..., Any], model: Callable[..., Any]) -> Any:
    if isinstance(guide, str):
        if guide not in GUIDES:
            raise SamplingError(f"There is no guide {guide!r}; choose {', '.join(map(repr, GUIDES))}, or give an AutoGuide class.")
        return GUIDES[guide](model, init_loc_fn=init_to_median(num_samples=10))
    return guide(model)
