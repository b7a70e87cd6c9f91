"""Reading and writing the params of a graph: the part that modules and collections of nodes share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ...errors import FillParamsMappingError, ParamConfigurationError
from ..calls.evaluation import active_evaluation
from ..calls.forward import given_values
from ..calls.packing import pack, to_dict, unpack
from .finders import Finders
from .structure import is_param
from .unconstrained import UnconstrainedValues

if TYPE_CHECKING:
    from ..plates.layout import Placement
    from .param import Param
    from .shapes import Shape

__all__ = ["ParamHolder"]


class ParamHolder(Finders, UnconstrainedValues):
    """A node with params below it."""

    @property
    def dynamic_params(self) -> tuple[Param, ...]:
        """The dynamic params below, in the order in which calls expect them."""
        return self.structure.dynamic_params

    @property
    def static_params(self) -> tuple[Param, ...]:
        """The static params below, live ones included."""
        return self.structure.static_params

    @property
    def pointer_params(self) -> tuple[Param, ...]:
        """The pointers below."""
        return self.structure.pointer_params

    @property
    def all_params(self) -> tuple[Param, ...]:
        """The static, the dynamic and the pointer params below."""
        return self.static_params + self.dynamic_params + self.pointer_params

    @property
    def dynamic_param_groups(self) -> tuple[int, ...]:
        """The groups of the dynamic params below."""
        return self.structure.groups

    @property
    def dynamic(self) -> bool:
        """Whether one of this node's own params is dynamic."""
        return any(is_param(child) and child.dynamic for child in self.children.values())  # type: ignore[attr-defined]

    @property
    def static(self) -> bool:
        """Whether none of this node's own params is dynamic."""
        return not self.dynamic

    def to_dynamic(self, children_only: bool = True) -> None:
        """Make params dynamic that are no pointers: this node's own, or all below."""
        for param in self._fixable(children_only):
            param.to_dynamic()

    def to_static(self, children_only: bool = True) -> None:
        """Make params static that are no pointers: this node's own, or all below."""
        for param in self._fixable(children_only):
            param.to_static()

    def _fixable(self, children_only: bool) -> list[Param]:
        nodes = self.children.values() if children_only else self.structure.order
        return [node for node in nodes if is_param(node) and not node.pointer]  # type: ignore[attr-defined,misc]

    def get_values(
        self,
        scheme: str = "array",
        dynamic: bool = True,
        attribute: str | Callable[[Param], Any] = "value",
        group: int | None = None,
        respect_valid: bool = True,
    ) -> Any:
        """The values of the params below.

        Args:
            scheme: ``"array"`` (or ``"tensor"``) for one vector, with the batch dims of the whole model in front;
                ``"list"`` for one value for each param; ``"dict"`` for a nested dict that follows the links.
            dynamic: The dynamic params, or the static ones.
            attribute: What to read of each param: the name of an attribute, or a function of the param.
            group: Only this group. With several groups and no choice, a list with the values of each.
            respect_valid: False returns values as they are even inside of a `ValidContext`.

        Raises:
            ParamConfigurationError: A param has no value.

        Example:
            >>> import caskade_pyro as ck
            >>> line = ck.Module("line")
            >>> line.slope = ck.Param("slope", 2.0, dynamic=True)
            >>> line.offset = ck.Param("offset", [0.5, 1.5], dynamic=True)
            >>> line.get_values()
            tensor([2.0000, 0.5000, 1.5000])
        """
        chosen = self.dynamic_params if dynamic else self.static_params
        groups = sorted({param.group for param in chosen})
        if len(groups) > 1 and group is None:
            return [self.get_values(scheme, dynamic, attribute, one, respect_valid) for one in groups]
        params = tuple(param for param in chosen if group is None or param.group == group)
        read = attribute if callable(attribute) else lambda param: getattr(param, attribute)
        if attribute == "value":
            self._check_values(params)
            if respect_valid and self.valid_context:
                read = lambda param: param.to_valid(param.value)  # noqa: E731 - as above
        scheme = scheme.lower()
        if scheme in ("array", "tensor"):
            evaluation = active_evaluation(self)
            layout = self.structure.layout if evaluation is None else evaluation.layout
            inside = () if evaluation is None else evaluation.inside
            return pack(self, layout, inside, params, read).detach()
        if scheme == "list":
            return [read(param) for param in params]
        if scheme == "dict":
            return to_dict(self, params, read)
        raise ParamConfigurationError(f"The scheme must be 'array', 'list' or 'dict', not {scheme!r}.")

    def _check_values(self, params: tuple[Param, ...]) -> None:
        missing = [self.structure.layout.paths[param] for param in params if param.value is None]
        if missing:
            raise ParamConfigurationError(
                f"{self!r}: {', '.join(missing)} {'has' if len(missing) == 1 else 'have'} no value yet; set it first."
            )

    def set_values(
        self,
        params: Tensor | list[Any] | tuple[Any, ...] | dict[str, Any],
        dynamic: bool = True,
        attribute: str = "value",
        respect_valid: bool = True,
    ) -> None:
        """Give the params below new values; if one does not fit, none is changed.

        Args:
            params: In any of the forms that `get_values` returns.
            dynamic: The dynamic params, or the static ones.
            attribute: What to set of each param, if not its value.
            respect_valid: False takes values as they are even inside of a `ValidContext`.

        Raises:
            FillParamsError: Too many or too few values, an unknown name, a pointer, or a wrong shape.
            PlateError: The sizes disagree within a plate.
            ActiveStateError: A call runs.
        """
        self._refuse_while_active("set values", "all")
        if isinstance(params, Tensor):
            params = params.clone()
        if attribute != "value":
            for param, given in unpack(self, self.structure.layout, (), params, dynamic).items():
                setattr(param, attribute, given)
            return
        read = given_values if respect_valid else unpack
        values = read(self, self.structure.layout, (), params, dynamic)
        if pointers := [self.structure.layout.paths[param] for param in values if param.pointer]:
            raise FillParamsMappingError(
                f"{', '.join(pointers)} cannot be set: a pointer has the value of what it points to."
            )
        layout = self.structure.layout
        former = [(param, param.declared_batch_shape, param.stored_value) for param in values]
        try:
            for param, value in values.items():
                param._batch_shape = _declared_with_replicates(layout.placement(param), value)
                param._store(param.role, param._accept(value, param.role))
                param.is_valid()
            _ = self.structure.layout  # which raises where sizes disagree
        except Exception:
            for param, batch_shape, before in former:
                param._batch_shape = batch_shape
                param._store(param.role, before)
            raise


def _declared_with_replicates(placement: Placement, value: Tensor) -> Shape | None:
    """The declared batch shape of a param; with the replicates of the whole model in front, if a value has such."""
    declared = placement.param.declared_batch_shape
    batch_dims = value.ndim - len(placement.shape)
    return declared if declared is None or batch_dims <= len(placement.chain) else tuple(value.shape[:batch_dims])
