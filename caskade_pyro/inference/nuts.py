"""One chain of Pyro's NUTS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyro
import torch
from pyro.infer import NUTS
from torch import Tensor

from ..bridge.randomness import no_numbers
from ..density import LogDensity, Metric, Whitened
from .effective import Looks
from .progress import Progress
from .seeds import seeded, stream_seed
from .settings import Chain, ChainSettings

__all__ = ["run_pyro_chain"]


def run_pyro_chain(
    density: LogDensity,
    settings: ChainSettings,
    chain: int,
    report: Callable[[Progress], None],
    stopped: Callable[[], bool],
) -> Chain:
    """Run one chain of Hoffman and Gelman's (2014) No-U-Turn sampler, in Pyro's implementation.

    Args:
        density: The density to sample.
        settings: How to run it.
        chain: The number of the chain, which makes its seed differ from the others'.
        report: Is told after each step where the chain stands.
        stopped: Is asked after each step whether to stop.

    Returns:
        The draws, fewer than asked for if it was stopped.
    """
    with seeded(stream_seed(settings.seed, chain)):
        kernel = _make_kernel(density, settings, chain)
        kernel.setup(settings.tune)
        kept: list[Tensor] = []
        diverging: list[bool] = []
        looks = Looks()
        try:
            for step, (params, diverged) in enumerate(_steps(kernel, settings)):
                if step >= settings.tune:
                    kept.append(torch.cat([params[name].reshape(-1) for name in kernel.initial_params]))
                    diverging.append(diverged)
                looks.look(lambda: _unconstrained(kept, density, settings.metric))
                report(Progress(chain, step + 1, sum(diverging), float(kernel.step_size), looks.sizes))
                if stopped():
                    break
        except KeyboardInterrupt:
            if not kept:
                raise
        step_size = float(kernel.step_size)
        kernel.cleanup()
    draws = _unconstrained(kept, density, settings.metric)
    stats = {"diverging": np.array(diverging, dtype=bool)}
    return Chain(draws, stats, step_size, len(kept) == settings.draws)


def _unconstrained(kept: list[Tensor], density: LogDensity, metric: Metric | None) -> np.ndarray[Any, Any]:
    """The draws, ``(draws, dim)``, in the precision of the density."""
    draws = torch.stack(kept).numpy() if kept else np.zeros((0, density.dim))
    return draws if metric is None else metric.stretch(draws).astype(draws.dtype)


def _make_kernel(density: LogDensity, settings: ChainSettings, chain: int) -> NUTS:
    if settings.starts is None:
        z = density.initial(stream_seed(settings.seed, chain))
    else:
        z = torch.as_tensor(settings.starts[chain]).to(density.dtype)
    metric = settings.metric
    kernel = NUTS(
        potential_fn=no_numbers(density.potential if metric is None else Whitened(density, metric).potential),
        target_accept_prob=settings.target_accept,
        max_tree_depth=settings.max_tree_depth,
        full_mass=settings.dense,
    )
    if metric is None:
        kernel.initial_params = {name: slot.of(z) for name, slot in density.slices.items()}
    else:
        kernel.initial_params = {"w": torch.as_tensor(metric.shrink(z.double().numpy())).to(density.dtype)}
    return kernel


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
