"""The table of operations: of each the types in which it works, its C++ and what it costs.

An operation is a row of `OPERATIONS`, by the name that torch has for it. There are four kinds of rows: those that compute
an element from elements (`Pointwise`), those that join many elements (`Reduction`), those that only rearrange (`View`), and
those that are made of others (`Composite`). Whatever has no row is said in simpler operations by torch, or left to Inductor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from .composites import COMPOSITES
from .views import VIEWS

__all__ = ["CAST", "OPERATIONS", "PARTS", "Combine", "Composite", "Operation", "Pointwise", "Reduction", "View"]


@dataclass(frozen=True)
class Pointwise:
    """An operation on single elements.

    Attributes:
        code: Its C++ for floating, whole and truth values, with a place for each operand; None where it does not take them.
        operands: To which type each operand is brought, a letter for each: that of the result (``r``), that to which torch
            promotes the operands (``p``), its own (``o``), or a truth value (``b``).
        is_cheap: Whether it may be computed twice rather than be kept in memory.
    """

    code: tuple[str | None, str | None, str | None]
    operands: str
    is_cheap: bool = True

    def template(self, dtypes: tuple[torch.dtype, ...]) -> str | None:
        """Its C++ for operands of these types; None where it does not take them."""
        telling = [one for one, letter in zip(dtypes, self.operands, strict=True) if letter != "b"] or [torch.bool]
        if len(dtypes) != len(self.operands) or telling[0].is_complex:
            return None
        return self.code[0 if telling[0].is_floating_point else 2 if telling[0] == torch.bool else 1]

    def takes(self, dtypes: tuple[torch.dtype, ...]) -> bool:
        """Whether it takes operands of these types."""
        return len(dtypes) == len(self.operands) and self.template(dtypes) is not None


@dataclass(frozen=True)
class Combine:
    """How many elements become one.

    Attributes:
        op: The operation on two.
        identity: What there is before the first, in C++; ``T`` is the type.
    """

    op: Pointwise
    identity: str

    @property
    def is_sum(self) -> bool:
        """Whether the order may be changed, so that vectors of partial results can be had."""
        return self is SUM


@dataclass(frozen=True)
class Reduction:
    """An operation that joins the elements along some dims.

    Attributes:
        combine: How.
        of_nothing: What it is of no elements; None if there is no such thing.
        is_mean: Whether it divides by their number.
    """

    combine: Combine
    of_nothing: float | None
    is_mean: bool = False


@dataclass(frozen=True)
class View:
    """An operation that rearranges the places of elements; its function is of places as a numpy array, and arguments."""

    of_places: Callable[..., Any]


@dataclass(frozen=True)
class Composite:
    """An operation made of others; its function is of the builder, the type of the result, and the arguments."""

    write: Callable[..., Any]


Operation = Pointwise | Reduction | View | Composite


def _floating(code: str, operands: str = "r", is_cheap: bool = False) -> Pointwise:
    """An operation that torch makes in floating types alone."""
    return Pointwise((code, None, None), operands, is_cheap)


def _numbers(code: str, operands: str = "rr", whole: str | None = None, truth: str | None = None) -> Pointwise:
    """Plain arithmetic on numbers."""
    return Pointwise((code, code if whole is None else whole, truth), operands)


def _any(code: str, operands: str) -> Pointwise:
    """The same text for all types."""
    return Pointwise((code, code, code), operands)


def _rounding(name: str) -> Pointwise:
    return Pointwise((f"std::{name}({{0}})", "{0}", None), "r", is_cheap=False)


CAST = _any("{0}", "r")
ADD = _numbers("{0} + {1}", truth="{0} || {1}")
MULTIPLY = _numbers("{0} * {1}", truth="{0} && {1}")
LARGER = _any("larger({0}, {1})", "rr")
SMALLER = _any("smaller({0}, {1})", "rr")
EITHER = _any("{0} || {1}", "bb")
BOTH = _any("{0} && {1}", "bb")

SUM = Combine(ADD, "T(0)")

FUNCTIONS = (
    "exp", "log", "log1p", "expm1", "sqrt", "sin", "cos", "tan", "tanh", "atan", "asin", "acos", "sinh", "cosh", "erf",
    "erfc", "lgamma", "exp2", "log2", "log10", "asinh", "acosh", "atanh",
)  # fmt: skip
"""Those that the C library has under the same name."""

POINTWISE: dict[str, Pointwise] = {
    **{name: _floating(f"std::{name}({{0}})") for name in FUNCTIONS},
    "plus": ADD,
    "minus": _numbers("{0} - {1}"),
    "mul": MULTIPLY,
    "quotient": _floating("{0} / {1}", "rr", is_cheap=True),
    "floor_quotient": Pointwise(("floor_quotient({0}, {1})", "whole_floor({0}, {1})", None), "rr", is_cheap=False),
    "trunc_quotient": Pointwise(("std::trunc({0} / {1})", "whole_quotient({0}, {1})", None), "rr", is_cheap=False),
    "remainder": Pointwise(("modulo({0}, {1})", "whole_modulo({0}, {1})", None), "rr", is_cheap=False),
    "fmod": Pointwise(("std::fmod({0}, {1})", "whole_rest({0}, {1})", None), "rr", is_cheap=False),
    "power": Pointwise(("std::pow({0}, {1})", "whole_power({0}, {1})", None), "rr", is_cheap=False),
    "neg": _numbers("-{0}", "r"),
    "abs": Pointwise(("std::fabs({0})", "absolute({0})", None), "r"),
    "sign": _any("sign_of({0})", "r"),
    "sgn": _any("sign_of({0})", "r"),
    "reciprocal": _floating("1 / {0}", is_cheap=True),
    "rsqrt": _floating("1 / std::sqrt({0})"),
    "sigmoid": _floating("1 / (1 + std::exp(-{0}))"),
    "floor": _rounding("floor"),
    "ceil": _rounding("ceil"),
    "trunc": _rounding("trunc"),
    "to_even": _rounding("nearbyint"),
    "atan2": _floating("std::atan2({0}, {1})", "rr"),
    "hypot": _floating("std::hypot({0}, {1})", "rr"),
    "copysign": _floating("std::copysign({0}, {1})", "rr", is_cheap=True),
    "digamma": _floating("digamma({0})"),
    "special_erfcx": _floating("erfcx({0})"),
    "softplus": _floating("softplus({0}, {1}, {2})", "rrr"),
    "softplus_backward": _floating("softplus_slope({0}, {1}, {2}, {3})", "rrrr"),
    "tanh_backward": _floating("{0} * (1 - {1} * {1})", "rr", is_cheap=True),
    "sigmoid_backward": _floating("{0} * (1 - {1}) * {1}", "rr", is_cheap=True),
    "maximum": LARGER,
    "minimum": SMALLER,
    **{
        name: _any(f"{{0}} {sign} {{1}}", "pp")
        for name, sign in {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}.items()
    },
    "logical_and": _any("{0} != 0 && {1} != 0", "pp"),
    "logical_or": _any("{0} != 0 || {1} != 0", "pp"),
    "logical_xor": _any("({0} != 0) != ({1} != 0)", "pp"),
    "logical_not": _any("{0} == 0", "o"),
    "bitwise_and": Pointwise((None, "{0} & {1}", "{0} && {1}"), "rr"),
    "bitwise_or": Pointwise((None, "{0} | {1}", "{0} || {1}"), "rr"),
    "bitwise_xor": Pointwise((None, "{0} ^ {1}", "{0} != {1}"), "rr"),
    "bitwise_not": Pointwise((None, "~{0}", "!{0}"), "r"),
    "isnan": Pointwise(("std::isnan({0})", "(void({0}), false)", "(void({0}), false)"), "o"),
    "isinf": Pointwise(("std::isinf({0})", "(void({0}), false)", "(void({0}), false)"), "o"),
    "isfinite": Pointwise(("std::isfinite({0})", "(void({0}), true)", "(void({0}), true)"), "o"),
    "signbit": Pointwise(("std::signbit({0})", "{0} < 0", "(void({0}), false)"), "o"),
    "where": _any("{0} ? {1} : {2}", "brr"),
    "masked_fill": _any("{1} ? {2} : {0}", "rbr"),
}

PARTS = {"plus", "minus", "quotient", "floor_quotient", "trunc_quotient", "power", "to_even"}
"""Those that torch does not have under these names: composites are made of them."""

REDUCTIONS: dict[str, Reduction] = {
    "sum": Reduction(SUM, 0),
    "mean": Reduction(SUM, math.nan, is_mean=True),
    "prod": Reduction(Combine(MULTIPLY, "T(1)"), 1),
    "amax": Reduction(Combine(LARGER, "lowest<T>()"), None),
    "amin": Reduction(Combine(SMALLER, "highest<T>()"), None),
    "any": Reduction(Combine(EITHER, "T(0)"), 0),
    "all": Reduction(Combine(BOTH, "T(1)"), 1),
}

OPERATIONS: Mapping[str, Operation] = {
    **POINTWISE,
    **REDUCTIONS,
    **{name: View(of_places) for name, of_places in VIEWS.items()},
    **{name: Composite(write) for name, write in COMPOSITES.items()},
}
