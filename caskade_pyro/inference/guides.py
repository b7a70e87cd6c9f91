"""Guides: what a user gives, made into a guide of the model that is fitted."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from pyro import poutine
from pyro.infer import autoguide
from pyro.infer.autoguide.effect import AutoMessenger
from pyro.infer.autoguide.initialization import init_to_median

from ..bridge.bound import BoundModel
from ..bridge.inputs import named_inputs
from ..bridge.plan import InnerSite
from ..bridge.randomness import own_numbers
from ..bridge.reparametrise import NonCentered
from ..errors import SamplingError

__all__ = ["GUIDES", "Guided", "check_given", "discrete_sites", "make_guide"]

GUIDES: dict[str, Callable[..., Any]] = {
    "normal": autoguide.AutoNormal,
    "full_rank": autoguide.AutoMultivariateNormal,
    "low_rank": autoguide.AutoLowRankMultivariateNormal,
    "laplace": autoguide.AutoLaplaceApproximation,
    "delta": autoguide.AutoDelta,
}

MEDIAN_OF = 100
"""A guide starts at the median of so many draws from the priors: that of few is by chance far from where wide ones begin."""

JOINT = (autoguide.AutoContinuous, autoguide.AutoGaussian, autoguide.AutoStructured)
"""Guides whose params stand for the members at the places where they are seen first."""


@dataclass(frozen=True)
class Guided:
    """A guide with the model that it is a guide of.

    Attributes:
        guide: The guide, of no arguments, which has run once.
        model: The reparametrised model.
        noncentered: Which sites the guide describes as offsets.
        sites: The sampled sites, in the order of the model.
        own: Whether the user wrote it, so that it opens its plates itself.
    """

    guide: Any
    model: Any
    noncentered: NonCentered
    sites: tuple[str, ...]
    own: bool


def check_given(bound: BoundModel, given: object) -> None:
    """Check what is given as a guide, before anything is computed.

    Raises:
        SamplingError: It is no known name, and nothing that can be called; or a joint guide of a subsampled plate.
    """
    if isinstance(given, str) and given not in GUIDES:
        raise SamplingError(
            f"There is no guide {given!r}; choose {', '.join(map(repr, GUIDES))}, or give an AutoGuide of Pyro, or a function."
        )
    if not callable(given) and not isinstance(given, str):
        raise SamplingError(
            f"guide= takes {', '.join(map(repr, GUIDES))}, an AutoGuide of Pyro (its class, or one that is made), or a "
            f"function; not {given!r}."
        )
    made = GUIDES[given] if isinstance(given, str) else given
    _check_joint(bound, made if isinstance(made, type) else type(made))


def _check_joint(bound: BoundModel, kind: Any) -> None:
    """Check that a guide can describe members that it sees a few at a time.

    Raises:
        SamplingError: It is one joint distribution, whose dims would stand for other members at each step.
    """
    local = [site.name for site in bound.plan.sites if set(site.plates.names) & set(bound.subsample_size)]
    if local and issubclass(kind, JOINT):
        raise SamplingError(
            f"The guide {kind.__name__} is one joint distribution and cannot describe {', '.join(local[:3])} of a subsampled "
            "plate, of which it sees other members at each step. Take guide='normal', or fit all members at once."
        )


def discrete_sites(bound: BoundModel) -> list[str]:
    """The sites that a guide leaves out, because the loss sums over their values."""
    return [site.name for site in bound.discrete] + [one.name for one in bound.plan.latent_inner if _is_discrete(one)]


def _is_discrete(one: InnerSite) -> bool:
    return bool(getattr(one.distribution.support, "is_discrete", False))


def make_guide(bound: BoundModel, given: str | Callable[..., Any], noncentered: NonCentered) -> Guided:
    """Make the guide that a user asks for, and run it once, which makes its params.

    Args:
        bound: The model.
        given: The name of a guide, an AutoGuide's class or one that is made, a function of the model that returns a guide,
            or a guide of Pyro's own kind: a function of no arguments, or of those of the model.
        noncentered: Which sites it describes as offsets; with ``"auto"`` a guide that is ready says so by its sites.

    Raises:
        SamplingError: It has no site for one of the model's, or one that the model does not have.
    """
    hidden = discrete_sites(bound)
    model = bound.noncentered(noncentered)
    guide, own = _made(bound, given, poutine.block(model, hide=hidden) if hidden else model)
    names = _latent_names(guide)
    expected = _expected(bound, noncentered)
    if noncentered == "auto" and set(names) != set(expected):
        # A guide that was made for the model as the user wrote it describes values, not offsets.
        noncentered = [site.name for site in bound.plan.sites if f"{site.name}_decentered" in names]
        model, expected = bound.noncentered(noncentered), _expected(bound, noncentered)
    _check_sites(names, expected)
    _check_joint(bound, type(guide))
    return Guided(guide, model, noncentered, expected, own)


def _made(bound: BoundModel, given: Any, model: Callable[[], Any]) -> tuple[Any, bool]:
    """The guide, and whether it opens its plates itself."""
    if isinstance(given, str):
        return GUIDES[given](model, init_loc_fn=init_to_median(num_samples=MEDIAN_OF)), False
    if isinstance(given, type):
        return given(model, **_options(given, model)), False
    if isinstance(given, (autoguide.AutoGuide, AutoMessenger)):
        return given, False
    if not _takes_model(bound, given):
        return _of_inputs(bound, given), True
    made = given(model)
    if not callable(made):
        raise SamplingError(
            f"guide= is a function of one argument, and so is called with the model to return a guide, but it returns "
            f"{made!r}. A guide itself is a function of no arguments, or of those of the model: "
            f"{', '.join(_inputs(bound)) or 'none'}."
        )
    if isinstance(made, (autoguide.AutoGuide, AutoMessenger)):
        return made, False
    return _of_inputs(bound, made), True


def _inputs(bound: BoundModel) -> dict[str, Any]:
    """What a guide may take: the inputs of the model by their names, and the data."""
    data = bound.data if list(bound.data) != ["obs"] else bound.data["obs"]
    return {**named_inputs(bound.model.method, bound.args, bound.kwargs), "obs": data}


def _required(function: Callable[..., Any]) -> list[str] | None:
    """The names of the arguments that a function needs; None where it does not say."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [one.name for one in parameters if one.kind in plain and one.default is one.empty]


