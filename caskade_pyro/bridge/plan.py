"""The plan of a model: everything about its sites, plates and observations that can be known before it runs.

Making a plan is the preflight: it builds every prior, draws one value for each param, runs the simulator once and looks
at what comes out. So mistakes show before any sampling, and a run of the model does only what must be done each time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from torch import Tensor
from torch.distributions import Distribution

from ..errors import CaskadeException, ModelError, ObservationError, PriorError
from ..graph.nodes.shapes import Shape
from ..graph.plates.distributions import map_batch, with_validation
from ..graph.plates.layout import PlateLayout
from .dependencies import dependencies, write_out
from .distributions import to_pyro, with_global_validation
from .observations import Observation, as_distributions, check_data, name_dims
from .plates import Dims, SitePlates, allocate
from .priors import PriorFit, draw_one, fit_prior, site_distribution
from .simulate import Values, pointer_values, simulate
from .sites import Source, sources

__all__ = ["Call", "Plan", "Site", "make_plan"]


@dataclass(frozen=True)
class Call:
    """What a model is called with.

    Attributes:
        method: The forward method.
        args: Its positional arguments, without params.
        kwargs: Its keyword arguments.
        data: The data by observation.
        likelihood: From what the method returns, the distributions of the data.
        dims: Names that the user gave to batch dims, by observation.
        priors: Priors that the user gave by site.
    """

    method: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    data: Mapping[str, Tensor]
    likelihood: Callable[[Any], Any] | None
    dims: Mapping[str, tuple[str, ...]]
    priors: Mapping[str, object]


@dataclass(frozen=True)
class Site:
    """A latent site of a model.

    Attributes:
        source: The param and its prior.
        plates: The plates of the site.
        fit: How the prior fills the param.
        value_shape: The shape of its value in the graph.
        constant: Its distribution, where that depends on no param.
        template: The distribution of one member with prior values of its parents, for reports.
    """

    source: Source
    plates: SitePlates
    fit: PriorFit
    value_shape: Shape
    constant: Any | None
    template: Distribution

    @property
    def name(self) -> str:
        """The name of the site: the path of its param."""
        return self.source.name

    @property
    def draw_shape(self) -> Shape:
        """The shape of a draw as people see it: the sizes of the plates, then the param's own shape."""
        return self.plates.sizes + self.source.placement.shape

    def distribution(self, layout: PlateLayout, values: Values, dims: Dims) -> Any:
        """The distribution of the site, given the values of the params that its prior depends on."""
        if self.constant is not None:
            return self.constant

        def value_of(param: Any) -> tuple[Tensor, int]:
            return _at_dims(layout, *_argument(layout, values, param), dims)

        return site_distribution(self.name, self.source.prior, self.fit, self.plates, value_of)


@dataclass(frozen=True)
class Plan:
    """What is known of a model before it runs.

    Attributes:
        layout: The plates of the graph.
        sites: The latent sites, parents first.
        observations: The data sets, by name.
        dims: The Pyro dim of every plate.
        sizes: The size of every plate that the model uses, outermost first.
    """

    layout: PlateLayout
    sites: tuple[Site, ...]
    observations: Mapping[str, Observation]
    dims: Dims
    sizes: Mapping[str, int]


def make_plan(layout: PlateLayout, call: Call) -> Plan:
    """Look at a model before it runs.

    Raises:
        MissingPriorError: Params have no prior.
        PriorError: A prior does not fit its param.
        ObservationError: Data do not fit the prediction, or hold NaN.
        ModelError: The forward method returns nothing that can be observed.
    """
    found = sources(layout, call.priors)
    with torch.random.fork_rng(devices=[]), poutine.block(), with_validation():
        torch.manual_seed(0)
        templates, fits, values = _look_at_priors(layout, found)
        observations = _look_at_prediction(layout, call, values, [source.name for source in found])
    together = [source.placement.plates for source in found]
    dims = allocate(layout, together, [observation.dims for observation in observations])
    sizes = {plate.name: plate.size for plate in layout.plates}
    sites = tuple(_site(layout, source, fits[source.name], templates[source.name], dims) for source in found)
    used = {name for names in together for name in names}
    for observation in observations:
        used.update(observation.dims)
        sizes |= {
            name: size
            for name, size in zip(observation.dims, observation.batch_shape, strict=True)
            if name not in sizes
        }
    return Plan(
        layout=layout,
        sites=sites,
        observations={observation.name: observation for observation in observations},
        dims=dims,
        sizes={name: size for name, size in sizes.items() if name in used and size is not None},
    )


def _site(layout: PlateLayout, source: Source, fit: PriorFit, template: Distribution, dims: Dims) -> Site:
    placement = source.placement
    plates = SitePlates(
        placement.plates, _sizes(layout, placement.plates), tuple(dims[name] for name in placement.plates)
    )
    constant = None
    if not source.prior.parents:
        constant = with_global_validation(site_distribution(source.name, source.prior, fit, plates, _no_params))
    shape = placement.root_shape + placement.plate_shape + placement.shape
    return Site(source, plates, fit, shape, constant, template)


def _no_params(_: Any) -> tuple[Tensor, int]:
    raise PriorError("A prior without params asked for the value of one.")


def _sizes(layout: PlateLayout, names: Sequence[str]) -> Shape:
    return tuple(layout.plate(name).size or 1 for name in names)


# Values of the arguments of priors


