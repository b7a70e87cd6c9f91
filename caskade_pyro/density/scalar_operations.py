"""What torch's operations are in C++, on single numbers and as arrays of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import fx

from .scalar_views import Array, UnknownOperationError, numbers

__all__ = ["CHECKS", "COMPARING", "FLOATING", "HEADER", "KINDS", "OF_WHOLE", "PLAIN", "SAME", "WRITTEN"]

HEADER = """
#include <cmath>
#include <cstdint>
#include <type_traits>
static thread_local bool divided_by_zero = false;  // a whole number, which torch refuses
// Of what does not fit C++ says nothing; the processor gives the smallest.
template <typename I, typename T> static inline I whole(T x) {
    const T edge = T(sizeof(I) == 8 ? 9223372036854775808.0 : 2147483648.0);
    return x >= -edge && x < edge ? I(x) : I(1) << (8 * sizeof(I) - 1);
}
template <typename T> static inline T absolute(T x) { return x < 0 ? T(0 - x) : (x == 0 ? T(0) : x); }
template <typename T> static T quotient_trunc(T a, T b) {
    if constexpr (std::is_floating_point<T>::value) return T(std::trunc(a / b));
    if (b == 0) {
        divided_by_zero = true;
        return 0;
    }
    return std::is_signed<T>::value && b == T(-1) ? T(0 - a) : T(a / b);
}
template <typename T> static T rest_trunc(T a, T b) {
    if constexpr (std::is_floating_point<T>::value) return T(std::fmod(a, b));
    if (std::is_signed<T>::value && b == T(-1)) return 0;
    return T(a - quotient_trunc(a, b) * b);
}
template <typename T> static T modulo(T a, T b) {
    const T rest = rest_trunc(a, b);
    return rest != 0 && (rest < 0) != (b < 0) ? T(rest + b) : rest;
}
template <typename T> static T quotient_floor(T a, T b) {
    if constexpr (std::is_floating_point<T>::value) {
        if (b == 0) return a / b;
        const T rest = T(std::fmod(a, b));
        const T found = (a - rest) / b - ((rest != 0 && (rest < 0) != (b < 0)) ? T(1) : T(0));
        if (found == 0) return std::copysign(T(0), a / b);
        const T whole = std::floor(found);
        return found - whole > T(0.5) ? whole + 1 : whole;
    }
    const T found = quotient_trunc(a, b);
    return rest_trunc(a, b) != 0 && (a < 0) != (b < 0) ? T(found - 1) : found;
}
template <typename T> static T power(T a, T b) {
    if constexpr (std::is_floating_point<T>::value) return T(std::pow(a, b));
    if (b < 0) return a == T(1) ? T(1) : a == T(-1) ? (b % 2 == 0 ? T(1) : T(-1)) : T(0);
    T found = 1;
    for (; b != 0; b = T(b / 2), a = T(a * a)) if (b % 2 != 0) found = T(found * a);
    return found;
}
template <typename T> static inline T sign_of(T x) { return T((x > 0) - (x < 0)); }
template <typename T> static inline T larger(T a, T b) { return a != a ? a : (a > b ? a : (b != b ? b : b)); }
template <typename T> static inline T smaller(T a, T b) { return a != a ? a : (a < b ? a : (b != b ? b : b)); }
template <typename T> static T softplus(T x, T beta, T bound) {
    return x * beta > bound ? x : std::log1p(std::exp(x * beta)) / beta;
}
template <typename T> static T digamma(T given) {
    if (!(given > 0) && given == std::floor(given)) return given == 0 ? std::copysign(T(INFINITY), -given) : T(NAN);
    const double pi = 3.14159265358979323846;
    double x = given, found = 0;
    if (x < 0) {  // by reflection
        found = -pi / std::tan(pi * x);
        x = 1 - x;
    }
    for (; x < 10; x += 1) found -= 1 / x;
    const double y = 1 / (x * x);  // the asymptotic series
    const double series = 1. / 12 - y * (1. / 120 - y * (1. / 252 - y * (1. / 240 - y * (1. / 132 - y * 691. / 32760))));
    return T(found + std::log(x) - 1 / (2 * x) - y * series);
}
template <typename T> static T erfcx(T given) {
    const double x = given;
    if (x < 10) return T(std::exp(x * x) * std::erfc(x));
    double term = 1, found = 1;  // the asymptotic series, whose 12th term is below rounding from here on
    for (int k = 1; k <= 12; k++) found += term *= -(2 * k - 1) / (2 * x * x);
    return T(found / (x * 1.7724538509055160273));
}
template <typename T> static T softplus_slope(T g, T x, T beta, T bound) {
    const T e = std::exp(x * beta);
    return x * beta > bound ? g : g * e / (e + 1);
}
"""

PLAIN = {
    "neg": "-{0}", "exp": "std::exp({0})", "log": "std::log({0})", "log1p": "std::log1p({0})",
    "expm1": "std::expm1({0})", "sqrt": "std::sqrt({0})", "rsqrt": "(1 / std::sqrt({0}))",
    "sin": "std::sin({0})", "cos": "std::cos({0})", "tan": "std::tan({0})", "tanh": "std::tanh({0})",
    "atan": "std::atan({0})", "asin": "std::asin({0})", "acos": "std::acos({0})", "sinh": "std::sinh({0})",
    "cosh": "std::cosh({0})", "erf": "std::erf({0})", "erfc": "std::erfc({0})", "lgamma": "std::lgamma({0})",
    "abs": "absolute({0})", "sign": "sign_of({0})", "sgn": "sign_of({0})", "reciprocal": "(1 / {0})",
    "sigmoid": "(1 / (1 + std::exp(-{0})))", "floor": "std::floor({0})", "ceil": "std::ceil({0})",
    "round": "std::nearbyint({0})", "trunc": "std::trunc({0})", "fmod": "rest_trunc({0}, {1})",
    "remainder": "modulo({0}, {1})", "hypot": "std::hypot({0}, {1})", "copysign": "std::copysign({0}, {1})",
    "exp2": "std::exp2({0})", "log2": "std::log2({0})", "log10": "std::log10({0})", "asinh": "std::asinh({0})",
    "acosh": "std::acosh({0})", "atanh": "std::atanh({0})", "special_erfcx": "erfcx({0})", "signbit": "std::signbit({0})",
    "mul": "{0} * {1}", "atan2": "std::atan2({0}, {1})",
    "maximum": "larger({0}, {1})", "minimum": "smaller({0}, {1})",
    "lt": "{0} < {1}", "le": "{0} <= {1}", "gt": "{0} > {1}", "ge": "{0} >= {1}", "eq": "{0} == {1}", "ne": "{0} != {1}",
    "logical_and": "{0} && {1}", "logical_or": "{0} || {1}", "logical_xor": "!{0} != !{1}", "logical_not": "!{0}", "bitwise_not": "~{0}", "bitwise_xor": "{0} ^ {1}",
    "bitwise_and": "{0} & {1}", "bitwise_or": "{0} | {1}", "isnan": "std::isnan({0})", "isinf": "std::isinf({0})",
    "isfinite": "std::isfinite({0})", "where": "{0} ? {1} : {2}", "masked_fill": "{1} ? {2} : {0}",
    "tanh_backward": "{0} * (1 - {1} * {1})", "sigmoid_backward": "{0} * (1 - {1}) * {1}",
    "digamma": "digamma({0})", "softplus": "softplus({0}, {1}, {2})", "softplus_backward": "softplus_slope({0}, {1}, {2}, {3})",
}  # fmt: skip
"""Operations on single numbers, by name, in C++; their arguments are brought to the type of the result or its operands."""

OF_WHOLE = {
    **dict.fromkeys(("floor", "ceil", "round", "trunc"), "{0}"),
    "isnan": "false && {0}", "isinf": "false && {0}", "isfinite": "true || {0}", "signbit": "{0} < 0",
}  # fmt: skip
"""What is other, or nothing to do, for whole numbers."""

COMPARING = {
    "lt", "le", "gt", "ge", "eq", "ne", "isnan", "isinf", "isfinite", "signbit",
    "logical_and", "logical_or", "logical_xor", "logical_not",
}  # fmt: skip
"""Operations whose operands are brought to one type that is not that of the result."""

CHECKS = {
    "_linalg_check_errors"
}  # of a factorisation that fails; ours gives NaN, which a sampler takes for a divergence
SAME = {"detach", "alias", "clone", "lift_fresh_copy", "contiguous", "lift_fresh"}
KINDS = {
    torch.float32: "float", torch.float64: "double",
    torch.bool: "bool", torch.int64: "int64_t", torch.int32: "int32_t", torch.uint8: "uint8_t",
}  # fmt: skip
"""The types of tensors in C++."""

FLOATING = ("float", "double")


class Arithmetic(Protocol):
    """What operations of more than one line are made of."""

    def each(self, template: str, args: Sequence[Any], operands: str | Sequence[str], kind: str) -> Array:
        """An operation on each element of arrays, brought to one shape and to the kinds of operands."""

    def number(self, value: Any) -> Array:
        """A number as an array."""

    def total(self, kind: str, terms: Sequence[Any]) -> Any:
        """The sum of elements."""

    def zeros(self, shape: Sequence[int]) -> Array:
        """An array of zeros, to be written into."""


# Operations of more than one line


def _sum(
    writer: Arithmetic, _: fx.Node, kind: str, a: Array, dims: Any = None, keepdim: bool = False, **__: Any
) -> Array:
    axes = sorted({dim % max(a.ndim, 1) for dim in ([dims] if isinstance(dims, int) else dims or range(a.ndim))})
    if a.ndim == 0:
        return a
    kept = [axis for axis in range(a.ndim) if axis not in axes]
    count = math.prod(a.shape[axis] for axis in axes)
    rows = a.transpose([*kept, *axes]).reshape([*(a.shape[axis] for axis in kept), count])
    found = np.empty(rows.shape[:-1], dtype=object)
    for index in np.ndindex(found.shape):
        found[index] = writer.total(kind, list(rows[index]))
    return found.reshape([1 if axis in axes else s for axis, s in enumerate(a.shape)]) if keepdim else found


def _plus(writer: Arithmetic, _: fx.Node, kind: str, a: Any, b: Any, alpha: Any = 1) -> Array:
    if alpha == 1:
        return writer.each("{0} + {1}", (a, b), kind, kind)
    scaled = writer.each("{0} * {1}", (b, alpha), kind, kind)
    return writer.each("{0} + {1}", (a, scaled), kind, kind)


def _minus(writer: Arithmetic, _: fx.Node, kind: str, a: Any, b: Any, alpha: Any = 1) -> Array:
    scaled = b if alpha == 1 else writer.each("{0} * {1}", (b, alpha), kind, kind)
    return writer.each("{0} - {1}", (a, scaled), kind, kind)


def _power(writer: Arithmetic, _: fx.Node, kind: str, a: Any, b: Any) -> Array:
    known: dict[float, str] = {0: "{1}", 1: "{0}", 2: "{0} * {0}", 3: "{0} * {0} * {0}"}
    if kind in FLOATING:
        known |= {0.5: "std::sqrt({0})", -0.5: "1 / std::sqrt({0})", -1: "1 / {0}", -2: "1 / ({0} * {0})"}
    if not isinstance(b, np.ndarray) and b in known:
        one = 1 if b == 0 else 0
        return writer.each(known[b], (a, one), kind, kind)
    return writer.each("std::pow({0}, {1})" if kind in FLOATING else "power({0}, {1})", (a, b), kind, kind)


def _quotient(writer: Arithmetic, _: fx.Node, kind: str, a: Any, b: Any, rounding_mode: str | None = None) -> Array:
    template = "{0} / {1}" if rounding_mode is None else f"quotient_{rounding_mode}({{0}}, {{1}})"
    return writer.each(template, (a, b), kind, kind)


def _clamp(writer: Arithmetic, _: fx.Node, kind: str, a: Any, low: Any = None, high: Any = None) -> Array:
    found = a if low is None else writer.each("larger({0}, {1})", (a, low), kind, kind)
    return found if high is None else writer.each("smaller({0}, {1})", (found, high), kind, kind)


def _copy(writer: Arithmetic, node: fx.Node, kind: str, a: Array, **_: Any) -> Array:
    before = node.all_input_nodes[0].meta["val"].dtype
    if node.meta["val"].dtype == before:
        return a
    whole = before.is_floating_point and kind not in (*FLOATING, "bool")
    # By way of a wider one, as torch does it.
    template = f"({kind})whole<{'int32_t' if kind == 'int32_t' else 'int64_t'}>({{0}})" if whole else f"({kind}){{0}}"
    return writer.each(template, (a,), KINDS[before], kind)


def _scatter(writer: Arithmetic, shape: Sequence[int], at: Any, values: Array) -> Array:
    found = writer.zeros(shape)
    found[at] = values
    return found


def _replaced(a: Array, at: Any, values: Any) -> Array:
    found = a.copy()
    found[at] = values
    return found


def _diagonal_scatter(
    _: Arithmetic, __: fx.Node, ___: str, a: Array, b: Array, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> Array:
    places = np.diagonal(np.arange(a.size).reshape(a.shape), offset, dim1, dim2)
    flat = a.reshape(-1).copy()
    flat[places.reshape(-1)] = b.reshape(-1)
    return flat.reshape(a.shape)


def _select_backward(
    writer: Arithmetic, _: fx.Node, __: str, g: Array, sizes: Sequence[int], dim: int, index: int
) -> Array:
    at = (slice(None),) * (dim % len(sizes)) + (index,)
    return _scatter(writer, sizes, at, g if len(sizes) > 1 else g[()])


def _slice_backward(
    writer: Arithmetic, _: fx.Node, __: str, g: Array, sizes: Sequence[int], dim: int, start: int, end: int, step: int
) -> Array:
    return _scatter(writer, sizes, (slice(None),) * (dim % len(sizes)) + (slice(start, min(end, sizes[dim]), step),), g)


def _index_put(
    writer: Arithmetic, _: fx.Node, kind: str, a: Array, indices: Sequence[Any], values: Array, accumulate: bool = False
) -> Array:
    found = a.copy()
    places = np.arange(a.size).reshape(a.shape)[numbers(indices)]
    flat, given = found.reshape(-1), np.broadcast_to(values, places.shape).reshape(-1)
    for place, value in zip(places.reshape(-1), given, strict=True):
        old = flat[place]
        kept = accumulate and not (isinstance(old, (int, float)) and old == 0)
        flat[place] = writer.total(kind, (old, value)) if kept else value
    return flat.reshape(a.shape)


def _mean(
    writer: Arithmetic, node: fx.Node, kind: str, a: Array, dims: Any = None, keepdim: bool = False, **_: Any
) -> Array:
    total = _sum(writer, node, kind, a, dims, keepdim)
    return writer.each("{0} / {1}", (total, a.size // max(total.size, 1)), kind, kind)


def _prod(
    writer: Arithmetic, _: fx.Node, kind: str, a: Array, dim: int | None = None, keepdim: bool = False, **__: Any
) -> Array:
    rows = a.reshape(1, a.size) if dim is None or a.ndim == 0 else np.moveaxis(a, dim, -1)
    if rows.shape[-1] == 0:
        one = np.broadcast_to(writer.number(1), rows.shape[:-1])
        return one.reshape(()) if dim is None else np.expand_dims(one, dim) if keepdim else one
    found = rows[..., 0]
    for index in range(1, rows.shape[-1]):
        found = writer.each("{0} * {1}", (found, rows[..., index]), kind, kind)
    return found.reshape(()) if dim is None or a.ndim == 0 else np.expand_dims(found, dim) if keepdim else found


def _extreme(template: str) -> Callable[..., Any]:
    """The largest or smallest element along dims, one comparison after the other."""

    def found(
        writer: Arithmetic, _: fx.Node, kind: str, a: Array, dims: Any = (), keepdim: bool = False, **__: Any
    ) -> Array:
        axes = sorted({dim % max(a.ndim, 1) for dim in ([dims] if isinstance(dims, int) else dims or range(a.ndim))})
        if a.ndim == 0:
            return a
        kept = [size for axis, size in enumerate(a.shape) if axis not in axes]
        count = math.prod(a.shape[axis] for axis in axes)
        rows = np.moveaxis(a, axes, range(a.ndim - len(axes), a.ndim)).reshape([*kept, count])
        largest = rows[..., 0]
        for index in range(1, rows.shape[-1]):
            largest = writer.each(template, (largest, rows[..., index]), kind, kind)
        return largest.reshape([1 if axis in axes else size for axis, size in enumerate(a.shape)] if keepdim else kept)

    return found


def _round(writer: Arithmetic, _: fx.Node, kind: str, a: Any, decimals: int = 0) -> Array:
    if kind not in FLOATING:
        raise UnknownOperationError("whole numbers are not rounded to decimals in scalars")
    up, down = ("*", "/") if decimals > 0 else ("/", "*")
    template = f"std::nearbyint({{0}} {up} {{1}}) {down} {{1}}"
    return writer.each(template, (a, float(10 ** abs(decimals))), kind, kind)


WRITTEN: dict[str, Callable[..., Any]] = {
    "round": _round,
    "amax": _extreme("larger({0}, {1})"),
    "amin": _extreme("smaller({0}, {1})"),
    "prod": _prod,
    "sum": _sum,
    "mean": _mean,
    "add": _plus,
    "sub": _minus,
    "rsub": lambda writer, node, kind, a, b, alpha=1: _minus(writer, node, kind, b, a, alpha),
    "pow": _power,
    "slice_scatter": lambda _, __, ___, a, b, dim=0, start=None, end=None, step=1: _replaced(
        a, (slice(None),) * (dim % a.ndim) + (slice(start, None if end is None else min(end, a.shape[dim]), step),), b
    ),
    "select_scatter": lambda _, __, ___, a, b, dim, index: _replaced(
        a, (slice(None),) * (dim % a.ndim) + (index,), b if b.ndim else b[()]
    ),
    "diagonal_scatter": _diagonal_scatter,
    "div": _quotient,
    "floor_divide": lambda writer, node, kind, a, b: _quotient(writer, node, kind, a, b, "floor"),
    "clamp": _clamp,
    "clamp_min": _clamp,
    "_to_copy": _copy,
    "select_backward": _select_backward,
    "slice_backward": _slice_backward,
    "index_put": _index_put,
}
