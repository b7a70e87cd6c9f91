"""The decorator of methods that compute with params."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from torch import Tensor, float64
from torch.compiler import is_compiling

from ...errors import ActiveStateError, FillParamsError
from ..plates.members import check_entry, enter_constants
from . import ambient
from .compiling import read_graph
from .evaluation import Evaluation, active_evaluation, current_evaluation, current_root, functorch_level
from .packing import unpack
from .signature import Signature

if TYPE_CHECKING:
    from ..nodes.module import Module
    from ..nodes.param import Param
    from ..nodes.values import ParamHolder
    from ..plates.layout import PlateLayout

__all__ = ["fill_params", "forward", "given_values", "open_call", "open_evaluation"]

Method = TypeVar("Method", bound=Callable[..., Any])


def forward(method: Method) -> Method:
    """Let a method receive the values of its module's params.

    Arguments named like a param of the module are filled with the values of the call. From outside, the method takes
    the params of the whole graph as one more argument, the last positional one or ``params=``: a tensor, a list or a
    dict. From inside another forward method it is called without them. A param given by keyword overrides the value
    for this call. ``{key}_params`` and ``{key}_dims``, for a hierarchically linked child, are the values of its
    dynamic params and the dims along which its members lie, to be given to ``torch.vmap``.

    Args:
        method: A method of a `Module`.

    Raises:
        FillParamsError: The params do not match the graph, or one has no value.

    Example:
        >>> import caskade_pyro as ck, torch
        >>> class Decay(ck.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.rate = ck.Param("rate", shape=())
        ...
        ...     @ck.forward
        ...     def at(self, t, rate):
        ...         return torch.exp(-rate * t)
        >>> Decay().at(torch.tensor([0.0, 1.0]), torch.tensor([2.0]))
        tensor([1.0000, 0.1353])
    """
    signature = Signature(method)

    @wraps(method)
    def wrapped(self: Module, *args: Any, **kwargs: Any) -> Any:
        evaluation = current_evaluation()
        if evaluation is not None and self in evaluation.standpoint.online and "params" not in kwargs:
            if functorch_level() == evaluation.level:
                return signature.wiring(self).run(evaluation, args, kwargs)
            with evaluation.scope({}) as scope:
                return signature.wiring(self).run(scope, args, kwargs)
        if is_compiling():
            read_graph(self)
        wiring = signature.wiring(self)
        args, params, kwargs = wiring.take_params(args, kwargs)
        evaluation = open_call(self, params)
        if not evaluation.double and any(is_double(one) for one in (*args, *kwargs.values())):
            evaluation.widen()
        with evaluation:
            return wiring.run(evaluation, args, kwargs)

    # The compiler counts its versions by code object, so each method has its own; tracebacks show the method's name.
    wrapped.__code__ = wrapped.__code__.replace(co_name=method.__name__)  # type: ignore[attr-defined]
    return cast("Method", wrapped)


def open_call(module: Module, params: Any) -> Evaluation:
    """The evaluation of a call that is given all the params that it needs.

    No params at all, ``params=()``, ask for the values that the graph holds. Whoever says so may lack some: what is missing
    is an error only where it is asked for.

    Raises:
        FillParamsError: The params do not match the graph, or one has no value.
    """
    if isinstance(params, (list, tuple)) and not params:
        return open_evaluation(module, None)
    evaluation = open_evaluation(module, params)
    if ambient.state.overrides or len(evaluation.values) < evaluation.standpoint.asks_for:
        _check_complete(module, evaluation)
    return evaluation


def open_evaluation(module: ParamHolder, params: Any) -> Evaluation:
    """The evaluation of a call that is given params; inside of that of the caller, where the module belongs to it."""
    around = active_evaluation(module)
    standpoint = module.structure.layout.standpoint if around is None else around.standpoint.enter(module)
    values = given_values(module, standpoint.layout, standpoint.inside, params)
    if around is None:
        if ambient.state.overrides:
            values.update(ambient.overrides_below(module))
    else:
        if params is None:
            check_entry(module, around, standpoint.inside)
        if standpoint.carries:
            enter_constants(module, around, standpoint.inside, values)
    evaluation = Evaluation(standpoint, values, around)
    if not evaluation.double and any(is_double(value) for value in values.values()):
        evaluation.widen()
    return evaluation


def is_double(value: Any) -> bool:
    """Whether a value is a tensor in double precision."""
    return isinstance(value, Tensor) and value.dtype is float64


def given_values(
    module: ParamHolder, layout: PlateLayout, inside: tuple[str, ...], params: Any, dynamic: bool = True
) -> dict[Param, Tensor]:
    """The values that a call is given, brought from the real line into the bounds of the params where they are such."""
    values = {} if params is None else unpack(module, layout, inside, params, dynamic)
    if ambient.state.unconstrained and ambient.takes_unconstrained(module, current_root()):
        return inside_bounds(values)
    return values


def inside_bounds(values: dict[Param, Tensor]) -> dict[Param, Tensor]:
    """Values that were given unconstrained, each inside of the bounds of its param."""
    return {param: param.from_valid(value) for param, value in values.items()}


def fill_params(module: ParamHolder, params: Any, dynamic: bool = True) -> None:
    """Give params their values for the call of a module that runs; overridden ones keep theirs.

    Raises:
        ActiveStateError: No call of this module runs, or a torch transform was entered since.
    """
    evaluation = current_evaluation()
    while evaluation is not None and evaluation.scoped:
        evaluation = evaluation.outer
    if evaluation is None or evaluation.root is not module:
        raise ActiveStateError(f"fill_params of {module!r} belongs inside of `with ActiveContext(module):`.")
    if evaluation.level != functorch_level():
        raise ActiveStateError(
            f"fill_params of {module!r} runs under a torch transform (vmap, grad, ...) that was entered after its "
            "ActiveContext, so the values would not make sense after it. Open the context inside of the transform."
        )
    values = unpack(module, evaluation.layout, evaluation.inside, params, dynamic)
    before = evaluation.previous
    where = None if before is None else before.root
    if ambient.takes_unconstrained(module, module) or ambient.takes_unconstrained(module, where):
        values = inside_bounds(values)
    if evaluation.outer is None:
        values.update(ambient.overrides_below(module))
    evaluation.fill(values)


def _check_complete(module: Module, evaluation: Evaluation) -> None:
    layout = evaluation.layout
    missing = [
        param
        for param in module.structure.dynamic_params
        # The members of a plate of unknown size are drawn by the simulator; who asks for them otherwise is told then.
        if evaluation.value(param) is None and all(layout.plate(name).size for name in layout.chains[param])
    ]
    if missing:
        names = ", ".join(evaluation.layout.paths[param] for param in missing)
        raise FillParamsError(
            f"The call of {module!r} is given no value for {names}, which {'is' if len(missing) == 1 else 'are'} dynamic "
            "and without a value of its own. Pass params as the last argument, or set the value."
        )
