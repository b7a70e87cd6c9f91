"""The preflight: making the plan of a model.

It builds every prior, draws one value for each param, runs the simulator once and looks at what comes out. So mistakes
show before any sampling, and a run of the model does only what must be done each time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from torch import Tensor
from torch.distributions import Distribution

from ..errors import CaskadeException, FillParamsError, ModelError, ObservationError, PlateError, PriorError
from ..graph.nodes.shapes import show
from ..graph.plates.distributions import map_batch, with_validation, without_validation
from ..graph.plates.handles import check_handles
from ..graph.plates.layout import PlateLayout
from .chance import Watch, check_same, drawn_in_vmap, watched
from .circles import circle_of, on_circle
from .coarse import coarse_constants
from .dependencies import dependencies, mixed_plates, reached, write_out
from .dim_names import check_names_of_draws, resolve_dims
from .distributions import NotFactorisedError, base_of, with_global_validation
from .inner import TrackedDraws, inner_sites, is_subsample, tracked
from .inputs import check_unchanged, explained, named_inputs, versions
from .multinomial import has_free_totals
from .observations import Observation, name_dims
from .observed_names import check_data_plates, check_observation_names
from .plan import InnerSite, Plan, Site
from .plates import Dims, SitePlates, allocate
from .population_sites import recording_draws
from .precision import holds_double, is_double
from .priors import PriorFit, site_distribution
from .randomness import own_numbers
from .ranges import check_range, may_leave, positive_instead
from .rehearsal import rehearse
from .reported import Collector, replicates, reports
from .resolution import scale_of
from .seen_priors import SeenPriors, look_at_priors
from .simulate import Outcome, Simulator, Values, simulate
from .sites import Source, check_complete, sources

__all__ = ["Call", "make_plan"]


@dataclass(frozen=True)
class Call:
    """A model with its inputs and data.

    Attributes:
        simulator: The forward method with its inputs.
        data: The data by observation.
        dims: Names that the user gave to batch dims, by observation.
        priors: Priors that the user gave by site.
    """

    simulator: Simulator
    data: Mapping[str, Tensor]
    dims: Mapping[str, tuple[str, ...]]
    priors: Mapping[str, object]


def make_plan(layout: PlateLayout, call: Call) -> Plan:
    """Look at a model before it runs.

    Raises:
        MissingPriorError: Params have no prior.
        PriorError: A prior does not fit its param.
        ObservationError: Data do not fit the prediction.
        ModelError: The forward method returns nothing that can be observed.
    """
    _check_sizes(layout, call.data)
    check_handles(layout)
    if not layout.double and is_double(layout, (call.simulator.args, call.simulator.kwargs), call.data, call.priors):
        layout = layout.doubled()
    found, missing = sources(layout, call.priors)
    # Derivatives tell what depends on what, also for a model that is bound under no_grad.
    with own_numbers(0), poutine.block(), with_validation(), torch.enable_grad():
        priors = look_at_priors(layout, found)
        trial = _try_out(layout, call, priors.values, missing)
        check_complete(missing, trial.drawn)
        found = tuple(source for source in found if source.placement.param not in trial.drawn)
        names = [source.name for source in found]
        if not layout.double and any(holds_double(one) for one in trial.outcome.predicted.values()):
            return make_plan(layout.doubled(), call)  # of constants that the simulator has itself
        observations = _look_at_prediction(layout, call, trial, names, priors)
        given = (call.simulator, trial.tracked, trial.outcome.predicted)
        coarse = () if trial.inner else coarse_constants(layout, *given, observations)
        for source in found:
            _check_direct_use(layout, call, trial, source, priors.templates[source.name])
    together = [source.placement.plates for source in found]
    together += [(*replicates(layout), *own) for own in trial.collector.plates.values()]
    dims = allocate(layout, together, [observation.dims for observation in observations])
    sizes = {plate.name: plate.size for plate in layout.plates}
    sites = tuple(
        _site(layout, source, priors.fits[source.name], priors.templates[source.name], dims) for source in found
    )
    used = {name for names in together for name in names}
    for observation in observations:
        used.update(observation.dims)
        own = zip(observation.dims, observation.batch_shape, strict=True)
        sizes |= {name: size for name, size in own if name not in sizes}
    plan = Plan(
        layout=layout,
        sites=sites,
        observations={observation.name: observation for observation in observations},
        dims=dims,
        sizes={name: size for name, size in sizes.items() if name in used and size is not None},
        reported=reports(layout, trial.collector.plates, trial.outcome.reported, dims),
        inner=trial.inner,
        coarse=coarse,
    )
    check_names_of_draws(plan)
    rehearse(plan, priors.values)
    return plan


def _site(layout: PlateLayout, source: Source, fit: PriorFit, template: Distribution, dims: Dims) -> Site:
    placement = source.placement
    plates = SitePlates(
        placement.plates, layout.sizes(placement.plates), tuple(dims[name] for name in placement.plates)
    )
    circle = circle_of(placement.param, template, layout.bounds(placement.param))
    constant = None
    if not source.prior.parents:
        built = site_distribution(source.name, source.prior, fit, plates, _no_params)
        constant = on_circle(with_global_validation(built), circle)
    shape = placement.root_shape + placement.plate_shape + placement.shape
    return Site(source, plates, fit, shape, constant, on_circle(template, circle), circle)


def _check_sizes(layout: PlateLayout, data: Mapping[str, Tensor]) -> None:
    """Check that there is something to model.

    Raises:
        ObservationError: There are no numbers in some data.
        PlateError: A plate has no members.
    """
    for name, values in data.items():
        if values.numel() == 0:
            raise ObservationError(
                f"The data of {name!r} have shape {show(values.shape)}: there are no numbers in them. Leave obs= out to "
                "predict them, or leave this data set out of the model."
            )
    for plate in layout.plates:
        if plate.size == 0:
            params = [one.site for one in layout.placements if plate.name in one.plates]
            raise PlateError(
                f"Plate {plate.name} has no members: the batch dim of {', '.join(params)} is 0. Expected at least one."
            )


def _no_params(_: Any) -> tuple[Tensor, int]:
    raise PriorError("A prior without params asked for the value of one.")


# The simulator


@dataclass(frozen=True)
class _Trial:
    """What came out of running the simulator once.

    Attributes:
        outcome: What it returned.
        tracked: The values of params that it was given, whose derivatives tell where they go.
        draws: The values that it sampled itself, likewise.
        inner: The sites at which it did.
        drawn: The params of members that it drew itself.
        collector: What it found of pointers and live params.
    """

    outcome: Outcome
    tracked: Values
    draws: dict[str, Tensor]
    inner: tuple[InnerSite, ...]
    drawn: frozenset[Any]
    collector: Collector


def _try_out(layout: PlateLayout, call: Call, values: Values, missing: Sequence[Any]) -> _Trial:
    """Run the simulator on draws from the priors.

    Raises:
        ModelError: The distribution of the data cannot be built there, or the simulator writes into what it was given.
    """
    params = {param: tracked(value) for param, value in values.items()}
    for placement in layout.placements:
        value = layout.held(placement.param) if placement.param.static else None
        if value is not None:
            params[placement.param] = tracked(value)
    collector = Collector(layout)
    simulator = call.simulator.with_copies()
    inputs = named_inputs(simulator.method, simulator.args, simulator.kwargs)
    named = {layout.paths[param]: value for param, value in params.items()}
    before = versions(inputs | named)
    with (
        watched(simulator.name) as watch,
        recording_draws() as drawn,
        TrackedDraws() as draws,
        poutine.trace() as trace,
    ):
        try:
            outcome = simulate(layout, simulator, params, collect=collector)
        except FillParamsError:
            check_complete(missing, drawn)  # a param without prior has no value, which is what went wrong first
            raise
        except CaskadeException:
            raise
        except (AttributeError, RuntimeError, TypeError, ValueError) as error:
            if isinstance(error, NotFactorisedError) or str(error).startswith("Expected parameter"):
                raise _out_of_range(layout, call, values, error) from error
            instead = drawn_in_vmap(error, simulator.name) or explained(error, simulator.name, inputs, named)
            if instead is None:
                raise
            raise instead from error
    check_unchanged(before, inputs | named, simulator.name)
    _check_live(layout, collector)
    inner = inner_sites(trace.trace, layout, params, draws.values)
    if call.data or any(site.observed for site in inner):  # without data there is no density, and one may draw at will
        _check_again(layout, call, params, outcome, trace.trace, watch)
    return _Trial(outcome, params, draws.values, inner, frozenset(drawn), collector)


def _check_again(layout: PlateLayout, call: Call, params: Values, outcome: Outcome, trace: Any, watch: Watch) -> None:
    """Check that the simulator does the same for the same params.

    Raises:
        ModelError: It draws random numbers that are no sites, or keeps state.
    """

    def again() -> list[Any]:
        simulator = call.simulator.with_copies()
        with own_numbers(1), poutine.trace() as second, poutine.replay(trace=trace):
            found = simulate(layout, simulator, params)
        return [*found.predicted.values(), *_own_sites(second.trace)]

    check_same(call.simulator.name, [*outcome.predicted.values(), *_own_sites(trace)], again, watch)


def _own_sites(trace: Any) -> list[Any]:
    return [node["fn"] for node in trace.nodes.values() if node["type"] == "sample" and not is_subsample(node)]


def _check_live(layout: PlateLayout, collector: Collector) -> None:
    for param in collector.plates:
        prior = getattr(param, "prior", None)
        if param.live and prior is not None:
            raise PriorError(
                f"Param {layout.paths[param]} has the prior {prior}, but the simulator sets its value. Leave the prior out, or "
                "make it dynamic with to_dynamic() and let the simulator read it."
            )


def _out_of_range(layout: PlateLayout, call: Call, values: Values, error: Exception) -> ModelError:
    shown = ", ".join(f"{layout.paths[p]} = {v.reshape(-1)[0].item():.4g}" for p, v in values.items() if v.numel())
    said = str(error).splitlines()[0]
    message = f"{call.simulator.name} fails for params drawn from their priors ({shown}): {said} "
    negative = [layout.paths[param] for param, value in values.items() if bool((value < 0).any())]
    if "GreaterThan" in said and negative:
        needed = positive_instead(torch.tensor(0.0), torch.tensor(torch.inf))
        return PriorError(f"{message}Must {' or '.join(negative)} be positive? {needed}")
    return ModelError(f"{message}Do the priors leave the range that the simulator can take?")


def _look_at_prediction(
    layout: PlateLayout, call: Call, trial: _Trial, sites: Sequence[str], priors: SeenPriors
) -> tuple[Observation, ...]:
    """What the simulator predicts, and from which params."""
    predicted = trial.outcome.predicted
    if not predicted and not any(site.observed for site in trial.inner):
        raise ModelError(
            f"{call.simulator.name} returns nothing that can be observed. Return a distribution or a dict of them, or weigh "
            'the params with pyro.factor("name", log_likelihood).'
        )
    check_observation_names(predicted, call.data, call.dims, sites, layout)
    latent = {param: value for param, value in trial.tracked.items() if param.dynamic}
    # Whole numbers have no derivatives, so what depends on them cannot be told.
    drawn = [*priors.templates.values(), *(one.distribution for one in trial.inner if not one.observed)]
    discrete = any(getattr(one.support, "is_discrete", False) for one in drawn)
    replicates = len(layout.root_shape)
    found = []
    for name, distribution in predicted.items():
        data = call.data.get(name)
        given = resolve_dims(name, call.dims.get(name, ()), layout)
        names, sizes = name_dims(name, distribution, data, given, layout, replicates)
        found.append(
            Observation(
                name=name,
                dims=names,
                batch_shape=sizes,
                event_shape=tuple(distribution.event_shape),
                distribution=_detached(distribution),
                text=write_out(distribution, trial.tracked),
                parents=dependencies(distribution, latent),
                reads=dependencies(distribution, trial.tracked),
                draws=dependencies(distribution, trial.draws),
                mixed=mixed_plates(distribution, names, layout, trial.tracked),
                observed=data is not None,
                free_totals=has_free_totals(distribution),
                fixed_bounds=_are_fixed(base_of(distribution).support, latent, discrete),
                fixed_scale=_fixed_scale(distribution, latent),
            )
        )
    check_data_plates(found)
    return tuple(found)


def _are_fixed(support: Any, latent: Values, discrete: bool) -> bool:
    """Whether the bounds of a support depend on no param."""
    bounds = [one for one in vars(support).values() if isinstance(one, Tensor)]
    return not bounds or (not discrete and not reached(bounds, latent))


def _fixed_scale(distribution: Any, latent: Values) -> Tensor | None:
    """How widely single values of a prediction scatter, where that depends on no param."""
    scale = scale_of(distribution)
    return None if scale is None or reached([scale], latent) else scale.detach()


def _check_direct_use(layout: PlateLayout, call: Call, trial: _Trial, source: Source, template: Any) -> None:
    """Check that a param which is an argument of what explains the data stays where that is defined.

    Raises:
        PriorError: It does not, as a scale with a normal prior.
    """
    param = source.placement.param
    value = trial.tracked[param]
    latent = {one: held for one, held in trial.tracked.items() if one.dynamic}
    for name, distribution in trial.outcome.predicted.items():
        base = base_of(distribution)
        for argument in getattr(base, "arg_constraints", {}):
            used = vars(base).get(argument)
            if not isinstance(used, Tensor) or value.numel() == 0 or not bool((used == value.reshape(-1)[:1]).all()):
                continue
            if not may_leave(template, base, argument) or reached([used], latent) != (param,):
                continue
            if _leaves_range(layout, call, trial, source, name, argument):
                check_range(source.name, source.prior, template, argument, base, f"that is to explain {name!r}")


def _leaves_range(layout: PlateLayout, call: Call, trial: _Trial, source: Source, name: str, argument: str) -> bool:
    """Whether an argument goes where a param goes: it does not where the simulator takes its absolute value, say."""
    param = source.placement.param
    values = {one: held.detach() for one, held in trial.tracked.items()}
    moved = values | {param: -values[param].abs() - 1}
    try:
        with torch.no_grad(), without_validation(), poutine.block():
            predicted = simulate(layout, call.simulator.with_copies(), moved).predicted
        found = getattr(base_of(predicted[name]), argument)
        return bool((found == moved[param].reshape(-1)[:1]).all())
    except (CaskadeException, ArithmeticError, LookupError, AttributeError, RuntimeError, TypeError, ValueError):
        return False  # there the simulator fails, and what it would do cannot be told


def _detached(distribution: Any) -> Any:
    """The distribution without the graph of derivatives that led to it."""
    try:
        with without_validation():  # it was checked when it was made, or was not to be
            return map_batch(distribution, torch.Tensor.detach)
    except ModelError:
        return distribution
