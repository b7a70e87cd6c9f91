"""The steps of a variational fit: Pyro's own, or compiled ones that compute the same."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, Protocol
from warnings import warn

import torch
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO
from pyro.infer.autoguide import AutoGuide
from pyro.optim import ClippedAdam, clipped_adam
from torch import Tensor

from ..bridge.bound import BoundModel
from ..bridge.randomness import own_numbers
from ..bridge.reparametrise import NonCentered
from ..compiler import Program, load_native, trace_program
from ..density import LogDensity
from ..density.agreement import disagreement
from ..density.closeness import close, first_line
from ..density.log_density import OURS
from ..errors import CompilationError, PerformanceWarning, SamplingError
from .engines import ENGINES
from .flat_guide import FlatGuide, make_flat_guide
from .minibatch import minibatch_steps
from .trusted import POINTS, distrusted

__all__ = ["UNTRACEABLE", "CompiledElbo", "PyroSteps", "Steps", "density_for", "make_steps", "pyros_elbo"]

NEAR = (0.0, 0.01, -0.01)
"""Where, beside the params that a guide starts with, its compiled loss is compared with Pyro's."""

UNTRACEABLE = (RuntimeError, NotImplementedError, TypeError, ValueError, CompilationError)
"""What tracing raises where a guide branches on a value, or holds what has no tensor operations."""


class Steps(Protocol):
    """Takes the steps of a fit."""

    form: str
    guide_is_wrong: bool

    def step(self) -> float:
        """Take one, and say the loss before it."""

    def finish(self) -> None:
        """Leave the params of the guide in Pyro's param store."""

    def distrust(self, stacklevel: int) -> bool:
        """Whether the steps were wrong, which is then said, and have to be taken again on what is right from now on."""


def density_for(
    bound: BoundModel, guide: Any, noncentered: NonCentered, engine: str, stacklevel: int
) -> LogDensity | None:
    """The compiled density that a fit runs on; None where it is to run on Pyro's SVI.

    Args:
        bound: The model.
        guide: The guide.
        noncentered: Which sites the guide describes as offsets.
        engine: ``"auto"``, ``"compiled"`` or ``"pyro"``.
        stacklevel: Where to say that a warning comes from.

    Raises:
        SamplingError: There is no such engine, or the step cannot be compiled but has to be.
    """
    if engine not in ENGINES:
        raise SamplingError(f"There is no engine {engine!r}; choose {', '.join(map(repr, ENGINES))}.")
    if engine == "compiled" and bound.subsample_size:
        raise SamplingError(
            f"The plates {', '.join(bound.subsample_size)} are subsampled, and a compiled step sees the same members each "
            "time. Take engine='auto', or bind without subsample_size=."
        )
    if engine == "pyro" or bound.subsample_size:
        return None
    if not isinstance(guide, AutoGuide):
        _tell(engine, f"the guide {_name(guide)} cannot be traced: it is no AutoGuide", stacklevel + 1)
        return None
    density = LogDensity(bound, noncentered).compile()
    if density.wrong_code is not None and density.form == "compiled":
        message = f"The density is compiled otherwise: {density.wrong_code}."
        warn(PerformanceWarning(message), stacklevel=stacklevel + 1)
    if density.eager_because is not None:
        _tell(engine, f"the density runs {density.form}, because {density.eager_because}", stacklevel + 1)
    return None if density.form == "eager" else density


def make_steps(
    bound: BoundModel,
    guide: Any,
    model: Any,
    noncentered: NonCentered,
    density: LogDensity | None,
    settings: dict[str, float],
    particles: int,
    engine: str,
    stacklevel: int,
    traced: bool = False,
) -> Steps:
    """The steps of a fit, compiled where there is a density to compile them on.

    Args:
        bound: The model with its data.
        guide: The guide, which has run before.
        model: What it is a guide of: the reparametrised model.
        noncentered: Which sites it describes as offsets.
        density: The density of that.
        settings: Of the optimiser.
        particles: How many draws estimate the gradient of each step.
        engine: ``"auto"``, ``"compiled"`` or ``"pyro"``.
        stacklevel: Where to say that a warning comes from.
        traced: Whether the guide is not to be compiled.

    Raises:
        SamplingError: The guide cannot be compiled but has to be.
    """
    if density is not None:
        try:
            elbo = CompiledElbo(make_flat_guide(guide, density.flat), density, traced)
            elbo.check(model, pyros_elbo(bound, 1))
        except (*UNTRACEABLE, LookupError) as error:
            _tell(engine, f"the guide {type(guide).__name__} cannot be traced: {first_line(error)}", stacklevel + 1)
        else:
            return CompiledSteps(elbo, settings, particles)
    if bound.subsample_size and engine == "auto":
        try:
            return minibatch_steps(bound, guide, model, noncentered, settings, particles)
        except UNTRACEABLE:  # Pyro's own steps are right as well, where every member is seen often
            pass
    return PyroSteps(SVI(model, guide, ClippedAdam(settings), pyros_elbo(bound, particles)))


def pyros_elbo(bound: BoundModel, particles: int) -> Any:
    """Pyro's estimate of the ELBO, discrete sites summed out."""
    if not bound.has_discrete:
        return Trace_ELBO(num_particles=particles)
    return TraceEnum_ELBO(num_particles=particles, max_plate_nesting=bound.plan.nesting)


