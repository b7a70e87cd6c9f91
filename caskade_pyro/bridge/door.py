"""What comes in when a model is made and bound, checked against what the forward method takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import ModelError, ObservationError, PlateError
from ..graph.arguments import named, names, shown
from ..graph.calls.signature import Signature
from ..graph.nodes.node import Node

__all__ = ["check_inputs", "checked_dims", "checked_likelihood", "checked_priors", "checked_sizes"]


def checked_likelihood(given: Any) -> Any:
    """A likelihood, which must be a function.

    Raises:
        ModelError: It is none.
    """
    if given is not None and not callable(given):
        raise ModelError(
            f"likelihood must be a function from what the forward method returns to a distribution; got {shown(given)}."
        )
    return given


def checked_priors(given: Any) -> dict[str, object]:
    """Priors by site, as a dict."""
    return named(given, '{"mean": dist.Normal(0.0, 1.0)}', "priors", ModelError)


def checked_dims(given: Any) -> dict[str, tuple[str, ...]]:
    """Names of batch dims by observation, as a dict of tuples.

    Raises:
        ObservationError: They are something else.
    """
    example = '{"obs": ("stars",)}'
    found = named(given, example, "dims", ObservationError)
    for observation, one in found.items():
        if isinstance(one, str):
            raise ObservationError(
                f"dims of {observation!r} must be a tuple of names, such as ({one!r},), not one string."
            )
        if isinstance(one, (set, frozenset)):
            raise ObservationError(f"dims of {observation!r} must have an order, as a tuple has; got {shown(one)}.")
    return {name: names(f"dims of {name!r}", one, '("stars",)', ObservationError) for name, one in found.items()}


def checked_sizes(given: Any) -> dict[str, int]:
    """Sizes of subsamples by plate, as a dict."""
    return named(given, '{"stars": 100}', "subsample_size", PlateError)


def check_inputs(method: Callable[..., Any], module: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Check that a forward method can be called with some inputs.

    Args:
        method: The method, bound to its module.
        module: The module.
        args: Its inputs.
        kwargs: Its inputs by keyword.

    Raises:
        ModelError: Inputs are missing, or there are some that it does not take, or values of params among them.
    """
    function = getattr(method, "__wrapped__", None)
    if not isinstance(module, Node) or function is None:
        return
    filled = Signature(function).wiring(module).names  # type: ignore[arg-type]
    params = [name for name in kwargs if name in filled or name == "params"]
    if params:
        raise ModelError(
            f"{method.__qualname__} got {', '.join(params)} as an input, but the model gives it the values of its params. Fix "
            f"a param with {params[0]}.to_static(value), or give it another prior."
        )
    signature = inspect.signature(function)
    try:
        signature.bind(module, *args, **{name: None for name in signature.parameters if name in filled}, **kwargs)
    except TypeError as error:
        raise ModelError(_explained(method, signature, filled, kwargs, error)) from None


def _explained(
    method: Callable[..., Any],
    signature: inspect.Signature,
    filled: frozenset[str],
    kwargs: Mapping[str, Any],
    error: TypeError,
) -> str:
    own = [one for one in list(signature.parameters.values())[1:] if one.name not in filled]
    taken = ", ".join(map(str, own)) or "no inputs"
    unknown = [name for name in kwargs if name not in signature.parameters]
    if unknown:
        return (
            f"{method.__qualname__} takes {taken}, and no {', '.join(unknown)}. Data are given as obs=: a tensor, or for "
            f"several data sets a dict by name, obs={{{', '.join(f'{name!r}: ...' for name in unknown)}}}."
        )
    return (
        f"{method.__qualname__} takes {taken}; the inputs do not fit: {error}. Params of the graph are filled in by the model, "
        "and come after the inputs. Data are given as obs=."
    )
