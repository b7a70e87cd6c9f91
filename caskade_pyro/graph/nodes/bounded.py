"""The part of a param that knows its bounds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any
from warnings import warn

import torch
from torch import Tensor

from ...errors import InvalidValueWarning, ParamConfigurationError
from ..calls.evaluation import functorch_level
from .arrays import in_double
from .node import Node
from .paths import node_path
from .role import Role
from .valid import constrained, outside, unconstrained

__all__ = ["Bounded"]


class Bounded(Node, ABC):
    """A node with a value that has bounds, or lies on a circle; `Param` is the one that is used."""

    _role: Role
    _stored: Tensor | None
    _valid: tuple[Tensor | None, Tensor | None]
    _exact_valid: tuple[Tensor | None, Tensor | None]
    _cyclic: bool

    @abstractmethod
    def _as_tensor(self, value: Any, role: Role) -> Tensor:
        """A value as a tensor of the dtype that a param of this role takes."""

    @property
    def cyclic(self) -> bool:
        """Whether the valid range is a circle."""
        return self._cyclic

    @cyclic.setter
    def cyclic(self, cyclic: bool) -> None:
        self._set_bounds(self._valid, cyclic)

    @property
    def valid(self) -> tuple[Tensor | None, Tensor | None]:
        """The bounds ``(low, high)``, None where there is none."""
        return self._valid

    @valid.setter
    def valid(self, valid: tuple[Any, Any] | None) -> None:
        self._set_bounds(valid, self._cyclic)

    @property
    def exact_valid(self) -> tuple[Tensor | None, Tensor | None]:
        """As `valid`; bounds given as numbers of Python are in double, whatever the default precision."""
        return self._exact_valid

    def _set_bounds(self, valid: tuple[Any, Any] | None, cyclic: bool) -> None:
        self._refuse_while_active("bound", self.name)
        low, high = (None, None) if valid is None else self._as_bounds(valid)
        if cyclic and (low is None or high is None):
            raise ParamConfigurationError(
                f"Param {node_path(self)} is cyclic: it needs valid=(low, high), the circle's ends."
            )
        if low is not None and high is not None and bool((in_double(low) >= in_double(high)).any()):
            raise ParamConfigurationError(f"Param {node_path(self)}: valid=({low}, {high}) must be low < high.")
        self._valid, self._cyclic = (low, high), bool(cyclic)
        self._exact_valid = in_double(low), in_double(high)
        self._invalidate()
        self.is_valid()

    def _as_bounds(self, valid: tuple[Any, Any]) -> tuple[Tensor | None, Tensor | None]:
        if not isinstance(valid, tuple) or len(valid) != 2:
            raise ParamConfigurationError(f"Param {node_path(self)}: valid must be a tuple (low, high), not {valid!r}.")
        low, high = (None if bound is None else self._as_tensor(bound, Role.DYNAMIC) for bound in valid)
        return low, high

    def is_valid(self, value: Any = None) -> bool:
        """Whether a value, by default the present one, lies within the bounds; warns if it does not."""
        value = self._stored if value is None else self._as_tensor(value, self._role)
        if value is None or self._cyclic or self._role is Role.POINTER:
            return True
        low, high = self._valid
        inside = (low is None or bool((value >= low).all())) and (high is None or bool((value <= high).all()))
        if not inside:
            warn(
                InvalidValueWarning(
                    f"Param {node_path(self)}: the value {value.tolist()} lies outside of its valid range "
                    f"({'-inf' if low is None else low.tolist()}, {'inf' if high is None else high.tolist()})."
                ),
                stacklevel=2,
            )
        return inside

    def to_valid(self, value: Any) -> Tensor:
        """Map values from between the bounds to the real line; a cyclic param's onto the circle.

        Args:
            value: Values of this param, with any dims in front.

        Returns:
            Unconstrained values of the same shape; `from_valid` is the exact inverse.

        Raises:
            ParamConfigurationError: A value lies on or outside of a bound. Under ``torch.vmap`` and ``torch.compile``, which
                cannot look at values, it becomes infinite or NaN instead.

        Example:
            >>> import caskade_pyro as ck
            >>> ck.Param("q", 0.5, valid=(0.0, 1.0)).to_valid(0.75)
            tensor(1.0986)
        """
        value = self._as_tensor(value, Role.DYNAMIC)
        if (
            not self._cyclic
            and functorch_level() == 0
            and not torch.compiler.is_compiling()
            and outside(value, self._valid)
        ):
            low, high = self._valid
            raise ParamConfigurationError(
                f"Param {node_path(self)}: {value.tolist()} has no unconstrained form, for it lies not inside the "
                f"bounds ({'-inf' if low is None else low.tolist()}, {'inf' if high is None else high.tolist()}) but on or "
                "beyond one of them. Move the value inside, or the bounds out."
            )
        return unconstrained(value, self._valid, self._cyclic)

    def from_valid(self, value: Any) -> Tensor:
        """Map any real values to values between the bounds: the inverse of `to_valid`.

        Args:
            value: Unconstrained values, with any dims in front.

        Returns:
            Values of the same shape, strictly between the bounds; a cyclic param's wrapped onto the circle.

        Example:
            >>> import caskade_pyro as ck
            >>> ck.Param("q", 0.5, valid=(0.0, 1.0)).from_valid(0.0)
            tensor(0.5000)
        """
        return constrained(self._as_tensor(value, Role.DYNAMIC), self._valid, self._cyclic)

    def _move_bounds(self, device: torch.device | str | None, dtype: torch.dtype | None) -> None:
        held = self._valid if dtype is None else self._exact_valid
        low, high = (None if bound is None else bound.to(device=device, dtype=dtype) for bound in held)
        exact_low, exact_high = (None if bound is None else bound.to(device=device) for bound in self._exact_valid)
        self._valid, self._exact_valid = (low, high), ((exact_low, exact_high) if dtype is None else (low, high))