class PyroSteps:
    """Pyro's own."""

    form = "pyro"
    guide_is_wrong = False

    def __init__(self, svi: SVI) -> None:
        self.svi = svi

    def step(self) -> float:
        """Take one, and say the loss before it."""
        return float(self.svi.step())

    def finish(self) -> None:
        """The param store is where Pyro works."""

    def distrust(self, stacklevel: int) -> bool:  # noqa: ARG002 - as of other steps
        """They are the measure of the others."""
        return False


class CompiledElbo:
    """The negative ELBO of one draw from a guide, and its gradient in the guide's params.

    The draw comes of the guide's program, with weights of zero; the density and its gradient there of the density; and with
    that gradient as weights, the guide's program gives the gradient in its params.

    Args:
        guide: The guide.
        density: The density of the model that it is a guide of.
        traced: Whether the guide runs as it was traced, since its compiled form was found wrong.

    Raises:
        CompilationError: The guide is not the same each time; or one of `UNTRACEABLE`.
    """

    def __init__(self, guide: FlatGuide, density: LogDensity, traced: bool = False) -> None:
        self.guide, self.density = guide, density
        params, noise, _ = guide.sizes
        self.vector = torch.zeros(sum(guide.sizes), dtype=guide.dtype)
        self.params, self.noise, self.weights = self.vector.split(guide.sizes)
        self.params.copy_(guide.params())
        self.drawn = slice(params + noise, None)
        self.program = trace_program(guide.pulled, self.vector)
        self.run = self.program.run if traced else _fast(self.program)

    def loss_and_gradient(self) -> tuple[float, Tensor]:
        """The loss and its gradient at the params and the noise."""
        self.weights.zero_()
        surprise, found = self.run(self.vector)
        value, gradient = self.density.value_and_grad(found[self.drawn])
        self.weights.copy_(gradient)
        _, found = self.run(self.vector)
        return -(surprise + value).item(), -found[: len(self.params)]

    def check(self, model: Any, elbo: Any) -> None:
        """Compare with Pyro at and beside the params.

        Raises:
            CompilationError: They differ.
        """
        start = self.params.clone()
        with own_numbers(0), warnings.catch_warnings(action="ignore"):
            for shift in NEAR:
                self.guide.draw(self.noise)
                self.params.copy_(start + shift)
                self.guide.keep(self.params)
                loss, gradient = self.loss_and_gradient()
                expected, slope = self.guide.by_pyro(model, elbo, self.noise)
                if not math.isfinite(expected):
                    continue  # the guide may be too far off there for Pyro's arithmetic
                same = close(torch.tensor(loss), torch.tensor(expected))
                if not (same and close(gradient, slope, self.density.partly_single)):
                    raise CompilationError("its compiled form differs from Pyro's own loss")
        self.params.copy_(start)
        self.guide.keep(start)


class CompiledSteps:
    """Steps of Pyro's optimiser on the vector of all params at once.

    Attributes:
        form: That of the density.
        guide_is_wrong: Whether the code of the guide was found to be wrong.
    """

    guide_is_wrong = False

    def __init__(self, elbo: CompiledElbo, settings: dict[str, float], particles: int) -> None:
        self.elbo, self.particles = elbo, particles
        self.optimiser = clipped_adam.ClippedAdam([elbo.params], lr=settings["lr"], lrd=settings["lrd"])
        self.form = elbo.density.form

    def step(self) -> float:
        """Take one, and say the loss before it."""
        loss, gradient = 0.0, torch.zeros_like(self.elbo.params)
        with torch.no_grad():
            for _ in range(self.particles):
                self.elbo.guide.draw(self.elbo.noise)
                one, slope = self.elbo.loss_and_gradient()
                loss += one / self.particles
                gradient += slope / self.particles
            if math.isfinite(loss):  # otherwise the guide stays where it can still be asked why
                self.elbo.params.grad = gradient
                self.optimiser.step()
        return loss

    def finish(self) -> None:
        """Leave the params of the guide in Pyro's param store."""
        self.elbo.guide.keep(self.elbo.params)

    def distrust(self, stacklevel: int) -> bool:
        """Compare the guide's code and the density's with what they were traced to, at draws from the guide."""
        elbo = self.elbo
        vectors, draws = [], []
        with own_numbers(0):
            for _ in range(POINTS):
                elbo.guide.draw(elbo.noise)
                elbo.weights.zero_()
                draws.append(elbo.program.run(elbo.vector)[1][elbo.drawn])
                vectors.append(elbo.vector.clone())
        wrong = disagreement(elbo.run, elbo.program.run, torch.stack(vectors), elbo.program) is not None
        if wrong:
            self.guide_is_wrong = True
            message = f"The fit is done again with the guide as it was traced: the code of the guide differs, {OURS}."
            warn(PerformanceWarning(message), stacklevel=stacklevel + 1)
            return True
        return distrusted(elbo.density, torch.stack(draws)[None].numpy(), stacklevel + 1)


def _fast(program: Program) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Compiled where that is soon done: large guides are a little arithmetic on large tensors, and fast enough as traced."""
    try:
        return load_native(program).run
    except CompilationError:
        return program.run


def _name(guide: Any) -> str:
    written = getattr(guide, "func", guide)  # with its inputs filled in
    return str(getattr(written, "__name__", type(written).__name__))


def _tell(engine: str, because: str, stacklevel: int) -> None:
    if engine == "compiled":
        raise SamplingError(f"The fit cannot be compiled: {because}.")
    message = f"The fit is not compiled, because {because}. It is the same, but slower."
    warn(PerformanceWarning(message), stacklevel=stacklevel + 1)
