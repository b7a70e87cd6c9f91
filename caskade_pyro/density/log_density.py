"""The log density of a bound model over one flat, unconstrained vector, in the fastest form that can be had."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from warnings import warn

import torch
from torch import Tensor

from ..bridge import BoundModel, check_bound
from ..bridge.enumeration import check_enumerable
from ..bridge.reparametrise import NonCentered
from ..bridge.turns import in_turn
from ..compiler import Native, Program, or_impossible, trace_program
from ..errors import CompilationError, PerformanceWarning, SamplingError
from ..graph.plates.batching import all_at_once
from .agreement import disagreement
from .batched import Batched, FixedRows, Looped, NativeRows, Vmapped, map_disagreement
from .closeness import first_line
from .compiled import BACKENDS, Compiled
from .constrain import to_user_params
from .differentiable import OfVector
from .flat import Flat, Slot, make_flat
from .lines import users_line
from .of_model import check_slopes, disagreement_with_model, gradient_of_model
from .starts import find_start, prior_points
from .unconstrain import check_values, to_sampled_values

__all__ = ["BESIDE", "LogDensity"]

ValueAndGradient = tuple[Tensor, Tensor]

BESIDE = (0.0, 0.1, -0.2)
"""Where, beside the starting point, the forms of a density are compared."""

FROM_PRIORS = 4
"""At how many draws from the priors they are, too."""

MOST_SECONDS = 1.0
"""How long a traced form may be compared with the model itself, which takes much longer, after a run."""

OURS = "which is a bug of caskade_pyro and not of the model: please report the model"


class LogDensity:
    """The log density of a bound model, with its gradient, over a flat vector of unconstrained params.

    It is that of the Pyro model itself, with the Jacobians of the transforms, run once and written down as a graph of tensor
    operations; `compile` makes machine code of the graph. Each form is compared with the model at and beside a starting
    point, and a form that cannot be had is replaced by the next slower one.

    Values of static params, the data and the links are those at the time of construction.

    Args:
        bound: The model with its data.
        noncentered: Which sites are offsets from their population: ``"auto"`` (nearly),
            ``"offsets"`` (wholly) where the graph says it pays; True, False or names.

    Raises:
        SamplingError: The model has no continuous latent site, or no point of finite density was found.

    Example:
        >>> import caskade_pyro as ck, pyro.distributions as dist, torch
        >>> class Mean(ck.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.mu = ck.Param("mu", prior=dist.Normal(0.0, 1.0))
        ...         self.sigma = ck.Param("sigma", prior=dist.HalfNormal(1.0))
        ...
        ...     @ck.forward
        ...     def data(self, mu, sigma):
        ...         return dist.Normal(mu, sigma)
        >>> density = ck.LogDensity(ck.PyroModel(Mean().data).bind(obs=torch.tensor([0.9, 1.1])))
        >>> density.names, density.dim
        (('mu', 'sigma'), 2)
        >>> value, gradient = density.value_and_grad(torch.zeros(2))
        >>> round(value.item(), 3), gradient
        (-4.493, tensor([2.0000, 0.0200]))
        >>> density.constrain(torch.zeros(2))
        {'mu': tensor(0.), 'sigma': tensor(1.)}
    """

    def __init__(self, bound: BoundModel, noncentered: NonCentered = "auto") -> None:
        check_bound(bound, "ck.LogDensity")
        self.bound, self.noncentered = bound, noncentered
        with in_turn():
            self._prepare()

    def _prepare(self) -> None:
        bound, noncentered = self.bound, self.noncentered
        check_enumerable(bound)
        self._flat = make_flat(bound.noncentered(noncentered))
        if self._flat.dim == 0:
            raise SamplingError(f"{bound!r} has no continuous param to sample.")
        self._program: Program | None = None
        self._compiled: Compiled | None = None
        self._backends = list(BACKENDS)
        self._wrong: str | None = None
        self._eager_because: str | None = None
        self._looped_because: str | None = None
        self._mapped = self._told = False
        self._start = find_start(self._flat, self._eager, seed=0)
        try:
            with all_at_once():
                program = trace_program(self._flat.log_density, self._start)
        except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
            # make_fx raises these where the model branches on a value, or holds what has no tensor operations.
            self._eager_because = f"it cannot be traced: {first_line(error)}{users_line(error)}"
        else:
            self._eager_because = self._of_traced(program, self._beside())
            self._program = None if self._eager_because else program
        check_slopes(self._one, self._start, self._flat.slots, self.partly_single)

    @property
    def flat(self) -> Flat:
        """The model as a function of the vector, in Pyro's own terms."""
        return self._flat

    @property
    def dim(self) -> int:
        """The length of the vector."""
        return self._flat.dim

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the vector: double where any of the priors, inputs or data are."""
        return self._start.dtype

    @property
    def partly_single(self) -> bool:
        """Whether some of the density is, or may be, computed in single precision."""
        return self.dtype != torch.float64 or self._program is None or self._program.single

    @property
    def device(self) -> torch.device:
        """Where the vector lies: with the model's tensors."""
        return self._start.device

    @property
    def names(self) -> tuple[str, ...]:
        """The sampled sites, in the order of the vector; non-centred ones are ``{site}_decentered``."""
        return tuple(self._flat.slots)

    @property
    def slices(self) -> Mapping[str, Slot]:
        """By sampled site, its slice of the vector and its unconstrained shape."""
        return MappingProxyType(dict(self._flat.slots))

    @property
    def form(self) -> str:
        """What runs: ``"compiled"``, ``"traced"`` or ``"eager"``."""
        if self._compiled is not None:
            return "compiled"
        return "eager" if self._program is None else "traced"

    @property
    def eager_because(self) -> str | None:
        """Why a faster form was not to be had, in one line; None if none was missed."""
        return self._eager_because

    def initial(self, seed: int = 0, values: Mapping[str, Tensor] | None = None) -> Tensor:
        """A starting point of finite density, of shape ``(dim,)``.

        Args:
            seed: The same seed gives the same point.
            values: Values of sampled sites to start at, those that are known; the others start near their priors' medians.

        Raises:
            SamplingError: No finite point was found.
        """
        with in_turn():
            return find_start(self._flat, self._one, seed, values)

    def value(self, z: Tensor, chunk_size: int | None = None) -> Tensor:
        """The log density at a vector ``(dim,)``, or at each of ``(n, dim)``, as in `value_and_grad`."""
        return self._run(z, chunk_size)[0]

    def value_and_grad(self, z: Tensor, chunk_size: int | None = None) -> ValueAndGradient:
        """The log density and its gradient at a vector ``(dim,)``, or at each of ``(n, dim)`` in one call.

        Args:
            z: One vector, or many.
            chunk_size: How many vectors at once in the traced form, which bounds its memory; all by default. The compiled
                form needs the memory of one.

        Returns:
            A scalar and ``(dim,)``; or ``(n,)`` and ``(n, dim)``. A density that can only run at one vector, as one that
            branches on values, runs at one after the other, and a `PerformanceWarning` says so once.

        Raises:
            SamplingError: The vector has another length, or ``chunk_size`` is not positive.
        """
        return self._run(z, chunk_size)

    def at_once(self, rows: int | None = None, chunk_size: int | None = None, stacklevel: int = 1) -> Batched:
        """The density at many vectors at once, as it is now; for samplers.

        Args:
            rows: How many they will be at each of many calls, so that it pays to prepare for them; None for few calls.
            chunk_size: As in `value_and_grad`.
            stacklevel: Where to say that a warning comes from.

        Raises:
            SamplingError: ``chunk_size`` is not positive.
        """
        if chunk_size is not None and chunk_size < 1:
            raise SamplingError(f"chunk_size must be at least 1, not {chunk_size}.")
        if isinstance(self._compiled, Native):
            return NativeRows(self._compiled)
        if self._program is not None and self._looped_because is None:
            if not self._mapped:
                self._looped_because = map_disagreement(self._program, self._beside())
                self._mapped = self._looped_because is None
            if self._mapped and rows is not None:
                # The processor's code is `native`'s; where that cannot be had, neither can torch's.
                return FixedRows(self._program, min(rows, chunk_size or rows), compiled=self.device.type != "cpu")
            if self._mapped:
                return Vmapped(self._program, chunk_size)
        if not self._told:
            self._told = True
            message = (
                f"The density runs at one vector after the other, because {self._looped_because or self._eager_because}"
            )
            warn(PerformanceWarning(message), stacklevel=stacklevel + 1)
        return Looped(self._one)

    def constrain(self, z: Tensor) -> dict[str, Tensor]:
        """The params of each site, as the user has them.

        Args:
            z: ``(dim,)``, or ``(n, dim)``.

        Returns:
            By site, ``(*plates, *shape)``, with ``n`` in front where it is there.
        """
        rows = z if z.ndim == 2 else z[None]
        with in_turn():
            params = to_user_params(self.bound, self.sampled(rows), self.noncentered)
        return params if z.ndim == 2 else {name: value[0] for name, value in params.items()}

    def sampled(self, z: Tensor) -> dict[str, Tensor]:
        """The values of the sampled sites, offsets included, at each of the vectors ``(n, dim)``."""
        with in_turn():
            return self._flat.sampled(z)

    def from_sampled(self, values: Mapping[str, Tensor]) -> Tensor:
        """The vectors ``(n, dim)`` at which the sampled sites have these values, ``n`` of each."""
        with in_turn():
            return self._flat.from_sampled(values)

    def sampled_values(self, values: Mapping[str, Any]) -> dict[str, Tensor]:
        """Values of the user's params as values of the sites that are sampled, as far as they are given."""
        with in_turn():
            return to_sampled_values(self.bound, values, self.noncentered)

    def check_values(self, values: Mapping[str, Any], what: str = "The value") -> None:
        """Check that values of the user's params are numbers in the support of their priors.

        Args:
            values: By site; some may be missing.
            what: How they were given, for messages.

        Raises:
            SamplingError: They are not.
        """
        with in_turn():
            check_values(self.bound, values, what)

    def unconstrain(self, values: Mapping[str, Any]) -> Tensor:
        """The vector ``(dim,)`` that gives the params these values.

        Args:
            values: By site of the model, ``(*plates, *shape)``.

        Raises:
            SamplingError: A site is missing, or a value is outside of its support.
        """
        self.check_values(values)
        return self._unconstrain(values)

    def _unconstrain(self, values: Mapping[str, Any]) -> Tensor:
        given = self.sampled_values(values)
        missing = [name for name in self.names if name not in given]
        if missing:
            raise SamplingError(f"No values are given for {', '.join(missing)}; the sites are {', '.join(self.names)}.")
        with in_turn():
            z = self._flat.at_values(given)
        if not bool(torch.isfinite(z).all()):
            bad = [name for name, slot in self._flat.slots.items() if not bool(torch.isfinite(slot.of(z)).all())]
            raise SamplingError(
                f"The values of {', '.join(bad)} lie outside of the support of their priors, or on its edge."
            )
        return z

    def unconstrain_draws(self, draws: Mapping[str, Tensor]) -> Tensor:
        """The vectors ``(n, dim)`` that give the params the values of ``n`` draws.

        Args:
            draws: By site of the model, ``(n, *plates, *shape)``.
        """
        count = len(next(iter(draws.values())))
        return torch.stack([self._unconstrain({name: value[i] for name, value in draws.items()}) for i in range(count)])

    def compile(self) -> LogDensity:
        """Make machine code of the density, or take it from the cache of earlier runs.

        Returns:
            This density, compiled where that was possible; otherwise `eager_because` says why not.
        """
        if self._compiled is None and self._program is not None and self._backends:
            self._eager_because = self._compile_by_one(self._program)
        return self

    def _compile_by_one(self, program: Program) -> str | None:
        """Why nobody can make code of a program, or None after the first who can; those who cannot are not asked again."""
        points = torch.cat([self._beside(), prior_points(self._flat, FROM_PRIORS)])
        because = self._wrong
        while self._backends:
            maker = self._backends[0]
            try:
                compiled = BACKENDS[maker](program)
            except CompilationError as error:
                because = self._wrong or f"it cannot be compiled: {error}"
            else:
                if disagreement(compiled.run, program.run, points, program) is None:
                    self._compiled = compiled
                    return None
                because = self._wrong = f"the code that {maker} differs from the traced form, {OURS}"
            self._backends.pop(0)
        return because

    def distrust(self, draws: Tensor) -> str | None:
        """Compare the form that runs with the next slower one at draws of a posterior, and leave it where they differ.

        Args:
            draws: Some vectors ``(n, dim)``.

        Returns:
            What was found, in one line, where the form was wrong: the density runs in the next one from now on, and what
            was computed has to be computed again. None where it was right.
        """
        if self._program is None:
            return None
        draws = draws.to(dtype=self.dtype, device=self.device)
        if self._compiled is not None:
            if disagreement(self._compiled.run, self._program.run, draws, self._program) is None:
                return None
            wrong = (
                f"the code that {self._backends.pop(0)} differs from the traced form at draws of the posterior, {OURS}"
            )
            self._compiled, self._wrong = None, wrong
            self._eager_because = self._compile_by_one(self._program)
        else:
            found = self._of_traced(self._program, draws, MOST_SECONDS)
            if found is None:
                return None
            wrong = found
            self._program, self._eager_because = None, wrong
        return wrong

    @property
    def wrong_code(self) -> str | None:
        """Which code was found wrong and is not used, in one line; None if none was."""
        return self._wrong

    @property
    def native(self) -> Native | None:
        """The compiled code, for samplers that call it without Python; None where there is none."""
        return self._compiled if isinstance(self._compiled, Native) else None

    def potential(self, params: Mapping[str, Tensor]) -> Tensor:
        """Minus the log density of unconstrained values by sampled site, differentiable; for Pyro's samplers."""
        z = torch.cat([params[name].reshape(-1) for name in self.names])
        return -OfVector.apply(z, self)  # type: ignore[no-any-return,no-untyped-call]

    def _run(self, z: Tensor, chunk_size: int | None) -> ValueAndGradient:
        if z.shape[-1:] != (self.dim,) or z.ndim > 2:
            raise SamplingError(f"Expected a vector of shape ({self.dim},) or (n, {self.dim}); got {tuple(z.shape)}.")
        z = z.to(self.dtype)
        return self._one(z) if z.ndim == 1 else self.at_once(None, chunk_size, stacklevel=3).run(z)

    def _one(self, z: Tensor) -> ValueAndGradient:
        if self._compiled is not None:
            return self._compiled.run(z)
        if self._program is not None:
            with torch.no_grad():
                return self._program.run(z)
        return self._eager(z)

    def _eager(self, z: Tensor) -> ValueAndGradient:
        with in_turn():
            return or_impossible(functools.partial(gradient_of_model, self._flat.log_density), z)

    def _of_traced(self, program: Program, points: Tensor, seconds: float = math.inf) -> str | None:
        return disagreement_with_model(program, self._eager, points, seconds)

    def _beside(self) -> Tensor:
        """Points at which forms are compared, ``(n, dim)``."""
        return torch.stack([self._start + shift for shift in BESIDE])

    def __reduce__(self) -> Any:
        return _rebuild, (self.bound, self.noncentered, self.form == "compiled")

    def __repr__(self) -> str:
        return f"LogDensity({self.bound!r}, dim={self.dim}, {self.form})"


def _rebuild(bound: BoundModel, noncentered: NonCentered, compiled: bool) -> LogDensity:
    density = LogDensity(bound, noncentered)
    return density.compile() if compiled else density
