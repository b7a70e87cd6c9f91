"""Draws as ArviZ data: variables are sites, dims are plates, coordinates are members."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import arviz as az
import numpy as np

from ..bridge.bound import BoundModel
from ..bridge.plan import Plan
from ..bridge.reparametrise import decide

__all__ = ["coordinates", "dimensions", "set_attributes", "to_inference_data", "without_attributes"]


def coordinates(plan: Plan) -> dict[str, Sequence[Any]]:
    """The coordinates of every plate: the names of its members, or their numbers."""
    names = {plate.name: plate.members for plate in plan.layout.plates}
    return {name: names.get(name) or range(size) for name, size in plan.sizes.items()}


def dimensions(plan: Plan) -> dict[str, list[str]]:
    """The dims of every site: its plates, then those of its own shape."""
    dims = {}
    for site in plan.in_plates:
        own = [f"{site.name}_dim_{index}" for index in range(len(site.shape))]
        dims[site.name] = [*site.plate_names, *own]
    for inner in plan.latent_inner:
        own = [f"{inner.name}_dim_{index}" for index in range(len(inner.shape))]
        dims[inner.name] = [*inner.plate_names, *own]
    for one in plan.observations.values():
        count = len(one.dims)
        dims[one.name] = [*one.dims, *(f"{one.name}_dim_{count + index}" for index in range(len(one.event_shape)))]
    return dims


def to_inference_data(
    bound: BoundModel,
    groups: Mapping[str, Mapping[str, np.ndarray[Any, Any]]],
    attrs: Mapping[str, Any],
) -> az.InferenceData:
    """ArviZ data from draws.

    Args:
        bound: The model.
        groups: By group (``posterior``, ``sample_stats``, ``prior``, ...), arrays ``(chains, draws, ...)`` by name.
        attrs: Attributes of every group.
    """
    found = without_attributes(bound, groups)
    set_attributes(found, bound.plan, attrs)
    return found


def without_attributes(bound: BoundModel, groups: Mapping[str, Mapping[str, np.ndarray[Any, Any]]]) -> az.InferenceData:
    """As `to_inference_data`, the attributes not yet set."""
    plan = bound.plan
    data = {name: _natural(bound, plan, name) for name in bound.data}
    with_data = {**groups, "observed_data": data} if data else dict(groups)
    with warnings.catch_warnings():
        # More chains than draws are meant, where many chains run as one batch.
        warnings.filterwarnings("ignore", "More chains", UserWarning)
        found: az.InferenceData = az.from_dict(
            **with_data,  # type: ignore[arg-type]
            coords=coordinates(plan),
            dims=dimensions(plan),
        )
    return found


def _natural(bound: BoundModel, plan: Plan, name: str) -> np.ndarray[Any, Any]:
    observation = plan.observations[name]
    whole = bound.data[name].expand(observation.batch_shape + observation.event_shape)
    return whole.detach().cpu().clone().numpy()  # memory of its own: what is written into results is no data


def set_attributes(found: az.InferenceData, plan: Plan, attrs: Mapping[str, Any]) -> None:
    """Say what the draws are: units and descriptions of variables, and who made them."""
    params = {site.name: site.source.placement.param for site in plan.sites}
    params |= {one.name: one.param for one in plan.reported}
    circles = {name: one.circle for name, one in decide(plan).items() if one.circle is not None}
    library = __name__.partition(".")[0]
    version = import_module(library).__version__  # of the code that runs, which need not be installed
    for group in found.groups():
        dataset = found[group]
        dataset.attrs.update(inference_library=library, inference_library_version=version, **attrs)
        for name in dataset.data_vars:
            param = params.get(str(name))
            for attribute in ("units", "description"):
                if value := getattr(param, attribute, None):
                    dataset[name].attrs[attribute] = value
            if str(name) in circles:
                dataset[name].attrs["circle"] = circles[str(name)]