def _argument(layout: PlateLayout, values: Values, param: Any) -> tuple[Tensor, tuple[str, ...]]:
    """The value of a param among a prior's arguments, and the plates that its leading dims count."""
    if param.pointer:
        return pointer_values(layout, values, param)
    placement = layout.placement(param)
    value: Tensor | None = values.get(param, param.value)
    if value is None:
        raise PriorError(f"Param {placement.site} is an argument of a prior, but has no value.")
    return value.reshape(_sizes(layout, placement.plates) + placement.shape), placement.plates


def _at_dims(layout: PlateLayout, value: Tensor, names: tuple[str, ...], dims: Dims) -> tuple[Tensor, int]:
    """A value with its plates at their Pyro dims, and how many dims these are."""
    plates = SitePlates(names, _sizes(layout, names), tuple(dims[name] for name in names))
    return plates.spread(value, len(names))


# The preflight


def _look_at_priors(
    layout: PlateLayout, found: Sequence[Source]
) -> tuple[dict[str, Distribution], dict[str, PriorFit], Values]:
    """Build every prior for one member, and draw a value that all members share."""
    templates: dict[str, Distribution] = {}
    fits: dict[str, PriorFit] = {}
    values: Values = {}
    for source in found:
        placement, prior = source.placement, source.prior

        def one_member(argument: Any) -> Any:
            if not hasattr(argument, "pointer"):
                return argument
            value, names = _argument(layout, values, argument)
            return value[(0,) * len(names)]

        try:
            template = to_pyro(prior.build(one_member))
        except CaskadeException:
            raise
        except (ValueError, RuntimeError, TypeError) as error:
            raise PriorError(f"The prior {prior} of param {source.name} cannot be built: {error}") from error
        fit = fit_prior(source.name, prior, placement.shape, _sizes(layout, placement.plates), template)
        drawn = draw_one(template, placement.param.value, placement.shape)
        own = drawn.ndim - len(placement.shape)
        drawn = drawn[(0,) * own] if own > 0 else drawn
        values[placement.param] = drawn.expand(placement.root_shape + placement.plate_shape + placement.shape)
        templates[source.name], fits[source.name] = template, fit
    return templates, fits, values


def _look_at_prediction(
    layout: PlateLayout, call: Call, values: Values, sites: Sequence[str]
) -> tuple[Observation, ...]:
    """Run the simulator once and find out what it predicts, from which params."""
    tracked = {param: _tracked(value) for param, value in values.items()}
    fixed = {
        p.param: _tracked(p.param.value) for p in layout.placements if p.param.static and p.param.value is not None
    }
    with torch.enable_grad():
        prediction = _try_out(layout, call, {**fixed, **tracked})
        predicted = as_distributions(prediction, call.likelihood, call.method.__qualname__)
        parents = {name: dependencies(one, tracked) for name, one in predicted.items()}
        texts = {name: write_out(one, {**fixed, **tracked}) for name, one in predicted.items()}
    _check_observation_names(predicted, call, sites, layout)
    replicates = len(layout.root_shape)
    found = []
    for name, distribution in predicted.items():
        data = call.data.get(name)
        names, sizes = name_dims(name, distribution, data, call.dims.get(name, ()), layout, replicates)
        if data is not None:
            check_data(name, distribution, data)
        event = tuple(distribution.event_shape)
        shown = _detached(distribution)
        found.append(Observation(name, names, sizes, event, shown, texts[name], parents[name], data is not None))
    _check_data_plates(found)
    return tuple(found)


def _tracked(value: Tensor) -> Tensor:
    """A copy whose derivatives tell where it goes."""
    return value.detach().clone().requires_grad_(value.is_floating_point())


def _try_out(layout: PlateLayout, call: Call, values: Values) -> Any:
    """Run the simulator on draws from the priors.

    Raises:
        ModelError: The distribution of the data cannot be built there.
    """
    try:
        return simulate(layout, call.method, call.args, call.kwargs, values)
    except ValueError as error:
        if not str(error).startswith("Expected parameter"):
            raise
        drawn = ", ".join(f"{layout.paths[p]} = {v.reshape(-1)[0].item():.4g}" for p, v in values.items() if v.numel())
        raise ModelError(
            f"{call.method.__qualname__} fails for params drawn from their priors ({drawn}): {str(error).splitlines()[0]} "
            "Do the priors leave the range that the simulator can take?"
        ) from error


def _detached(distribution: Any) -> Any:
    """The distribution without the graph of derivatives that led to it."""
    try:
        return map_batch(distribution, torch.Tensor.detach)
    except ModelError:
        return distribution


def _check_observation_names(
    predicted: Mapping[str, Any], call: Call, sites: Sequence[str], layout: PlateLayout
) -> None:
    known = ", ".join(predicted) or "none"
    for what, names in (("The data name", call.data), ("dims names", call.dims)):
        unknown = [name for name in names if name not in predicted]
        if unknown:
            raise ObservationError(f"{what} {', '.join(unknown)}, but the model predicts {known}.")
    taken = {*sites, *(plate.name for plate in layout.plates)}
    clashes = [name for name in predicted if name in taken]
    if clashes:
        raise ModelError(
            f"The observation {clashes[0]!r} has the name of a param or plate of the graph; return it under another name, "
            'as in {"data": distribution}.'
        )


def _check_data_plates(observations: Sequence[Observation]) -> None:
    sizes: dict[str, int] = {}
    for observation in observations:
        for name, size in zip(observation.dims, observation.batch_shape, strict=True):
            if sizes.setdefault(name, size) != size:
                raise ObservationError(
                    f"The data plate {name!r} has the size {sizes[name]} and, in the observation {observation.name!r}, {size}."
                )
