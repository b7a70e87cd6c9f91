"""From the draws of chains to a result, whatever fails on the way: draws that took hours are never lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from warnings import warn

import arviz as az
import numpy as np
import torch
from torch import Tensor

from ..density import LogDensity
from ..density.constrain import to_user_params
from ..errors import IncompleteResultWarning, SamplingError
from ..inference.chains import Draws
from .arviz import set_attributes, without_attributes

__all__ = ["Attempts", "result_of"]

T = TypeVar("T")
Arrays = dict[str, np.ndarray[Any, Any]]


class Attempts:
    """Tries what may fail, and takes note of what did.

    Attributes:
        missing: What could not be made, and why.
    """

    def __init__(self) -> None:
        self.missing: list[str] = []

    def __call__(self, what: str, make: Callable[[], T], otherwise: Callable[[], T]) -> T:
        """What is made, or something else where that fails.

        Args:
            what: What is to be made, for the warning.
            make: Makes it.
            otherwise: Makes what is there without it.
        """
        try:
            return make()
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - a pointer is the user's function; nothing may lose draws
            self.miss(what, error)
        return otherwise()

    def miss(self, what: str, error: BaseException) -> None:
        """Take note of something that could not be made."""
        first = (str(error).splitlines() or [""])[0]
        self.missing.append(f"{what} ({type(error).__name__}: {first})")

    def warn(self, stacklevel: int) -> None:
        """Say what is missing, if anything is."""
        if self.missing:
            warn(
                IncompleteResultWarning(f"All draws are returned, but without {'; without '.join(self.missing)}."),
                stacklevel=stacklevel + 1,
            )


def result_of(
    density: LogDensity, drawn: Draws, attrs: Callable[[], Mapping[str, Any]], attempts: Attempts
) -> az.InferenceData:
    """The draws of chains as ArviZ data, with as much beside them as can be made.

    Args:
        density: What was sampled.
        drawn: The draws.
        attrs: What is kept of how they were made.
        attempts: Takes note of what is missing.
    """
    rows = torch.as_tensor(drawn.z.reshape(-1, density.dim), device=density.device)
    shape = drawn.z.shape[:2]
    params: Arrays = attempts(
        "the params as the model has them, in whose place there are the unconstrained draws",
        lambda: _arrays(user_params(density, rows, attempts), shape),
        lambda: {"unconstrained": drawn.z},
    )
    groups = {"posterior": params, "sample_stats": drawn.stats}
    found = attempts(
        "the names of dims and members, and the data",
        lambda: _checked(without_attributes(density.bound, groups), params),
        lambda: _plain(groups, attempts),
    )
    attempts("their attributes", lambda: set_attributes(found, density.bound.plan, attrs()), lambda: None)
    return found


def _plain(groups: Mapping[str, Arrays], attempts: Attempts) -> az.InferenceData:
    """Draws under names of dims that are made up."""
    made: az.InferenceData = attempts(
        "the statistics of the sampler",
        lambda: _checked(az.from_dict(**groups), groups["posterior"]),  # type: ignore[arg-type]
        lambda: az.from_dict(posterior={f"{name}_value": value for name, value in groups["posterior"].items()}),
    )
    return made


def _checked(found: az.InferenceData, params: Arrays) -> az.InferenceData:
    """The same, if all draws are in it.

    Raises:
        SamplingError: Some are not.
    """
    stored = found["posterior"].data_vars if "posterior" in found else {}
    lost = [name for name in params if name not in stored]
    if lost:
        raise SamplingError(f"ArviZ cannot store draws under the name {', '.join(lost)}.")
    return found


def _arrays(params: Mapping[str, Tensor], shape: tuple[int, ...]) -> Arrays:
    return {name: value.cpu().numpy().reshape(shape + tuple(value.shape[1:])) for name, value in params.items()}


def user_params(density: LogDensity, rows: Tensor, attempts: Attempts) -> dict[str, Tensor]:
    """The params of each site at many unconstrained vectors, and what pointers make of them where they can."""
    try:
        return density.constrain(rows)
    except (Exception, KeyboardInterrupt):  # noqa: BLE001 - below it is found out what failed
        sampled = density.sampled(rows)
    bound, choice = density.bound, density.noncentered
    found = to_user_params(bound, sampled, choice, pointers=())
    for site in bound.discrete:
        sampled[site.name] = found[site.name].reshape((-1, *site.plates.batch_shape, *site.shape))
    for one in bound.plan.reported:
        if not one.from_simulator:
            values = _pointer(density, sampled, one.name, attempts)
            found |= {} if values is None else {one.name: values}
    return found


def _pointer(density: LogDensity, sampled: dict[str, Tensor], name: str, attempts: Attempts) -> Tensor | None:
    """What a pointer makes of the draws: of all at once, or of one after the other, NaN where it fails."""
    bound, choice = density.bound, density.noncentered
    try:
        return to_user_params(bound, sampled, choice, pointers=(name,))[name]
    except Exception:  # noqa: BLE001 - a function that branches on values cannot be mapped over draws
        pass
    values: list[Tensor | None] = []
    failures: list[Exception] = []
    for draw in range(len(next(iter(sampled.values())))):
        one = {site: value[draw : draw + 1] for site, value in sampled.items()}
        try:
            values.append(to_user_params(bound, one, choice, pointers=(name,), mapped=False)[name][0])
        except Exception as error:  # noqa: BLE001 - whatever the user's function raises
            values.append(None)
            failures.append(error)
    known = next((value for value in values if value is not None), None)
    if failures:
        of = "" if known is None else f" for {len(failures)} of {len(values)} draws, which are NaN there"
        attempts.miss(f"the values of {name}{of}", failures[0])
    if known is None:
        return None
    nowhere = torch.full_like(known, torch.nan, dtype=None if known.is_floating_point() else torch.get_default_dtype())
    return torch.stack([nowhere if value is None else value.to(nowhere.dtype) for value in values])
