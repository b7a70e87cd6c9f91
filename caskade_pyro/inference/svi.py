"""Variational fits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyro
import torch
from pyro import poutine
from pyro.infer import autoguide
from pyro.infer.autoguide.effect import AutoMessenger
from torch import Tensor

from ..bridge.bound import BoundModel
from ..bridge.distributions import NotFactorisedError
from ..bridge.reparametrise import NonCentered
from ..bridge.turns import in_turn
from ..density import LogDensity
from ..density.constrain import to_user_params
from ..density.flat import make_flat
from ..errors import SamplingError
from .guides import check_given, discrete_sites, make_guide
from .minibatch import MinibatchSteps
from .pieces import draw_in_pieces
from .progress import progress_bar
from .seeds import seeded, stream_seed
from .svi_steps import PyroSteps, Steps, density_for, make_steps
from .weights import Weighed, weigh
from .whole_batch import warn_of_a_cheap_whole

__all__ = ["Fitted", "run_svi"]


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
        sites: The sites that the guide samples.
        own: Whether the user wrote the guide, so that it opens its plates itself.
        visits: How often the steps saw each member whose params in the guide lag behind, by plate; empty where none do.
        wander: How much what members share still moved over the last steps, by site, 1 being the most of a settled fit; empty
            where all members were seen at each step.
    """

    bound: BoundModel
    guide: Any
    losses: np.ndarray[Any, Any]
    noncentered: NonCentered
    seed: int
    params: Any
    complete: bool
    engine: str
    sites: tuple[str, ...]
    own: bool = False
    visits: Mapping[str, float] = field(default_factory=dict)
    wander: Mapping[str, float] = field(default_factory=dict)

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
            draw = self._piece_by_piece if self.own and self.bound.subsample_size else self._draw_one
            one_by_one = [draw() for _ in range(draws)]
        return {name: torch.stack([one[name].detach() for one in one_by_one]) for name in self.sites}

    def _draw_one(self) -> dict[str, Tensor]:
        trace: Any = poutine.trace(self.guide).get_trace()
        return {name: trace.nodes[name]["value"] for name in self.sites}

    def _piece_by_piece(self) -> dict[str, Tensor]:
        return draw_in_pieces(self.guide, self.sites, self.bound.plan, self.bound.subsample_size)

    def weighed(self, draws: int, seed: int) -> Weighed | None:
        """Draws from the guide with the density of the model beside its own.

        None for a guide without width, and for one that the user wrote of subsampled plates, which has no density of all.
        """
        if self.own and self.bound.subsample_size:
            return None
        with in_turn():
            flat = make_flat(self.bound.whole().noncentered(self.noncentered))
            with seeded(seed), torch.no_grad(), self._whole():
                return weigh(self.guide, flat, draws)

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """The guide with its own params, and with all members of each plate."""
        plan = self.bound.plan
        with pyro.get_param_store().scope(self.params):
            if self.bound.subsample_size and isinstance(self.guide, AutoMessenger):
                self.guide._model = (self._whole_model(),)  # it runs the model as it draws
            elif self.bound.subsample_size and isinstance(self.guide, autoguide.AutoGuide):
                # A guide opens its plates itself, as large as it saw them; these are the whole ones.
                self.guide.create_plates = lambda: [
                    pyro.plate(name, plan.sizes[name], dim=plan.dims[name]) for name in plan.sizes
                ]
            yield

    def _whole_model(self) -> Any:
        return poutine.block(self.bound.whole().noncentered(self.noncentered), hide=discrete_sites(self.bound))


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
    check_given(bound, guide)
    warn_of_a_cheap_whole(bound, steps, stacklevel + 1)
    wanted = _Wanted(bound, guide, steps, seed, lr, particles, noncentered, engine, progress)
    traced, density, known = False, None, False
    while True:
        found, taking, density = _run_once(wanted, density, known, traced, stacklevel + 1)
        if found is not None and not taking.distrust(stacklevel + 1):
            return found
        traced, known = traced or taking.guide_is_wrong, True
        if engine == "compiled" and density is not None and density.form != "compiled":
            raise SamplingError(f"The fit cannot be compiled: {density.eager_because}.")
        if density is not None and density.form == "eager":
            density = None


class _LossNotFiniteError(SamplingError):
    """A fit that cannot go on."""


@dataclass(frozen=True)
class _Wanted:
    """What was asked of a fit, as in `run_svi`."""

    bound: BoundModel
    guide: str | Callable[..., Any]
    steps: int
    seed: int
    lr: float
    particles: int
    noncentered: NonCentered
    engine: str
    progress: bool


