"""One chain of nutpie's NUTS, which is written in Rust and calls the compiled density without Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ..density import LogDensity
from ..errors import SamplingError
from .progress import Progress
from .seeds import seeded, stream_seed
from .settings import Chain, ChainSettings

__all__ = ["run_lean_chain"]

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
        sampler = _Sampler(density, settings, seed, start, chain, report)
        rows, stats = sampler.run(stopped)
    tuning = stats.pop("tuning")
    kept = np.flatnonzero(~tuning)
    step_size = float(stats["step_size"][-1]) if len(tuning) else float("nan")
    draws = rows[kept].astype(str(density.dtype).removeprefix("torch."))
    return Chain(draws, {name: value[kept] for name, value in stats.items()}, step_size, len(kept) == settings.draws)


class _Sampler:
    """A sampler of nutpie at work in a thread of its own."""

    def __init__(
        self,
        density: LogDensity,
        settings: ChainSettings,
        seed: int,
        start: np.ndarray[Any, Any],
        chain: int,
        report: Callable[[Progress], None],
    ) -> None:
        from nutpie import _lib

        self.error: Exception | None = None
        self.chain, self.report = chain, report
        progress = _lib.ProgressType.template_callback(MILLISECONDS_BETWEEN_REPORTS, REPORT, 1, self._pass_on)
        make, model = self._model(_lib, density, start)
        self.density = density  # its buffers must outlive the thread
        self.sampler = make(_settings(_lib, settings, seed), 1, model, progress, _lib.PyStorage.arrow())

    def _model(self, lib: Any, density: LogDensity, start: np.ndarray[Any, Any]) -> tuple[Any, Any]:
        """The density in one of the two ways in which nutpie takes it: a C function, or one of Python."""
        dim, sizes = density.dim, {"z_dim_0": density.dim}
        variables = lib.PyVariable.new_variables(["z"], ["float64"], [(dim,)], {}, {})
        if density.native is None:
            evaluate = PythonDensity(density, self)
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
        value = lib.LogpFunc(native.address, native.buffers_address, native)
        copy = lib.ExpandFunc(dim, dim, native.copy_address, native.buffers_address, native)
        return lib.PySampler.from_pymc, lib.PyMcModel(value, copy, variables, dim, sizes, {}, lambda _: start, None)

    def _pass_on(self, text: str) -> None:
        steps, divergences, step_size = text.split()
        self.report(Progress(self.chain, int(steps), int(divergences), float(step_size)))

    def run(self, stopped: Callable[[], bool]) -> tuple[np.ndarray[Any, Any], dict[str, np.ndarray[Any, Any]]]:
        """Wait for the end, or for the wish to stop; the rows drawn so far and their statistics."""
        try:
            while not (stopped() or self._failed() or self._finished()):
                pass
        except KeyboardInterrupt:
            pass
        except RuntimeError as error:
            self._raise_failure()  # which is why nutpie, too, gave up
            raise SamplingError(str(error).partition("\n\nStack backtrace")[0]) from None
        self.sampler.abort()
        self._raise_failure()
        (draws,), (stats,) = self.sampler.take_results().get_arrow_trace()
        rows = _array(draws.column("z")).reshape(draws.num_rows, -1)
        found = {name: _array(stats.column(theirs)) for theirs, name in STATS.items()}
        return rows, {**found, "tuning": _array(stats.column("tuning"))}

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

    def __init__(self, density: LogDensity, sampler: _Sampler) -> None:
        self.density, self.sampler = density, sampler

    def __call__(self, x: np.ndarray[Any, Any]) -> tuple[float, np.ndarray[Any, Any]]:
        """The value, and the gradient in double precision.

        After an error the density is flat: nutpie ends the process on an exception, so it is stopped from outside.
        """
        if self.sampler.error is None:
            try:
                value, gradient = self.density.value_and_grad(torch.as_tensor(x).to(self.density.dtype))
                return float(value), gradient.double().numpy()
            except Exception as error:  # noqa: BLE001 - whatever the user's simulator raises; the main thread raises it again
                self.sampler.error = error
        return 0.0, np.zeros(len(x))


def _settings(lib: Any, settings: ChainSettings, seed: int) -> Any:
    found = lib.PyNutsSettings.LowRank(seed) if settings.low_rank else lib.PyNutsSettings.Diag(seed)
    found.num_chains = 1
    found.num_tune = max(settings.tune, 1)  # nutpie cannot go without any; it is not kept
    found.num_draws = settings.draws
    found.target_accept = settings.target_accept
    found.maxdepth = settings.max_tree_depth
    return found


def _array(column: Any) -> np.ndarray[Any, Any]:
    import pyarrow as pa

    values = pa.array(column)
    values = values.flatten() if hasattr(values, "flatten") else values
    return np.array(values.to_numpy(zero_copy_only=False))
