"""One run of a model: its sites, its simulator, what it reports, and its observations."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from enum import Enum, auto
from typing import Any

import pyro
from pyro.ops.provenance import detach_provenance
from pyro.poutine.runtime import Message, apply_stack
from torch import Tensor

from ..errors import ModelError, ObservationError, PlateError, PriorError
from ..graph.nodes.shapes import Shape, broadcast_shapes, show
from ..graph.plates.distributions import map_batch
from ..graph.plates.subsample import Picks, picked_constants
from .circles import on_circle
from .data import Data
from .distributions import to_pyro
from .multinomial import with_totals_of
from .observations import ROWS, Observation, align, of_present
from .plan import Plan, Reported, Site
from .plates import SitePlates
from .priors import site_distribution
from .reported import computed
from .simulate import Outcome, Simulator, Values, pointer_values, simulate
from .summed import SummedDims

__all__ = ["Role", "Run"]


class Role(Enum):
    """What becomes of the data in a run.

    Attributes:
        MODEL: They are observed; data sets without data are sampled, as in any model of Pyro.
        DENSITY: They are observed; data sets without data are left out, whose likelihood integrates to one.
        PREDICTION: All are sampled, in the shapes of those that are given.
    """

    MODEL = auto()
    DENSITY = auto()
    PREDICTION = auto()


class Run:
    """One run of a model, under whatever handlers of Pyro are at work.

    Values are kept at Pyro's dims: those of the run in front (particles that run side by side, discrete sites that are
    enumerated), then as many as the plates of the model take, then the param's own.

    Args:
        plan: What is known of the model; where plates are subsampled, of the members that this run sees.
        plates: Pyro's plates by name.
        picks: The members that the run sees of plates that are subsampled.
    """

    def __init__(self, plan: Plan, plates: Mapping[str, Any], picks: Picks) -> None:
        self.plan, self.plates, self.picks = plan, plates, picks
        self.drawn: dict[Any, tuple[Site, Tensor]] = {}
        self.batch: Shape = ()
        self.summed = SummedDims()

    # Sites

    def sample(self) -> None:
        """Sample every param in its plates."""
        outer = _plates_around()
        for site in self.plan.sites:
            drawn = self._in_plates(site.plates.names, site.name, self._distribution(site), None)
            run = self._run_dims(site, drawn, outer)
            if run:
                drawn = _filled(drawn, len(run), self.plan.depth, len(site.shape))
                self.batch = broadcast_shapes(self.batch, run)
            if site.discrete and len(run) > outer:
                self.summed.add(site, run)
            self.drawn[site.source.placement.param] = site, drawn

    def _distribution(self, site: Site) -> Any:
        if site.constant is None or self.picks.indices.keys() & set(site.plates.names):
            prior = site.source.prior
            built = site_distribution(site.name, prior, site.fit, site.plates, self._argument, self.picks)
            batch = tuple(built.batch_shape)
            self.summed.check(site.name, site.plates.names, batch[: max(0, len(batch) - self.plan.depth)])
            return on_circle(built, site.circle)
        return site.constant

    def _argument(self, param: Any) -> tuple[Tensor, int]:
        """The value of a param among a prior's arguments at Pyro's dims, and how many dims these are."""
        if param in self.drawn:
            site, drawn = self.drawn[param]
            return drawn, drawn.ndim - len(site.shape)
        layout = self.plan.layout
        if param.pointer:
            value, names = pointer_values(layout, self.values(), param, self.batch)
            value = self.summed.without_idle(value, len(self.batch))
            spread = self._spread(value, self._site_plates(names))
            return spread, spread.ndim - (value.ndim - len(names) - len(self.batch))
        placement = layout.placement(param)
        stored = layout.held(param)
        if stored is None:
            raise PriorError(f"Param {placement.site} is an argument of a prior, but has no value.")
        names = placement.plates
        full = tuple(self.picks.sizes.get(name, layout.plate(name).size or 1) for name in names)
        return self._site_plates(names).spread(stored.reshape(full + placement.shape), len(names), self.picks)

    def _site_plates(self, names: tuple[str, ...]) -> SitePlates:
        return SitePlates(names, self.plan.layout.sizes(names), tuple(self.plan.dims[name] for name in names))

    def _run_dims(self, site: Site, drawn: Tensor, outer: int) -> Shape:
        """The dims of a draw in front of those of the model's plates."""
        dims = drawn.ndim - len(site.shape)
        if dims > self.plan.depth:
            return tuple(drawn.shape[: dims - self.plan.depth])
        # Pyro's Predictive gives vectors without room for the plates that they do not lie in.
        if outer and dims >= outer + len(site.plates.batch_shape):
            return tuple(drawn.shape[:outer])
        return ()

    def values(self) -> Values:
        """What was drawn so far in the shapes that the graph wants, the same number of dims of the run in front."""
        found: Values = {}
        for param, (site, drawn) in self.drawn.items():
            dims = drawn.ndim - len(site.shape)
            run = tuple(drawn.shape[: max(0, dims - self.plan.depth)])
            batch = site.plates.padded(self.plan.depth if run else max(dims, len(site.plates.batch_shape)))
            front = (1,) * (len(self.batch) - len(run)) + run
            bare = detach_provenance(drawn)  # a vmap would lose it; the guard tells it to what is computed
            try:
                found[param] = bare.expand(run + batch + site.shape).reshape(front + site.value_shape)
            except RuntimeError:
                raise ModelError(
                    f"Site {site.name} has a value of shape {show(drawn.shape)} where {show(run + batch + site.shape)} is "
                    "expected: the sizes of its plates, then the param's own shape."
                ) from None
        return found

    # The simulator

    def simulate(self, simulator: Simulator) -> Outcome:
        """Run the simulator on what was drawn."""
        values = self.values()
        for param, constant in picked_constants(self.plan.layout, self.picks).items():
            values[param] = constant.reshape((1,) * len(self.batch) + tuple(constant.shape))
        wanted = tuple(one.param for one in self.plan.reported)
        try:
            return simulate(
                self.plan.layout, simulator, values, self.batch, lambda evaluation: computed(evaluation, wanted)
            )
        except (RuntimeError, ValueError) as error:
            if "size" not in str(error) or not self.picks.indices:
                raise
            names = ", ".join(self.picks.indices)
            raise PlateError(
                f"{simulator.name} cannot take some members of plate {names} alone: {error}. {ROWS}"
            ) from error

    def report(self, values: Values) -> None:
        """Show Pyro what pointers and live params computed, as deterministic sites.

        Where discrete sites are summed out nothing is shown: a pointer that looks at all members of a plate would tie them.
        """
        if self.summed:
            return
        for one in self.plan.reported:
            if one.param in values:
                self._report(one, values[one.param])

    def report_pointers(self, names: Collection[str] | None = None) -> None:
        """As `report`, for what can be computed without the simulator; of these names, or all of it."""
        if self.summed:
            return
        values = self.values()
        for one in self.plan.reported:
            if not one.from_simulator and (names is None or one.name in names):
                self._report(one, pointer_values(self.plan.layout, values, one.param, self.batch)[0])

    def _report(self, one: Reported, value: Tensor) -> None:
        with ExitStack() as stack:
            for name in one.plates.names:
                stack.enter_context(self.plates[name])
            pyro.deterministic(one.name, self._spread(value, one.plates), event_dim=len(one.shape))

    def _spread(self, value: Tensor, plates: SitePlates) -> Tensor:
        """A value with dims of the run, then those of some plates in front, brought to Pyro's dims."""
        run = len(self.batch)
        own = tuple(value.shape[run + len(plates.names) :])
        return value.reshape(
            tuple(value.shape[:run]) + (plates.padded(self.plan.depth) if run else plates.batch_shape) + own
        )

    # Observations

    def observe(self, predicted: Mapping[str, Any], data: Mapping[str, Data], role: Role) -> None:
        """Set the data against what is predicted; what has none is sampled, or left out.

        Args:
            predicted: The distributions of the data, by name.
            data: The data, by name.
            role: What becomes of the data.

        Raises:
            ObservationError: The simulator predicts something else than at the preflight.
        """
        if predicted.keys() != self.plan.observations.keys():
            raise ObservationError(
                f"The simulator predicts {', '.join(predicted) or 'nothing'} here, but predicted "
                f"{', '.join(self.plan.observations)} at the preflight: what is observed must not depend on values of params."
            )
        for one in self.plan.observations.values():
            given = data.get(one.name)
            if given is None and role is Role.DENSITY:
                continue
            parts = (None, None) if given is None else (given.values, given.present)
            seen = tuple(part if part is None else self.picks.rows(part, one.dims) for part in parts)
            distribution, run = self._of_what_matters(self._of_picked(predicted[one.name], one), one)
            aligned, (values, present) = align(distribution, one, self.plan.dims, run, seen)
            predict = role is Role.PREDICTION
            if values is not None and present is not None and not predict:
                aligned = of_present(aligned, values, present)
            if predict and values is not None and one.free_totals:
                aligned = with_totals_of(aligned, values)
            self._in_plates(one.dims, one.name, aligned, None if predict else values)

    def _of_what_matters(self, distribution: Any, one: Observation) -> tuple[Any, Shape]:
        """The prediction, once for all values of discrete sites on which it does not depend; and its dims of the run."""
        if not self.summed:
            return distribution, self.batch
        found = self.summed.of_what_matters(distribution, len(self.batch))
        run = tuple(found.batch_shape[: len(self.batch)])
        self.summed.check(one.name, one.dims, run)
        return found, run

    def _of_picked(self, distribution: Any, observation: Observation) -> Any:
        """The predictions for the picked members of data plates, which the simulator does not know of."""
        plates = self.plan.layout.plate_names
        names = tuple("" if name in plates else name for name in observation.dims)
        run, batch = len(self.batch), tuple(distribution.batch_shape)
        names = names[len(names) - (len(batch) - run) :]
        if not any(self.picks.sizes.get(name) == size for name, size in zip(names, batch[run:], strict=True)):
            return distribution
        return to_pyro(map_batch(distribution, lambda tensor: self.picks.rows(tensor, names, run)))

    def _in_plates(self, names: Sequence[str], site: str, distribution: Any, data: Tensor | None) -> Tensor:
        """`pyro.sample` inside of some plates."""
        with ExitStack() as stack:
            for name in names:
                stack.enter_context(self.plates[name])
            return pyro.sample(site, distribution, obs=data)


def _filled(drawn: Tensor, run: int, depth: int, own: int) -> Tensor:
    """A draw with room for all plates of the model between the dims of the run and its own."""
    batch = tuple(drawn.shape[run : drawn.ndim - own])
    shape = tuple(drawn.shape[:run]) + (1,) * (depth - len(batch)) + batch + tuple(drawn.shape[drawn.ndim - own :])
    return drawn.reshape(shape)


def _plates_around() -> int:
    """How many vectorised plates others have opened around this run: particles, or parallel draws."""
    message = Message(
        type="caskade_pyro",
        name="",
        fn=_nothing,
        is_observed=False,
        args=(),
        kwargs={},
        value=None,
        infer={},
        scale=1.0,
        mask=None,
        cond_indep_stack=(),
        done=False,
        stop=False,
        continuation=None,
    )
    apply_stack(message)
    return sum(frame.vectorized for frame in message["cond_indep_stack"])


def _nothing() -> None:
    """What a message that only passes by computes."""