def _run_once(
    wanted: _Wanted, density: LogDensity | None, known: bool, traced: bool, stacklevel: int
) -> tuple[Fitted | None, Steps, LogDensity | None]:
    """Fit on a density as it is, and say what took the steps, on which density; None where wrong code ended the fit.

    Args:
        wanted: What was asked for.
        density: What an earlier try left of the density.
        known: Whether there was one.
        traced: Whether the guide's code was found to be wrong.
        stacklevel: Where to say that a warning comes from.
    """
    bound, steps, noncentered = wanted.bound, wanted.steps, wanted.noncentered
    losses: list[float] = []
    with seeded(stream_seed(wanted.seed, 0)), pyro.get_param_store().scope() as params:
        guided = make_guide(bound, wanted.guide, noncentered)
        fitted, noncentered = guided.guide, guided.noncentered
        if not guided.own:
            _check_derivatives(bound)
        _check_supports(fitted, bound, noncentered)
        _own_memory(fitted)
        if not known:
            density = density_for(bound, fitted, noncentered, wanted.engine, stacklevel + 1)
        settings = {"lr": wanted.lr, "lrd": 0.1 ** (1 / steps)}
        taking = make_steps(
            bound,
            fitted,
            guided.model,
            noncentered,
            density,
            settings,
            wanted.particles,
            wanted.engine,
            stacklevel + 1,
            traced,
        )
        try:
            _take_steps(taking, steps, wanted.lr, losses, wanted.progress)
        except KeyboardInterrupt:
            if not losses:
                raise
        except _LossNotFiniteError:
            if not taking.distrust(stacklevel + 1):
                raise
            return None, taking, density
        taking.finish()
        visits = _visits(bound, taking, len(losses))
        if isinstance(fitted, autoguide.AutoLaplaceApproximation):
            fitted = _laplace(fitted)
    complete = len(losses) == steps
    found = Fitted(
        bound=bound,
        guide=fitted,
        losses=np.array(losses),
        noncentered=noncentered,
        seed=wanted.seed,
        params=params,
        complete=complete,
        engine=taking.form,
        sites=guided.sites,
        own=guided.own,
        visits=visits,
        wander=taking.wander() if isinstance(taking, MinibatchSteps) else {},
    )
    return found, taking, density


def _visits(bound: BoundModel, taking: Steps, steps: int) -> dict[str, float]:
    """How often Pyro's steps saw each member of which the guide has params of its own, by plate."""
    if not isinstance(taking, PyroSteps):
        return {}
    shapes = [value.shape for _, value in pyro.get_param_store().named_parameters()]
    plan = bound.plan
    return {
        name: steps * size / plan.sizes[name]
        for name, size in bound.subsample_size.items()
        if size < plan.sizes[name] and any(plan.sizes[name] in shape for shape in shapes)
    }


def _own_memory(guide: Any) -> None:
    """Let the params of a guide share memory with nothing: they may be values that the user gave it to start at."""
    held = [*guide.parameters()] if isinstance(guide, torch.nn.Module) else []
    for value in (*held, *(one for _, one in pyro.get_param_store().named_parameters())):
        value.data = value.data.clone()


def _laplace(guide: Any) -> Any:
    """The normal approximation at the mode that was found.

    Raises:
        SamplingError: It is no maximum of the density.
    """
    because: Exception | None = None
    found = None
    try:
        found = guide.laplace_approximation()
    except NotFactorisedError as error:
        because = error
    if found is not None and bool(torch.isfinite(found.scale).all() and torch.isfinite(found.scale_tril).all()):
        return found
    raise SamplingError(
        "The density does not curve downwards in every direction at the point that the fit found, so that it has no Laplace "
        "approximation there. Take more steps= or a larger lr=; or the density has no maximum, as a population with a "
        "scatter near zero has none: take guide='normal', or sample with ck.sample."
    ) from because


def _take_steps(taking: Steps, steps: int, lr: float, losses: list[float], progress: bool) -> None:
    with progress_bar(steps, "fit", "step", progress) as bar:
        for step in range(steps):
            losses.append(taking.step())
            if not math.isfinite(losses[-1]):
                raise _LossNotFiniteError(
                    f"The loss of the fit is {losses[-1]} at step {step + 1}; try a smaller lr= than {lr}."
                )
            bar.update()
            if step % 20 == 0:
                bar.set_postfix_str(f"ELBO {-np.mean(losses[-100:]):.6g}", refresh=False)


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
