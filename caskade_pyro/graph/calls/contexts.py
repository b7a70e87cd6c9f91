"""Contexts: a module opened for a call, params overridden for a while, values exchanged without bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import ActiveStateError, ParamTypeError
from ..nodes.paths import node_path
from ..nodes.structure import is_param
from . import ambient
from .evaluation import Evaluation, active_evaluation, current_evaluation, current_root
from .forward import open_evaluation
from .packing import as_value

if TYPE_CHECKING:
    from ..nodes.param import Param
    from ..nodes.values import ParamHolder

__all__ = ["ActiveContext", "OverrideParam", "ValidContext"]


class ActiveContext:
    """Open a call by hand: within it params are filled, and forward methods called without giving params to each.

    Args:
        module: The module to call. It is also what ``with ActiveContext(module) as m`` binds.

    Raises:
        ActiveStateError: A call of the module runs already.

    Example:
        >>> import caskade_pyro as ck
        >>> class Line(ck.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.slope = ck.Param("slope", shape=())
        ...
        ...     @ck.forward
        ...     def at(self, x, slope):
        ...         return slope * x
        >>> line = Line()
        >>> with ck.ActiveContext(line):
        ...     line.fill_params([3.0])
        ...     line.at(1.0), line.at(2.0)
        (tensor(3.), tensor(6.))
    """

    def __init__(self, module: ParamHolder) -> None:
        self.module = module
        self._entered: list[Evaluation] = []

    def __enter__(self) -> ParamHolder:
        current = current_evaluation()
        if current is not None and self.module in current.standpoint.online:
            raise ActiveStateError(f"A call of {self.module!r} runs already; ActiveContext opens a new one.")
        self._entered.append(open_evaluation(self.module, None).__enter__())
        return self.module

    def __exit__(self, *exception: object) -> None:
        self._entered.pop().__exit__(*exception)


class ValidContext:
    """Exchange unconstrained values: what is given to calls and ``set_values`` is mapped into the bounds of the params.

    ``get_values`` returns unconstrained values in turn. The context concerns a module and all modules below it, in the
    thread that entered it; what the modules pass to each other within a call are values as they are. It changes
    coordinates and no density: for posteriors use priors, not this.

    Args:
        module: The module.

    Example:
        >>> import caskade_pyro as ck
        >>> line = ck.Module("line")
        >>> line.width = ck.Param("width", 1.0, valid=(0.0, None), dynamic=True)
        >>> with ck.ValidContext(line):
        ...     line.get_values()
        ...     line.set_values([-1.0])
        tensor([0.])
        >>> line.width.value
        tensor(0.3679)
    """

    def __init__(self, module: ParamHolder) -> None:
        self.module = module
        self._former: list[tuple[ambient.Unconstrained, ...]] = []

    def __enter__(self) -> ParamHolder:
        former = ambient.state.unconstrained
        self._former.append(former)
        ambient.replace(ambient.state.overrides, (*former, (self.module, current_root())))
        return self.module

    def __exit__(self, *_: object) -> None:
        ambient.replace(ambient.state.overrides, self._former.pop())


class OverrideParam:
    """Give a param another value for a while, whatever its role and whatever is passed for it.

    Inside of a forward method this concerns the rest of the block; around calls, every call made within it. Pointers
    that depend on the param follow. The graph itself stays as it is, and so does every other thread.

    Args:
        param: The param.
        value: A number, array or tensor of the param's shape, batch dims in front.

    Raises:
        ParamTypeError: ``param`` is no param, or the value no number, array or tensor.
        FillParamsError: The value does not have the param's shape.

    Example:
        >>> import caskade_pyro as ck
        >>> width = ck.Param("width", 1.0)
        >>> area = ck.Param("area", lambda p: p.width.value ** 2, link=width)
        >>> with ck.OverrideParam(width, 3.0):
        ...     area.value
        tensor(9.)
        >>> area.value
        tensor(1.)
    """

    def __init__(self, param: Param, value: Any) -> None:
        if not is_param(param):
            raise ParamTypeError(f"OverrideParam needs a param, got {param!r}.")
        self.param = param
        self.value = as_value(param, node_path(param), value)
        self._entered: list[Evaluation | tuple[ambient.Override, ...]] = []

    def __enter__(self) -> Param:
        evaluation = active_evaluation(self.param)
        if evaluation is not None:
            self._entered.append(evaluation.scope({self.param: self.value}).__enter__())
        else:
            former = ambient.state.overrides
            self._entered.append(former)
            ambient.replace((*former, (self.param, self.value)), ambient.state.unconstrained)
        return self.param

    def __exit__(self, *exception: object) -> None:
        entered = self._entered.pop()
        if isinstance(entered, Evaluation):
            entered.__exit__(*exception)
        else:
            ambient.replace(entered, ambient.state.unconstrained)
