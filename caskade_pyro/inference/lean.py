"""One chain of nutpie's NUTS, which is written in Rust and calls the compiled density without Python."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from ..bridge.turns import in_turn_of_another
from ..density import LogDensity, Metric, NativeWhitened, Whitened
from ..errors import SamplingError
from .effective import Looks
from .progress import Progress
from .seeds import seeded, stream_seed
from .settings import Chain, ChainSettings
from .structured import metric_of_draws

__all__ = ["run_lean_chain"]

Array = np.ndarray[Any, Any]

SECONDS_BETWEEN_LOOKS = 0.05
MILLISECONDS_BETWEEN_REPORTS = 100

REPORT = "{% for c in chains %}{{ c.finished_draws }} {{ c.divergences }} {{ c.step_size }}{% endfor %}"
"""What nutpie is to report, in its language of templates: steps, divergences and the step size."""

STATS = {
    "diverging": "diverging",
    "depth": "tree_depth",
    "maxdepth_reached": "reached_max_treedepth",
    "n_steps": "n_steps",
    "logp": "lp",
    "energy": "energy",
    "mean_tree_accept": "acceptance_rate",
    "step_size": "step_size",
}
"""Statistics of nutpie, and their names in ArviZ's schema."""

EXPLORED = 4
"""One of so many steps of warm-up explores, to learn the structured metric of the rest."""

LEARNT_FROM = 0.6
"""The part of the exploring steps, the last ones, that the metric is learnt from."""


@dataclass(frozen=True)
class Stage:
    """A part of a chain.

    Attributes:
        tune: Its steps of warm-up.
        draws: Its draws.
        start: Where it starts, unconstrained ``(dim,)``.
        seed: Its seed.
        low_rank: Whether the warm-up learns the strongest correlations beside variances.
        metric: In whose coordinates it runs.
        before: How many steps the chain has made before.
    """

    tune: int
    draws: int
    start: Array
    seed: int
    low_rank: bool
    metric: Metric | None
    before: int = 0

    @property
    def explores(self) -> bool:
        """Whether it makes no draws, and is there for others to learn from."""
        return self.draws == 0


@dataclass(frozen=True)
class Steps:
    """What comes of a stage.

    Attributes:
        z: Unconstrained, those of the warm-up included, ``(steps, dim)``.
        stats: By name, one value for each step.
        gradients: Those of the log density there; none but from a stage that explores.
    """

    z: Array
    stats: dict[str, Array]
    gradients: Array


