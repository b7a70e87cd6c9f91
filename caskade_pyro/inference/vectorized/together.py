"""From a density and settings to the draws of many chains."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...density import LogDensity
from ...errors import SamplingError
from ..chains import Draws
from ..progress import progress_bar
from ..seeds import on_one_core, stream_seed
from ..settings import ChainSettings
from .adaptation import Scale
from .run import Record, draw_all
from .warmup import Density, warm_up

__all__ = ["run_together", "superchains"]


def superchains(chains: int) -> int:
    """In how many groups, each of neighbours that start at the same point, chains are run."""
    if chains < 16:
        return chains
    return 4 if chains < 32 else 8


def run_together(
    density: LogDensity,
    settings: ChainSettings,
    chains: int,
    chunk_size: int | None,
    progress: bool,
    stacklevel: int = 1,
) -> Draws:
    """Run many chains as one batch of tensors, on the device of the model's tensors.

    Args:
        density: The density to sample.
        settings: How to run the chains.
        chains: How many.
        chunk_size: At how many points at once the density is evaluated; all by default.
        progress: Whether to show where they stand.
        stacklevel: Where to say that a warning comes from.

    Returns:
        The draws. After Ctrl-C those that all chains have made so far.

    Raises:
        SamplingError: The density failed.
        KeyboardInterrupt: On Ctrl-C before the first draw.
    """
    total = chains * (settings.tune + settings.draws)
    with on_one_core(), progress_bar(total, "sample", "step", progress) as bar:
        record = Record(chains, settings.draws, density.dim, density.dtype)
        batched = density.at_once(chains, chunk_size, stacklevel + 1)
        try:
            step_size = _run(density, Density(batched.run, batched.by_row), settings, record, bar)
        except SamplingError:
            raise
        except Exception as error:  # whatever the user's simulator raises
            raise SamplingError(f"The density failed: {error}") from error
    z, stats = record.arrays(step_size, settings.max_tree_depth)
    complete = z.shape[1] == settings.draws
    return Draws(z, stats, (step_size,) * chains, complete)


def _run(density: LogDensity, batched: Density, settings: ChainSettings, record: Record, bar: Any) -> float:
    """Fill the record; the step size."""
    chains = len(record.count)
    starts = _starts(density, settings, chains)
    generator = torch.Generator(starts.device).manual_seed(stream_seed(settings.seed, 1))

    def in_warm_up(step: int, step_size: float) -> None:
        bar.set_postfix_str(f"{chains} chains warming up; step size {step_size:.2g}", refresh=False)
        bar.update(chains * step - bar.n)

    def in_sampling(draws: int, divergences: int) -> None:
        text = f"{chains} chains sampling; step size {tuned.step_size:.2g}; {divergences} divergences"
        bar.set_postfix_str(text, refresh=False)
        bar.update(chains * settings.tune + draws - bar.n)

    tuned = warm_up(
        batched,
        starts,
        settings.tune,
        settings.target_accept,
        settings.max_tree_depth,
        generator,
        scale=_first_scale(settings, starts),
        full=settings.adapt != "diagonal",
        report=in_warm_up,
    )
    try:
        draw_all(batched, tuned, record, settings.max_tree_depth, generator, in_sampling)
    except KeyboardInterrupt:
        if not int(record.count.min()):
            raise
    return tuned.step_size


def _starts(density: LogDensity, settings: ChainSettings, chains: int) -> Tensor:
    """The starting points, ``(chains, dim)``, as many of them different as there are groups."""
    groups = superchains(chains)
    if settings.starts is None:
        points = [density.initial(stream_seed(settings.seed, group)) for group in range(groups)]
    else:
        points = [torch.as_tensor(start) for start in settings.starts]
    group = [number for number, part in enumerate(np.array_split(range(chains), groups)) for _ in part]
    return torch.stack(points)[group].to(dtype=density.dtype, device=density.device)


def _first_scale(settings: ChainSettings, starts: Tensor) -> Scale | None:
    if settings.metric is None:
        return None
    if settings.metric.is_diagonal:
        factor = np.sqrt(settings.metric.variances)
    else:
        factor = np.linalg.cholesky(settings.metric.covariance())
    return Scale(torch.as_tensor(factor).to(starts))
