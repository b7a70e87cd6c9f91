"""One value for each param from a posterior, to be written back into the graph."""

from __future__ import annotations

from typing import Any

import arviz as az
import torch
import xarray as xr
from torch import Tensor

from ..errors import SamplingError
from ..graph.arguments import shown, whole
from ..graph.plates.layout import plate_layout
from . import circular
from .posterior_draws import draws_of

__all__ = ["point"]

DRAWS = ("chain", "draw")


def point(posterior: az.InferenceData, module: Any, stat: str | int = "mean") -> dict[str, Tensor]:
    """One value for each dynamic param of a module, in the form that `set_values` takes.

    Args:
        posterior: Draws, from `sample` or `Fit.sample`.
        module: The module whose forward method was sampled.
        stat: ``"mean"``, ``"median"``, or the number of a draw, counted through all chains. Of a param on a circle these are
            the mean direction, and the median around it.

    Returns:
        By site, values with the batch dims of the graph.

    Raises:
        SamplingError: The posterior lacks a param, or ``stat`` is unknown.

    Example:
        >>> import caskade_pyro as ck, arviz as az, numpy as np
        >>> class Mean(ck.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.mu = ck.Param("mu", shape=())
        >>> module = Mean()
        >>> posterior = az.from_dict(posterior={"mu": np.array([[1.0, 2.0, 6.0]], dtype="float32")})
        >>> module.set_values(ck.point(posterior, module, stat="median"))
        >>> module.mu.value
        tensor(2.)
    """
    group = draws_of(posterior)
    if not hasattr(module, "dynamic_params"):
        raise SamplingError(f"ck.point needs the module whose forward method was sampled; got {shown(module)}.")
    if not isinstance(stat, str):
        count = group.sizes["chain"] * group.sizes["draw"]
        stat = whole("stat", stat, 0, most=count - 1)
    elif stat not in ("mean", "median"):
        raise SamplingError(f"stat must be 'mean', 'median' or the number of a draw, not {stat!r}.")
    found = {}
    for placement in plate_layout(module).placements:
        if not placement.param.dynamic:
            continue
        if placement.site not in group:
            raise SamplingError(f"The posterior has no draws of {placement.site}.")
        draws = group[placement.site]
        if stat == "mean":
            value = _mean(draws)
        elif stat == "median":
            value = _median(draws)
        else:
            value = draws.isel(chain=int(stat) // group.sizes["draw"], draw=int(stat) % group.sizes["draw"])
        shape = placement.root_shape + placement.plate_shape + placement.shape
        found[placement.site] = _as_tensor(value, placement.param).reshape(shape)
    return found


def _as_tensor(value: xr.DataArray, param: Any) -> Tensor:
    """A value as a tensor: of the dtype that the param declares, or of that of the draws, so that no digits are lost."""
    tensor = torch.as_tensor(value.values.copy())
    declared = getattr(param, "declared_dtype", None)
    return tensor.to(declared or (tensor.dtype if tensor.is_floating_point() else torch.get_default_dtype()))


def _mean(draws: xr.DataArray) -> xr.DataArray:
    ends = circular.circle(draws)
    return draws.mean(DRAWS) if ends is None else circular.mean(draws, ends, DRAWS)


def _median(draws: xr.DataArray) -> xr.DataArray:
    ends = circular.circle(draws)
    if ends is None:
        return draws.median(DRAWS)
    low, high = ends
    return low + (_mean(draws) + circular.unwrapped(draws).median(DRAWS) - low) % (high - low)
