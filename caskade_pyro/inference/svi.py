"""Variational fits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro
import torch
from pyro import poutine
from pyro.infer import autoguide
from pyro.infer.autoguide.initialization import init_to_median
from torch import Tensor

from ..bridge.bound import BoundModel
from ..bridge.reparametrise import NonCentered
from ..bridge.turns import in_turn
from ..density import LogDensity
from ..density.constrain import to_user_params
from ..density.flat import Slot, make_flat
from ..errors import SamplingError
from .flat_guide import make_flat_guide
from .progress import progress_bar
from .seeds import seeded, stream_seed
from .svi_steps import UNTRACEABLE, Steps, density_for, make_steps

__all__ = ["GUIDES", "Fitted", "run_svi"]

GUIDES: dict[str, Callable[..., Any]] = {
    "normal": autoguide.AutoNormal,
    "full_rank": autoguide.AutoMultivariateNormal,
    "low_rank": autoguide.AutoLowRankMultivariateNormal,
    "laplace": autoguide.AutoLaplaceApproximation,
    "delta": autoguide.AutoDelta,
}


MEDIAN_OF = 100
"""A guide starts at the median of so many draws from the priors: that of few is by chance far from where wide ones begin."""

DRAWS_AT_ONCE = 50
"""Of how many draws the densities are computed side by side."""


@dataclass(frozen=True)
class Weighed:
    """Draws from a guide, and how much likelier they are under the model.

    Attributes:
        z: Unconstrained, ``(draws, dim)``.
        log_ratios: The log density of the model minus the guide's, ``(draws,)``.
        slots: Where sites stand in a draw.
    """

    z: np.ndarray[Any, Any]
    log_ratios: np.ndarray[Any, Any]
    slots: Mapping[str, Slot]


@dataclass(frozen=True)
class Fitted:
    """A guide that was fitted to a model.

    Attributes:
        bound: The model.
        guide: The fitted guide.
        losses: The negative ELBO at each step.
        noncentered: Which sites the guide describes as offsets.
        seed: The seed of the fit.
        params: The guide's own parameters: a param store of its own, so that fits do not meet in Pyro's global one.
        complete: Whether all steps were taken; False after an interrupt.
        engine: What took the steps: ``"compiled"``, ``"traced"`` or ``"pyro"``.
    """

    bound: BoundModel
    guide: Any
    losses: np.ndarray[Any, Any]
    noncentered: NonCentered
    seed: int
    params: Any
    complete: bool
    engine: str

    def draw(self, draws: int, seed: int) -> dict[str, np.ndarray[Any, Any]]:
        """Draws from the guide in the user's params, ``(draws, *plates, *shape)`` by site."""
        with in_turn(), seeded(stream_seed(seed, 0)):
            found = to_user_params(self.bound.whole(), self.draw_sampled(draws), self.noncentered)
        return {name: value.numpy() for name, value in found.items()}

    def draw_seeded(self, draws: int, seed: int) -> dict[str, Tensor]:
        """The same for a seed."""
        with seeded(seed):
            return self.draw_sampled(draws)

    def draw_sampled(self, draws: int) -> dict[str, Tensor]:
        """Draws from the guide as it describes them, offsets included, ``(draws, *Pyro's batch dims, *shape)`` by site."""
        with in_turn(), torch.no_grad(), self._whole():
            one_by_one = [self.guide() for _ in range(draws)]
        return {name: torch.stack([one[name].detach() for one in one_by_one]) for name in one_by_one[0]}

    def weighed(self, draws: int, seed: int) -> Weighed | None:
        """Draws from the guide with the density of the model beside its own; None for a guide without width."""
        with in_turn():
            flat = make_flat(self.bound.whole().noncentered(self.noncentered))
        with in_turn(), seeded(seed), torch.no_grad(), self._whole():
            guide = make_flat_guide(self.guide, flat)
            noise = torch.zeros(draws, guide.sizes[1], dtype=guide.dtype)
            if noise.numel() == 0:
                return None
            for row in noise:
                guide.draw(row)
            params = guide.params()

            def of_one(row: Tensor) -> tuple[Tensor, Tensor]:
                z, surprise = guide.place(params, row)
                return z, flat.log_density(z) + surprise

            try:
                z, ratios = torch.vmap(of_one, chunk_size=DRAWS_AT_ONCE)(noise)
            except UNTRACEABLE:  # of simulators that cannot be run side by side
                z, ratios = (torch.stack(parts) for parts in zip(*map(of_one, noise), strict=True))
        return Weighed(z.double().numpy(), ratios.double().numpy(), flat.slots)

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """The guide with its own params, and with all members of each plate."""
        plan = self.bound.plan
        with pyro.get_param_store().scope(self.params):
            if self.bound.subsample_size:
                # A guide opens its plates itself, as large as it saw them; these are the whole ones.
                self.guide.create_plates = lambda: [
                    pyro.plate(name, plan.sizes[name], dim=plan.dims[name]) for name in plan.sizes
                ]
            yield


