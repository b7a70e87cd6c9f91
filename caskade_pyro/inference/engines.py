"""Which sampler runs, and on which form of the density."""

from __future__ import annotations

from importlib.util import find_spec
from warnings import warn

from ..density import LogDensity
from ..errors import MissingDependencyError, PerformanceWarning, SamplingError

__all__ = ["ENGINES", "choose_engine"]

ENGINES = ("auto", "compiled", "pyro")


def choose_engine(engine: str, density: LogDensity, vectorized: bool, stacklevel: int, told: bool = False) -> str:
    """Compile the density as far as it can be, and say who samples it: ``"nutpie"``, ``"pyro"`` or ``"vectorized"``.

    Args:
        engine: ``"auto"``: the fastest that can be had, with a warning where that is not the compiled one. ``"compiled"``:
            that or an error. ``"pyro"``: Pyro's own NUTS, on the traced density.
        density: The density.
        vectorized: Whether all chains run as one batch.
        stacklevel: Where to say that the warning comes from.
        told: Whether it was said before why the density runs as it does.

    Raises:
        SamplingError: There is no such engine, or the density cannot be compiled but has to be.
        MissingDependencyError: nutpie is not installed but has to be.
    """
    if engine not in ENGINES:
        raise SamplingError(f"There is no engine {engine!r}; choose {', '.join(map(repr, ENGINES))}.")
    if engine == "pyro":
        if vectorized:
            raise SamplingError("engine='pyro' runs one chain at a time; with vectorized=True leave engine= out.")
        return "pyro"
    density.compile()
    _tell_of_form(engine, density, vectorized, told, stacklevel + 1)
    if vectorized:
        return "vectorized"
    if find_spec("nutpie") is None:
        message = "The sampler nutpie is not installed (pip install nutpie)"
        if engine == "compiled":
            raise MissingDependencyError(f"{message}.")
        warn(PerformanceWarning(f"{message}: Pyro's NUTS runs instead, which is slower."), stacklevel=stacklevel + 1)
        return "pyro"
    return "nutpie"


def _tell_of_form(engine: str, density: LogDensity, vectorized: bool, told: bool, stacklevel: int) -> None:
    """Warn, or raise where the compiled form was asked for, if a density runs in another."""
    # Of these the batch itself warns, or they are what a batch on that device is meant to run on.
    expected = vectorized and (density.form == "eager" or density.device.type != "cpu")
    if density.eager_because is not None and not (expected and engine == "auto"):
        message = f"The density runs {density.form} instead of compiled, because {density.eager_because}"
        if engine == "compiled":
            raise SamplingError(f"{message}.")
        if not told:
            slower = f"{message}. The posterior is the same, but sampling takes longer."
            warn(PerformanceWarning(slower), stacklevel=stacklevel + 1)
    elif density.wrong_code is not None and not told:
        warn(PerformanceWarning(f"The density is compiled otherwise: {density.wrong_code}."), stacklevel=stacklevel + 1)
