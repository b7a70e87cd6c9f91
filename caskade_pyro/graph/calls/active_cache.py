"""The decorator of methods whose result is computed once for each call."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch

from ..nodes.structure import is_param
from .evaluation import current_evaluation

if TYPE_CHECKING:
    from ..nodes.module import Module

__all__ = ["active_cache"]

Method = TypeVar("Method", bound=Callable[..., Any])


def active_cache(method: Method) -> Method:
    """Compute a method once for each call of the model, and reuse its first result for the rest of that call.

    To be put on top of all other decorators. The result belongs to the call, not to the module: outside of calls the
    method just runs. Its own arguments are not looked at, so give it none that differ within a call. What is looked at
    are params: inside of an override of a param that it read, or after a live one is set anew, it runs again; and with
    params given to it by keyword it runs without the cache. Under ``torch.vmap`` a result is kept only for
    the function that is mapped, and ``torch.compile`` runs the method each time.

    Args:
        method: A method of a `Module`, usually a `forward` method.

    Example:
        >>> import caskade_pyro as ck
        >>> class Line(ck.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.slope = ck.Param("slope", shape=())
        ...
        ...     @ck.active_cache
        ...     @ck.forward
        ...     def square(self, slope):
        ...         print("computed")
        ...         return slope**2
        ...
        ...     @ck.forward
        ...     def twice(self):
        ...         return self.square() + self.square()
        >>> Line().twice([3.0])
        computed
        tensor(18.)
    """

    @wraps(method)
    def cached(self: Module, *args: Any, **kwargs: Any) -> Any:
        evaluation = current_evaluation()
        if (
            evaluation is None
            or self not in evaluation.standpoint.online
            or torch.compiler.is_compiling()
            or _gives_params(self, kwargs)
        ):
            return method(self, *args, **kwargs)
        return evaluation.remember((self, method), lambda: method(self, *args, **kwargs))

    return cast("Method", cached)


def _gives_params(module: Module, kwargs: dict[str, Any]) -> bool:
    return any(name == "params" or (name in module.children and is_param(module.children[name])) for name in kwargs)
