"""One chain of Pyro's NUTS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro
import torch
from pyro.infer import NUTS
from pyro.infer.autoguide.initialization import init_to_feasible, init_to_median, init_to_uniform, init_to_value
from pyro.infer.mcmc.adaptation import BlockMassMatrix
from torch import Tensor

from ..bridge.bound import BoundModel
from ..bridge.reparametrise import NonCentered
from ..density.potential import make_potential
from .constrain import to_user_params
from .progress import Progress
from .seeds import seeded, stream_seed
from .svi import Fitted

__all__ = ["Chain", "ChainSettings", "run_chain"]


@dataclass(frozen=True)
class ChainSettings:
    """How a chain is run.

    Attributes:
        draws: How many draws to keep.
        tune: How many steps of warm-up before them.
        seed: The seed of the whole run.
        noncentered: Which sites are sampled non-centred.
        target_accept: The acceptance probability that the step size is adapted to.
        max_tree_depth: The bound on the number of doublings of a trajectory.
        dense: Sites whose joint covariance the mass matrix learns, True for all.
        start: A fit from whose draws chains start and the mass matrix is made; None starts near the priors' medians.
    """

    draws: int
    tune: int
    seed: int
    noncentered: NonCentered
    target_accept: float
    max_tree_depth: int
    dense: bool | list[tuple[str, ...]]
    start: Fitted | None = None


@dataclass(frozen=True)
class Chain:
    """The draws of one chain.

    Attributes:
        draws: By site, in the user's params, the draws in front.
        stats: By name, one value for each draw.
        step_size: The adapted step size.
        complete: Whether all draws were made.
        eager_because: Why the density was not traced; None if it was.
    """

    draws: dict[str, np.ndarray[Any, Any]]
    stats: dict[str, np.ndarray[Any, Any]]
    step_size: float
    complete: bool
    eager_because: str | None


def run_chain(
    bound: BoundModel,
    settings: ChainSettings,
    chain: int,
    report: Callable[[Progress], None],
    stopped: Callable[[], bool],
) -> Chain:
    """Run one chain of Hoffman and Gelman's (2014) No-U-Turn sampler, in Pyro's implementation.

    Args:
        bound: The model.
        settings: How to run it.
        chain: The number of the chain, which makes its seed differ from the others'.
        report: Is told after each step where the chain stands.
        stopped: Is asked before each step whether to stop.

    Returns:
        The draws, fewer than asked for if it was stopped.
    """
    with seeded(stream_seed(settings.seed, chain)):
        kernel, eager_because = _make_kernel(bound, settings)
        kernel.setup(settings.tune)
        kept: list[dict[str, Tensor]] = []
        diverging: list[bool] = []
        try:
            for step, (params, diverged) in enumerate(_steps(kernel, settings)):
                if step >= settings.tune:
                    kept.append(params)
                    diverging.append(diverged)
                report(Progress(chain, step + 1, sum(diverging), float(kernel.step_size)))
                if stopped():
                    break
        except KeyboardInterrupt:
            if not kept:
                raise
        draws = _collect(bound, kernel, kept, settings.noncentered)
        step_size = float(kernel.step_size)
        kernel.cleanup()
    stats = {"diverging": np.array(diverging, dtype=bool)}
    complete = len(kept) == settings.draws
    return Chain(draws, stats, step_size, complete, eager_because)


def _make_kernel(bound: BoundModel, settings: ChainSettings) -> tuple[NUTS, str | None]:
    draws = None if settings.start is None else settings.start.draw_sampled(200)
    first = None if draws is None else {name: values[0] for name, values in draws.items()}
    starts = [init_to_median(num_samples=10), init_to_uniform(), init_to_feasible()]
    potential = make_potential(
        bound.noncentered(settings.noncentered), *(starts if first is None else [init_to_value(values=first), *starts])
    )
    kernel = NUTS(
        potential_fn=potential.function,
        transforms=potential.transforms,
        target_accept_prob=settings.target_accept,
        max_tree_depth=settings.max_tree_depth,
        full_mass=settings.dense,
    )
    kernel.initial_params = potential.initial
    if draws is not None:
        kernel.mass_matrix_adapter = FittedMassMatrix(potential.transforms, draws)
    return kernel, potential.eager_because


class FittedMassMatrix(BlockMassMatrix):
    """A mass matrix that begins with the variances of some draws instead of ones."""

    def __init__(self, transforms: dict[str, Any], draws: dict[str, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.transforms, self.draws = transforms, draws

    def configure(self, mass_matrix_shape: Any, adapt_mass_matrix: bool = True, options: Any = None) -> None:
        """Called by the kernel when it knows the blocks of the matrix: names of sites and shapes."""
        super().configure(mass_matrix_shape, adapt_mass_matrix, options or {})  # type: ignore[no-untyped-call]
        self.inverse_mass_matrix = {
            names: variances if len(mass_matrix_shape[names]) == 1 else torch.diag(variances)
            for names, variances in ((names, self._variances(names)) for names in mass_matrix_shape)
        }

    def _variances(self, names: tuple[str, ...]) -> Tensor:
        unconstrained = [self.transforms[name](self.draws[name]) for name in names]
        return torch.cat([value.reshape(value.shape[0], -1).var(0) for value in unconstrained])


def _steps(kernel: NUTS, settings: ChainSettings) -> Iterator[tuple[dict[str, Tensor], bool]]:
    """The unconstrained params after each step, and whether the step diverged."""
    params = kernel.initial_params
    divergences = 0
    for step in range(settings.tune + settings.draws):
        if step == settings.tune:
            kernel.end_warmup()
        with pyro.validation_enabled(False):
            params = kernel.sample(params)
        before = divergences
        if step >= settings.tune:
            divergences = len(kernel.diagnostics()["divergences"])
        yield {name: value.detach() for name, value in params.items()}, divergences > before


def _collect(
    bound: BoundModel, kernel: NUTS, kept: list[dict[str, Tensor]], noncentered: NonCentered
) -> dict[str, np.ndarray[Any, Any]]:
    if not kept:
        return {}
    stacked = {name: torch.stack([params[name] for params in kept]) for name in kept[0]}
    constrained = {
        name: kernel.transforms[name].inv(value) if name in kernel.transforms else value
        for name, value in stacked.items()
    }
    return {name: value.numpy() for name, value in to_user_params(bound, constrained, noncentered).items()}
