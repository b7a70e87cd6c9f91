"""Params: the values of a simulator, fixed, free, tied to others, or set while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ...errors import ActiveStateError, GraphError, ParamConfigurationError, ParamTypeError
from ..calls.ambient import override_of
from ..calls.evaluation import active_evaluation, outside_of_calls
from .arrays import as_array, carried, in_double, of_numbers
from .bounded import Bounded
from .node import Node
from .paths import node_path
from .pointing import Pointer, Pointing, as_nodes
from .prior import Prior, as_prior
from .prior_shape import shape_of_prior
from .role import Role
from .shapes import Shape, Template, as_shape, holds, show

__all__ = ["Param", "Role"]


class _Keep(Enum):
    VALUE = "keep the current value"


class Param(Bounded, Pointing):
    """A param of a simulator.

    It is *static* (a fixed value; with None, a *live* param that the simulator sets itself while it runs), *dynamic* (an
    input of every call, sampled in inference) or a *pointer* (the value of another param, or a function of others).

    Args:
        name: Its name, a Python identifier.
        value: A number, tensor or array; a `Param` or function for a pointer; None for a dynamic param without value.
            Leading dims in front of ``shape`` are batch dims. Integers become the default floating dtype.
        shape: The shape of ONE value. None in it stands for any size. Without it, the shape of the value, or of the
            prior, is taken.
        cyclic: The valid range is a circle.
        valid: Bounds ``(low, high)``, each a number, a tensor or None.
        units: Of the value, for labels.
        dynamic: True makes a param with a value dynamic; False one without a value live.
        group: Dynamic params of each group are passed in a vector of their own.
        batch_shape: Batch dims, where the value does not tell.
        dtype: Of the value.
        device: Of the value.
        prior: A distribution, or ``ck.prior(...)``.
        centered: Whether samplers use the value itself (True) or its offset from the prior's location in units of the
            scale (False); None leaves it to them.
        link: Nodes that a pointer function uses.
        description: Free text.

    Raises:
        ParamConfigurationError: Value, shape, batch shape or bounds do not fit each other.
        ParamTypeError: The value or prior is of the wrong kind.

    Example:
        >>> x0 = Param("x0", [[0, 0], [3, 1]], shape=(2,), units="pixel")
        >>> x0.shape, x0.batch_shape
        ((2,), (2,))
    """

    def __init__(
        self,
        name: str,
        value: Any = None,
        shape: Iterable[int | None] | None = None,
        cyclic: bool = False,
        valid: tuple[Any, Any] | None = None,
        units: str | None = None,
        dynamic: bool | None = None,
        group: int = 0,
        batch_shape: Iterable[int] | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        *,
        prior: object = None,
        centered: bool | None = None,
        link: Node | Sequence[Node] | None = None,
        description: str = "",
    ) -> None:
        super().__init__(name, link=link, description=description)
        self._role = Role.DYNAMIC if dynamic or (dynamic is None and value is None) else Role.STATIC
        self._stored: Tensor | None = None
        self._exact: Tensor | None = None
        self._pointer: Pointer | None = None
        self._shape: Template | None = None if shape is None else as_shape(shape, f"shape of param {name!r}")
        self._batch_shape: Shape | None = None
        self._dtype = dtype
        self._device = device
        self._valid: tuple[Tensor | None, Tensor | None] = (None, None)
        self._exact_valid: tuple[Tensor | None, Tensor | None] = (None, None)
        self._cyclic = False
        self._group = 0
        self._prior: Prior | None = None
        self.units = units
        self.centered = centered
        if batch_shape is not None:
            self.batch_shape = tuple(batch_shape)
        self.value = value
        self.group = group
        self._set_bounds(valid, cyclic)
        self.prior = prior

    # Role

    @property
    def role(self) -> Role:
        """Static, dynamic or pointer."""
        return self._role

    @property
    def dynamic(self) -> bool:
        """Whether the value is an input of every call."""
        return self._role is Role.DYNAMIC

    @property
    def static(self) -> bool:
        """Whether the value is fixed, or set during the call."""
        return self._role is Role.STATIC

    @property
    def pointer(self) -> bool:
        """Whether the value is that of another param, or a function of others."""
        return self._role is Role.POINTER

    @property
    def live(self) -> bool:
        """Whether the value is set by the simulator while it runs: static, and without a value of its own."""
        return self.static and self._stored is None

    @property
    def node_type(self) -> str:
        """The role as a word."""
        return self._role.value

    def to_dynamic(self, value: Any = _Keep.VALUE) -> None:
        """Make this an input of every call, with a value of its own or the present one.

        Raises:
            ActiveStateError: A call runs.
            ParamTypeError: The value is a param or a function.
            ParamConfigurationError: The value does not have the param's shape.
        """
        self._fix(Role.DYNAMIC, value)

    def to_static(self, value: Any = _Keep.VALUE) -> None:
        """Fix this param at a value, or at the present one; ``to_static(None)`` makes it live.

        Raises:
            ActiveStateError: A call runs.
            ParamTypeError: The value is a param or a function.
            ParamConfigurationError: The value does not have the param's shape.
        """
        self._fix(Role.STATIC, value)

    def _fix(self, role: Role, value: Any) -> None:
        self._refuse_while_active(f"make {role.value}", self.name)
        if isinstance(value, Param) or callable(value):
            raise ParamTypeError(
                f"Param {node_path(self)}: a {role.value} value must be a number or tensor, not {value!r}."
            )
        if value is _Keep.VALUE and not self.pointer:  # which has been accepted before
            stored = None if self._stored is None else self._as_tensor(self._stored, role)
        else:
            value = self._pointer_value_outside() if value is _Keep.VALUE else value
            stored = None if value is None else self._accept(value, role)
        self._unlink_target()
        self._store(role, stored)
        self.is_valid()

    def to_pointer(self, value: Param | Callable[[Param], Any], link: Node | Sequence[Node] = ()) -> None:
        """Tie this param to another, or to a function of others.

        Args:
            value: A param, or a function of this param that returns a value: ``lambda p: 2 * p.width.value``.
            link: The nodes that the function uses, which become children of this param.

        Raises:
            ActiveStateError: A call runs.
            ParamTypeError: ``value`` is neither.
            GraphError: The link would close a cycle.
        """
        self._refuse_while_active("point", self.name)
        if not isinstance(value, Param) and not callable(value):
            raise ParamTypeError(f"Param {node_path(self)} can point to a param or a function, not to {value!r}.")
        wanted: list[Node] = [value] if isinstance(value, Param) else as_nodes(getattr(value, "params", ()))
        wanted += as_nodes(link)
        former = self._pointer
        former_nodes = [self._children[key] for key in former.keys] if former else []
        self._unlink_target()
        try:
            keys = self._link_targets(wanted)
        except GraphError:
            self._link_targets(former_nodes)
            raise
        self._role, self._pointer, self._stored = Role.POINTER, Pointer(value, keys), None
        self._invalidate()

    @property
    def target(self) -> Param | None:
        """The param that this one points to directly; None for a function of others."""
        target = None if self._pointer is None else self._pointer.target
        return target if isinstance(target, Param) else None

    def follow(self) -> Tensor | None:
        """The value that this pointer has now: that of its target, or what its function returns."""
        if self._pointer is None:
            return None
        target = self._pointer.target
        if isinstance(target, Param):
            return target.value
        value = cast("Callable[[Param], Any]", target)(self)
        return value if value is None or isinstance(value, Tensor) else self._as_tensor(value, Role.DYNAMIC)

    def _pointer_value_outside(self) -> Tensor | None:
        """The value of a pointer that is about to be fixed; None where something that it needs has no value yet."""
        needed = [node for node in self.structure.params if node is not self and not node.pointer]
        if any(node.value is None for node in needed):
            return None
        return self.value

    # Value

    @property
    def stored_value(self) -> Tensor | None:
        """The value that the graph holds, whatever call may run."""
        return self._stored

    @property
    def exact_value(self) -> Tensor | None:
        """As `stored_value`; a value given as numbers of Python is in double, whatever the default precision."""
        exact, stored = self._exact, self._stored
        return stored if exact is None or stored is None else exact.to(stored.device)

    @property
    def value(self) -> Tensor | None:
        """The value: during a call the one of that call, otherwise the one that the graph holds."""
        evaluation = active_evaluation(self)
        if evaluation is not None:
            return evaluation.value(self)
        if not self.pointer:
            overridden = override_of(self)
            return self._stored if overridden is None else overridden
        with outside_of_calls(self) as evaluation:
            return evaluation.value(self)

    @value.setter
    def value(self, value: Any) -> None:
        evaluation = active_evaluation(self)
        if evaluation is not None:
            if not self.live:
                raise ActiveStateError(
                    f"Param {node_path(self)} is {self.node_type} and cannot be set during a call. "
                    "Only a live param can: make it one with to_static(None) before the call."
                )
            given = self._as_tensor(value, Role.STATIC)
            evaluation.set_live(self, in_double(given) if evaluation.double else given)
        elif isinstance(value, Param) or callable(value):
            self.to_pointer(value)
        else:
            self._fix(Role.DYNAMIC if self.dynamic else Role.STATIC, value)

    @property
    def npvalue(self) -> np.ndarray[Any, Any] | None:
        """The value as a numpy array."""
        value = self.value
        return None if value is None else value.detach().cpu().numpy()

    def _store(self, role: Role, value: Tensor | None) -> None:
        former = (self._role, None if self._stored is None else self._stored.shape)
        if value is not self._stored:
            self._exact = None if value is None else carried(value)
        self._role, self._stored, self._pointer = role, value, None
        if former != (role, None if value is None else value.shape):
            self._invalidate()

    def _as_tensor(self, value: Any, role: Role) -> Tensor:
        try:
            tensor = torch.as_tensor(as_array(value), dtype=self._dtype, device=self._device)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ParamTypeError(
                f"Param {node_path(self)}: {value!r} is no number, array or tensor ({error})."
            ) from None
        inexact = tensor.is_floating_point() or tensor.is_complex()
        given_as_numbers = not isinstance(value, (Tensor, np.ndarray)) and tensor.dtype is not torch.bool
        if not inexact and self._dtype is None and (role is Role.DYNAMIC or given_as_numbers):
            tensor = tensor.to(torch.get_default_dtype())
        return of_numbers(tensor, value) if self._dtype is None else tensor

    def _accept(self, value: Any, role: Role) -> Tensor:
        """A value as a tensor, if it has the shape that this param declares."""
        tensor = self._as_tensor(value, role)
        if self._shape is not None and not holds(tuple(tensor.shape), self._shape, self._batch_shape):
            batch = "" if self._batch_shape is None else f" after the batch shape {show(self._batch_shape)}"
            raise ParamConfigurationError(
                f"Param {node_path(self)}: the value has shape {show(tensor.shape)}, but the param's own shape is "
                f"{show(self._shape)}{batch}. Batch dims go in front of it."
            )
        return tensor

    # Shape

    @property
    def declared_shape(self) -> Template | None:
        """The shape that was declared; None if none was."""
        return self._shape

    @property
    def declared_batch_shape(self) -> Shape | None:
        """The batch shape that was declared; None if none was."""
        return self._batch_shape

    @property
    def shape(self) -> Template:
        """The shape of ONE value, without batch dims."""
        if self.pointer:
            value = self.value
            return () if value is None else tuple(value.shape)
        if self._shape is None:
            if self._stored is not None:
                return tuple(self._stored.shape)[len(self._batch_shape or ()) :]
            return () if self._prior is None else shape_of_prior(self)
        if self._stored is None or None not in self._shape:
            return self._shape
        sizes = tuple(self._stored.shape)[self._stored.ndim - len(self._shape) :]
        return tuple(size if declared is None else declared for declared, size in zip(self._shape, sizes, strict=True))

    @shape.setter
    def shape(self, shape: Iterable[int | None] | None) -> None:
        self._refuse_while_active("shape", self.name)
        if self.pointer:
            raise ParamTypeError(f"Param {node_path(self)} is a pointer: its shape is that of what it points to.")
        template = None if shape is None else as_shape(shape, f"shape of param {node_path(self)}")
        stored = self._stored
        if template is not None and stored is not None and not holds(stored.shape, template, self._batch_shape):
            raise ParamConfigurationError(
                f"Param {node_path(self)}: the shape {show(template)} does not fit its value of shape {show(stored.shape)}."
            )
        self._shape = template
        self._invalidate()

    @property
    def batch_shape(self) -> Shape:
        """The batch dims in front of the value; ``()`` if it is not batched."""
        if self._batch_shape is not None and not self.pointer:
            return self._batch_shape
        if self.pointer or self._shape is None or self._stored is None:
            return ()
        return tuple(self._stored.shape)[: self._stored.ndim - len(self._shape)]

    @batch_shape.setter
    def batch_shape(self, batch_shape: Iterable[int] | None) -> None:
        self._refuse_while_active("batch", self.name)
        if self.pointer:
            raise ParamTypeError(f"Param {node_path(self)} is a pointer: its batch shape is that of what it points to.")
        sizes = None if batch_shape is None else as_shape(batch_shape, f"batch shape of param {node_path(self)}")
        if sizes is not None and None in sizes:
            raise ParamConfigurationError(f"The batch shape of param {node_path(self)} needs sizes, not {show(sizes)}.")
        batch = cast("Shape | None", sizes)
        stored, own = self._stored, self._shape
        if batch is not None and stored is not None and own is not None and not holds(stored.shape, own, batch):
            raise ParamConfigurationError(
                f"Param {node_path(self)}: the batch shape {show(batch)} does not fit its value of shape "
                f"{show(stored.shape)}, own shape {show(own)}."
            )
        self._batch_shape = batch
        self._invalidate()

    @property
    def batched(self) -> bool:
        """Whether there are batch dims."""
        return len(self.batch_shape) > 0

    # What else is known of the param

    @property
    def prior(self) -> Prior | None:
        """The prior; set a distribution, ``ck.prior(...)`` or None."""
        return self._prior

    @prior.setter
    def prior(self, value: object) -> None:
        self._refuse_while_active("set the prior of", self.name)
        self._prior = as_prior(value, node_path(self))
        self._invalidate()

    @property
    def group(self) -> int:
        """The group of dynamic params that this one is passed with."""
        return self._group

    @group.setter
    def group(self, group: int) -> None:
        self._refuse_while_active("group", self.name)
        if isinstance(group, bool) or not isinstance(group, int):
            raise ParamConfigurationError(f"Param {node_path(self)}: the group must be an integer, not {group!r}.")
        self._group = group
        self._invalidate()

    @property
    def declared_dtype(self) -> torch.dtype | None:
        """The dtype that was declared; None if none was."""
        return self._dtype

    @property
    def dtype(self) -> torch.dtype | None:
        """The dtype of the value, where it is known."""
        value = self._stored
        return self._dtype if self._dtype is not None or value is None else value.dtype

    @property
    def device(self) -> torch.device | str | None:
        """The device of the value, where it is known."""
        value = self._stored
        return self._device if self._device is not None or value is None else value.device

    def _to(self, device: torch.device | str | None, dtype: torch.dtype | None) -> None:
        self._device = device if device is not None else self._device
        self._dtype = dtype if dtype is not None else self._dtype
        if self._stored is not None:
            held = self._stored if dtype is None else self.exact_value
            self._stored = cast("Tensor", held).to(device=device, dtype=dtype)
        self._exact = self._exact if dtype is None else None
        self._move_bounds(device, dtype)

    def __repr__(self) -> str:
        return self.name
