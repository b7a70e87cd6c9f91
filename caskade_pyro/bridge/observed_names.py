"""The names of observations and of their dims, held against those of the graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..errors import ModelError, ObservationError
from ..graph.plates.layout import PlateLayout
from .observations import Observation

__all__ = ["check_data_plates", "check_observation_names"]


def check_observation_names(
    predicted: Iterable[str],
    data: Iterable[str],
    dims: Mapping[str, Sequence[str]],
    sites: Sequence[str],
    layout: PlateLayout,
) -> None:
    """Check that data and dims are given for what is predicted, and that no name is taken.

    Raises:
        ObservationError: A name is given that the model does not predict.
        ModelError: An observation has the name of a param or plate.
    """
    predicted = tuple(predicted)
    known = ", ".join(predicted) or "none"
    for what, names in (("The data name", data), ("dims names", dims)):
        unknown = [name for name in names if name not in predicted]
        if unknown:
            raise ObservationError(f"{what} {', '.join(unknown)}, but the model predicts {known}.")
    taken = {*sites, *layout.plate_names}
    clashes = [name for name in predicted if name in taken]
    if clashes:
        raise ModelError(
            f"The observation {clashes[0]!r} has the name of a param or plate of the graph; return it under another name, "
            'as in {"data": distribution}.'
        )


def check_data_plates(observations: Sequence[Observation]) -> None:
    """Check that data plates of one name have one size.

    Raises:
        ObservationError: They have not.
    """
    sizes: dict[str, int] = {}
    for observation in observations:
        for name, size in zip(observation.dims, observation.batch_shape, strict=True):
            if sizes.setdefault(name, size) != size:
                raise ObservationError(
                    f"The data plate {name!r} has the size {sizes[name]} and, in the observation {observation.name!r}, {size}."
                )