def run_svi(
    bound: BoundModel,
    guide: str | Callable[..., Any],
    steps: int,
    seed: int,
    lr: float,
    particles: int,
    noncentered: NonCentered,
    engine: str,
    progress: bool,
    stacklevel: int = 1,
) -> Fitted:
    """Fit a guide by stochastic variational inference (Kucukelbir et al. 2017), the learning rate falling to a tenth.

    Raises:
        SamplingError: The guide is unknown, the loss is not finite, or the step cannot be compiled but has to be.
    """
    _check_guide(bound, guide)
    density = density_for(bound, noncentered, engine, stacklevel + 1)
    traced = False
    while True:
        found, taking = _run_once(
            bound, guide, steps, seed, lr, particles, noncentered, engine, progress, density, traced, stacklevel + 1
        )
        if not taking.distrust(stacklevel + 1):
            return found
        traced = traced or taking.guide_is_wrong
        if engine == "compiled" and density is not None and density.form != "compiled":
            raise SamplingError(f"The fit cannot be compiled: {density.eager_because}.")
        if density is not None and density.form == "eager":
            density = None


def _run_once(
    bound: BoundModel,
    guide: str | Callable[..., Any],
    steps: int,
    seed: int,
    lr: float,
    particles: int,
    noncentered: NonCentered,
    engine: str,
    progress: bool,
    density: LogDensity | None,
    traced: bool,
    stacklevel: int,
) -> tuple[Fitted, Steps]:
    """Fit on a density as it is, and say what took the steps."""
    losses: list[float] = []
    with seeded(stream_seed(seed, 0)), pyro.get_param_store().scope() as params:
        model = bound.noncentered(noncentered)
        fitted = _make_guide(guide, poutine.block(model, hide=_discrete(bound)) if bound.has_discrete else model)
        fitted()  # guides make their params when they run for the first time
        _check_supports(fitted, bound, noncentered)
        settings = {"lr": lr, "lrd": 0.1 ** (1 / steps)}
        taking = make_steps(bound, fitted, model, density, settings, particles, engine, stacklevel + 1, traced)
        try:
            _take_steps(taking, steps, lr, losses, progress)
        except KeyboardInterrupt:
            if not losses:
                raise
        taking.finish()
        if isinstance(fitted, autoguide.AutoLaplaceApproximation):
            fitted = fitted.laplace_approximation()
    complete = len(losses) == steps
    found = Fitted(bound, fitted, np.array(losses), noncentered, seed, params, complete, taking.form)
    return found, taking


def _take_steps(taking: Steps, steps: int, lr: float, losses: list[float], progress: bool) -> None:
    with progress_bar(steps, "fit", "step", progress) as bar:
        for step in range(steps):
            losses.append(taking.step())
            if not math.isfinite(losses[-1]):
                raise SamplingError(
                    f"The loss of the fit is {losses[-1]} at step {step + 1}; try a smaller lr= than {lr}."
                )
            bar.update()
            if step % 20 == 0:
                bar.set_postfix_str(f"ELBO {-np.mean(losses[-100:]):.6g}", refresh=False)


def _check_guide(bound: BoundModel, guide: str | Callable[..., Any]) -> None:
    """Check that a guide can describe members that it sees a few at a time.

    Raises:
        SamplingError: It is one joint distribution, whose dims would stand for other members at each step.
    """
    made = GUIDES.get(guide, guide) if isinstance(guide, str) else guide
    local = [site.name for site in bound.plan.sites if set(site.plates.names) & set(bound.subsample_size)]
    if local and isinstance(made, type) and issubclass(made, autoguide.AutoContinuous):
        raise SamplingError(
            f"The guide {made.__name__} is one joint distribution and cannot describe {', '.join(local[:3])} of a subsampled "
            "plate, of which it sees other members at each step. Take guide='normal', or fit all members at once."
        )
    if isinstance(made, type) and issubclass(made, autoguide.AutoGuide):
        _check_derivatives(bound)


def _check_derivatives(bound: BoundModel) -> None:
    """Check that a fit, which follows derivatives alone, sees all that the data say.

    Raises:
        SamplingError: A param enters where no derivative leads: its fit would stay at the prior.
    """
    for observed, params in bound.without_derivative().items():
        raise SamplingError(
            f"{observed} depends on {', '.join(params)} through a comparison, a count, an index or a detached value, where no "
            "derivative leads, so that a fit would not see what the data say of it. Sample with ck.sample, which is slow "
            "there but right; or make the step a smooth one."
        )


def _check_supports(guide: Any, bound: BoundModel, noncentered: NonCentered) -> None:
    """Check that the supports of sites stay as a guide saw them first.

    Raises:
        SamplingError: One depends on other params; Pyro's guides would look at its first extent only.
    """
    flat = make_flat(bound.whole().noncentered(noncentered))
    moving = [name for name in flat.slots if name not in flat.fixed]
    if moving and isinstance(guide, autoguide.AutoGuide):
        raise SamplingError(
            f"The support of {', '.join(moving)} depends on other params, which Pyro's guides cannot follow. Sample with "
            "ck.sample, or declare the param relative to its bounds, as a fraction of the interval."
        )


def _discrete(bound: BoundModel) -> list[str]:
    """The sites that a guide leaves out, because the loss sums over their values."""
    inner = bound.plan.latent_inner
    return [site.name for site in bound.discrete] + [
        one.name for one in inner if getattr(one.distribution.support, "is_discrete", False)
    ]


def _make_guide(guide: str | Callable[..., Any], model: Callable[..., Any]) -> Any:
    if isinstance(guide, str):
        if guide not in GUIDES:
            raise SamplingError(
                f"There is no guide {guide!r}; choose {', '.join(map(repr, GUIDES))}, or give an AutoGuide class."
            )
        return GUIDES[guide](model, init_loc_fn=init_to_median(num_samples=MEDIAN_OF))
    return guide(model)