def run_lean_chain(
    density: LogDensity,
    settings: ChainSettings,
    chain: int,
    report: Callable[[Progress], None],
    stopped: Callable[[], bool],
) -> Chain:
    """Run one chain of Hoffman and Gelman's (2014) No-U-Turn sampler, in nutpie's implementation.

    Args:
        density: The density to sample.
        settings: How to run it.
        chain: The number of the chain, which makes its seed differ from the others'.
        report: Is told now and then where the chain stands.
        stopped: Is asked now and then whether to stop.

    Returns:
        The draws, fewer than asked for if it was stopped.

    Raises:
        SamplingError: The density failed.
    """
    seed = stream_seed(settings.seed, chain)
    with seeded(seed):
        if settings.starts is None:
            start = density.initial(seed).double().numpy()
        else:
            start = np.asarray(settings.starts[chain], dtype=np.float64)
        run = partial(_run_stage, density, settings, chain, report, stopped)
        # nutpie cannot go without any warm-up; it is not kept.
        whole = Stage(max(settings.tune, 1), settings.draws, start, seed, settings.adapt == "low_rank", settings.metric)
        if settings.adapt == "structured" and settings.tune >= EXPLORED:
            first = replace(whole, tune=settings.tune // EXPLORED, draws=0)
            steps = run(first)
            if len(steps.z) == first.tune:
                steps = run(_after_exploring(whole, first, steps, settings))
        else:
            steps = run(whole)
    tuning = steps.stats.pop("tuning")
    kept = np.flatnonzero(~tuning)
    step_size = float(steps.stats["step_size"][-1]) if len(tuning) else float("nan")
    draws = steps.z[kept].astype(str(density.dtype).removeprefix("torch."))
    stats = {name: value[kept] for name, value in steps.stats.items()}
    return Chain(draws, stats, step_size, len(kept) == settings.draws)


def _after_exploring(whole: Stage, first: Stage, steps: Steps, settings: ChainSettings) -> Stage:
    """The rest of a chain, in the metric that its first steps suggest."""
    learnt = slice(-max(int(LEARNT_FROM * first.tune), 1), None)
    found = metric_of_draws(settings.slots, settings.blocks, steps.z[learnt], steps.gradients[learnt], "the warm-up")
    return replace(
        whole,
        tune=whole.tune - first.tune,
        start=steps.z[-1],
        seed=stream_seed(whole.seed, 1),
        metric=found or whole.metric,
        before=first.tune,
    )


def _run_stage(
    density: LogDensity,
    settings: ChainSettings,
    chain: int,
    report: Callable[[Progress], None],
    stopped: Callable[[], bool],
    stage: Stage,
) -> Steps:
    return _Sampler(density, settings, stage, chain, report).run(stopped)


class _Sampler:
    """A sampler of nutpie at work in a thread of its own."""

    def __init__(
        self,
        density: LogDensity,
        settings: ChainSettings,
        stage: Stage,
        chain: int,
        report: Callable[[Progress], None],
    ) -> None:
        from nutpie import _lib

        self.error: Exception | None = None
        self.stage, self.chain, self.report = stage, chain, report
        self.looks = Looks()
        progress = _lib.ProgressType.template_callback(MILLISECONDS_BETWEEN_REPORTS, REPORT, 1, self._pass_on)
        make, model = self._model(_lib, density)
        self.density = density  # its buffers must outlive the thread
        self.sampler = make(_settings(_lib, settings, stage), 1, model, progress, _lib.PyStorage.arrow())

    def _model(self, lib: Any, density: LogDensity) -> tuple[Any, Any]:
        """The density in one of the two ways in which nutpie takes it: a C function, or one of Python."""
        metric = self.stage.metric
        start = self.stage.start if metric is None else metric.shrink(self.stage.start)
        dim, sizes = density.dim, {"z_dim_0": density.dim}
        variables = lib.PyVariable.new_variables(["z"], ["float64"], [(dim,)], {}, {})
        if density.native is None:
            evaluate = PythonDensity(Whitened(density, metric), self)
            model = lib.PyModel(
                lambda: evaluate,
                lambda *_: lambda z: {"z": z},
                variables,
                dim,
                dim_sizes=sizes,
                coords={},
                init_point_func=lambda _: start,
                transform_adapter=None,
            )
            return lib.PySampler.from_pyfunc, model
        native = density.native
        called: Any = native if metric is None else NativeWhitened(native, metric)
        value = lib.LogpFunc(called.address, called.data_address, called)
        copy = lib.ExpandFunc(dim, dim, native.copy_address, native.data_address, native)
        return lib.PySampler.from_pymc, lib.PyMcModel(value, copy, variables, dim, sizes, {}, lambda _: start, None)

    def _pass_on(self, text: str) -> None:
        steps, divergences, step_size = text.split()
        done = self.stage.before + int(steps)
        self.report(Progress(self.chain, done, int(divergences), float(step_size), self.looks.sizes))

    def run(self, stopped: Callable[[], bool]) -> Steps:
        """Wait for the end, or for the wish to stop; what was drawn so far."""
        try:
            while not (stopped() or self._failed() or self._finished()):
                self.looks.look(self._draws_so_far)
        except KeyboardInterrupt:
            pass
        except RuntimeError as error:
            self._raise_failure()  # which is why nutpie, too, gave up
            raise SamplingError(str(error).partition("\n\nStack backtrace")[0]) from None
        self.sampler.abort()
        self._raise_failure()
        rows, table = self._rows(self.sampler.take_results())
        stats = {name: _array(table.column(theirs)) for theirs, name in STATS.items()}
        stats["tuning"] = _array(table.column("tuning"))
        gradients = _array(table.column("gradient")).reshape(rows.shape) if self.stage.explores else rows[:0]
        metric = self.stage.metric
        if metric is not None:
            rows, gradients = metric.stretch(rows), metric.push(gradients)
        return Steps(rows, stats, gradients)

    def _rows(self, results: Any) -> tuple[Array, Any]:
        """The vectors that nutpie has drawn, and the table of its statistics."""
        (draws,), (stats,) = results.get_arrow_trace()
        return _array(draws.column("z")).reshape(draws.num_rows, self.density.dim), stats

    def _draws_so_far(self) -> Array:
        rows, stats = self._rows(self.sampler.inspect())
        kept = rows[~_array(stats.column("tuning")).astype(bool)]
        return kept if self.stage.metric is None else self.stage.metric.stretch(kept)

    def _raise_failure(self) -> None:
        if self._failed():
            raise SamplingError(f"The density failed: {self.error}") from self.error

    def _failed(self) -> bool:
        native = self.density.native
        if native is not None and native.failed:
            self.error = IndexError("an index in the simulator is out of bounds")
        return self.error is not None

    def _finished(self) -> bool:
        try:
            self.sampler.wait(SECONDS_BETWEEN_LOOKS)
        except TimeoutError:
            return False
        return True


class PythonDensity:
    """A density as nutpie calls it from Python: from a vector, the value and the gradient."""

    def __init__(self, density: Whitened, sampler: _Sampler) -> None:
        self.density, self.sampler = density, sampler

    def __call__(self, x: Array) -> tuple[float, Array]:
        """The value, and the gradient in double precision.

        After an error the density is flat: nutpie ends the process on an exception, so it is stopped from outside.
        """
        if self.sampler.error is None:
            try:
                with in_turn_of_another():  # nutpie calls from a thread of its own, while the one that began waits
                    value, gradient = self.density.value_and_grad(torch.as_tensor(x))
                return float(value), gradient.numpy()
            except Exception as error:  # noqa: BLE001 - whatever the user's simulator raises; the main thread raises it again
                self.sampler.error = error
        return 0.0, np.zeros(len(x))


def _settings(lib: Any, settings: ChainSettings, stage: Stage) -> Any:
    found = lib.PyNutsSettings.LowRank(stage.seed) if stage.low_rank else lib.PyNutsSettings.Diag(stage.seed)
    found.num_chains = 1
    found.num_tune = stage.tune
    found.num_draws = stage.draws
    found.target_accept = settings.target_accept
    found.maxdepth = settings.max_tree_depth
    found.store_gradient = stage.explores
    return found


def _array(column: Any) -> Array:
    import pyarrow as pa

    values = pa.array(column)
    values = values.flatten() if hasattr(values, "flatten") else values
    return np.array(values.to_numpy(zero_copy_only=False))
