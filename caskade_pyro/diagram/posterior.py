"""Draws of a posterior as the few numbers that fit into a node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CaskadeException

__all__ = ["Summary", "summarise"]

BARS = 12
_MOST_DIGITS = 6
WRITTEN_OUT = 2
"""So many components are written out one by one; of more, the range."""


@dataclass(frozen=True)
class Summary:
    """What the draws of one site come to.

    Attributes:
        lines: Mean and standard deviation; of many members, the least and the greatest of each.
        histogram: The draws of all members together, in bars whose heights are eighths of the highest.
    """

    lines: tuple[str, ...]
    histogram: tuple[int, ...]


def summarise(posterior: Any, sites: Iterable[str]) -> dict[str, Summary]:
    """Reduce the draws of a posterior to a mean, a standard deviation and a histogram for each site.

    Args:
        posterior: ArviZ data with a group ``posterior``, its data set alone, or a mapping from sites to arrays whose first
            dim counts the draws.
        sites: The sites of the model; what else was recorded is passed over.

    Returns:
        The summaries of the sites that have draws.

    Raises:
        CaskadeException: None of the sites has draws.

    Example:
        >>> summarise({"mean": [0.9, 1.1, 1.3, 0.7]}, ["mean", "scatter"])["mean"].lines
        ('1.00 ± 0.26',)
    """
    draws = _variables(posterior)
    wanted = list(sites)
    found = {site: _summary(_by_draw(draws[site])) for site in wanted if site in draws}
    if not found:
        raise CaskadeException(
            f"The posterior has draws of {', '.join(map(str, draws)) or 'nothing'}; expected some of {', '.join(wanted)}."
        )
    return found


def _variables(posterior: Any) -> Mapping[Any, Any]:
    group = getattr(posterior, "posterior", posterior)
    variables = getattr(group, "data_vars", group)
    if not isinstance(variables, Mapping):
        raise CaskadeException(
            f"posterior= expects ArviZ data, such as ck.sample returns, or a mapping from sites to draws; got {posterior!r}."
        )
    return variables


def _by_draw(variable: Any) -> NDArray[Any]:
    """The draws of a variable as rows, chains one after the other, and its components as columns."""
    if hasattr(variable, "detach"):
        variable = variable.detach().cpu()
    array = np.asarray(variable, dtype=float)
    dims = getattr(variable, "dims", ("draw",))
    order = [index for index, dim in enumerate(dims) if dim in ("chain", "draw")]
    array = np.moveaxis(array, order, range(len(order)))
    count = int(np.prod(array.shape[: len(order)]))
    return array.reshape(count, -1)


def _summary(draws: NDArray[Any]) -> Summary:
    finite = draws[np.isfinite(draws).all(axis=1)]
    if finite.size == 0:
        return Summary(("no finite draws",), ())
    means, deviations = finite.mean(axis=0), finite.std(axis=0, ddof=int(len(finite) > 1))
    if len(means) <= WRITTEN_OUT:
        lines = [", ".join(_plus_minus(mean, sd) for mean, sd in zip(means, deviations, strict=True))]
    else:
        digits = _digits(float(np.median(deviations)))
        lines = [f"means {_range(means, digits)}", f"sds {_range(deviations, digits)}"]
    return Summary(tuple(lines), _bars(finite))


def _bars(draws: NDArray[Any]) -> tuple[int, ...]:
    # A few far draws would squeeze all others into one bar: they are counted with the outermost ones.
    low, high = np.quantile(draws, [0.005, 0.995])
    if not low < high:
        return ()
    counts, _ = np.histogram(draws.clip(low, high), bins=BARS)
    return tuple(int(height) for height in np.ceil(8 * counts / counts.max()))


def _digits(deviation: float) -> int:
    """The digits after the point that leave two of the standard deviation."""
    if deviation <= 0:
        return 2
    return int(np.clip(1 - np.floor(np.log10(deviation)), 0, _MOST_DIGITS))


def _plus_minus(mean: float, deviation: float) -> str:
    digits = _digits(deviation)
    return f"{_number(mean, digits)} ± {_number(deviation, digits)}"


def _range(values: NDArray[Any], digits: int) -> str:
    low, high = _number(float(values.min()), digits), _number(float(values.max()), digits)
    return low if low == high else f"{low} to {high}"


def _number(value: float, digits: int) -> str:
    """A number with a true minus sign; very large and very small ones with a power of ten."""
    text = f"{value:.2e}" if abs(value) >= 1e6 or (digits == _MOST_DIGITS and value != 0) else f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    return text.replace("-", "\N{MINUS SIGN}")