def _takes_model(bound: BoundModel, given: Callable[..., Any]) -> bool:
    """Whether a function is to be given the model and returns a guide, rather than being one."""
    required = _required(given)
    if required is None:
        return True
    return len(required) == 1 and required[0] not in _inputs(bound)


def _of_inputs(bound: BoundModel, guide: Callable[..., Any]) -> Callable[[], Any]:
    """A guide of the user's as a function of no arguments, which the bound model is too.

    Raises:
        SamplingError: It needs something that the model does not have.
    """
    inputs, required = _inputs(bound), _required(guide) or []
    unknown = [name for name in required if name not in inputs]
    if unknown:
        raise SamplingError(
            f"The guide {getattr(guide, '__name__', guide)!r} takes {', '.join(required)}, but the model has "
            f"{', '.join(inputs)}. A guide takes no arguments, or those of the model by the same names; a function of the "
            "model that returns a guide takes one."
        )
    try:
        known = inspect.signature(guide).parameters
    except (TypeError, ValueError):
        return guide
    taken = {name: value for name, value in inputs.items() if name in known}
    return partial(guide, **taken) if taken else guide


def _options(kind: Any, model: Callable[[], Any]) -> dict[str, Any]:
    """How a class of Pyro's is to begin, where it asks: at the medians of the priors, which all have one."""
    if not issubclass(kind, (autoguide.AutoGuide, AutoMessenger)):
        return {}
    known = inspect.signature(kind.__init__).parameters
    options: dict[str, Any] = {}
    if "init_loc_fn" in known and callable(known["init_loc_fn"].default):
        options["init_loc_fn"] = init_to_median(num_samples=MEDIAN_OF)
    if "hierarchical_sites" in known:
        options["hierarchical_sites"] = _with_mean(model)
    return options


def _with_mean(model: Callable[[], Any]) -> list[str]:
    """The latent sites whose priors have a mean, which a hierarchical guide starts from."""
    with torch.no_grad(), own_numbers(0), poutine.block():
        trace: Any = poutine.trace(model).get_trace()
    return [name for name, site in trace.iter_stochastic_nodes() if _has_mean(site["fn"])]


def _has_mean(prior: Any) -> bool:
    try:
        return bool(torch.isfinite(prior.mean).all())
    except (NotImplementedError, AttributeError):
        return False


def _latent_names(guide: Callable[[], Any]) -> list[str]:
    """The sites that a guide samples, without those that are a means to an end."""
    trace: Any = poutine.trace(guide).get_trace()
    return [
        name
        for name, site in trace.nodes.items()
        if site["type"] == "sample"
        and not site["is_observed"]
        and not site["infer"].get("is_auxiliary")
        and type(site["fn"]).__name__ != "_Subsample"
    ]


def _expected(bound: BoundModel, noncentered: NonCentered) -> tuple[str, ...]:
    """The sites that a guide of the model must have."""
    decisions = bound.decisions(noncentered)
    hidden = set(discrete_sites(bound))
    params = [decisions[site.name].sampled_as for site in bound.plan.sites if site.name not in hidden]
    return (*params, *(one.name for one in bound.plan.latent_inner if one.name not in hidden))


def _check_sites(names: Sequence[str], expected: tuple[str, ...]) -> None:
    missing = [name for name in expected if name not in names]
    foreign = [name for name in names if name not in expected]
    if missing or foreign:
        lacks = f"lacks {', '.join(missing)}" if missing else ""
        has = f"samples {', '.join(foreign)}, which the model does not have" if foreign else ""
        raise SamplingError(
            f"The guide {' and '.join(filter(None, [lacks, has]))}. The sites of the model are {', '.join(expected)}: a guide "
            'has one of the same name for each, and flags others with infer={"is_auxiliary": True}.'
        )
