"""By operation of `torch.ops.aten`, cases that call it."""

import functools
import operator
import random

import torch
from operation_cases import (
    BOOL,
    DTYPES,
    FEW,
    FLOAT32,
    FLOAT64,
    FLOATS,
    INT64,
    UINT8,
    VALUES,
    Case,
    Operand,
    _some,
    aten,
    binary,
    on_array,
    pairs_of_arrays,
    unary,
)  # fmt: skip

__all__ = ["EXAMPLES"]

UNARY = {
    "neg": torch.neg, "exp": torch.exp, "log": torch.log, "log1p": torch.log1p, "expm1": torch.expm1, "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt, "sin": torch.sin, "cos": torch.cos, "tan": torch.tan, "tanh": torch.tanh, "atan": torch.atan,
    "asin": torch.asin, "acos": torch.acos, "sinh": torch.sinh, "cosh": torch.cosh, "erf": torch.erf, "erfc": torch.erfc,
    "lgamma": torch.lgamma, "abs": torch.abs, "sign": torch.sign, "sgn": torch.sgn, "reciprocal": torch.reciprocal,
    "sigmoid": torch.sigmoid, "floor": torch.floor, "ceil": torch.ceil, "trunc": torch.trunc, "exp2": torch.exp2,
    "log2": torch.log2, "log10": torch.log10, "asinh": torch.asinh, "acosh": torch.acosh, "atanh": torch.atanh,
    "special_erfcx": torch.special.erfcx, "signbit": torch.signbit, "logical_not": torch.logical_not,
    "bitwise_not": torch.bitwise_not, "isnan": torch.isnan, "isinf": torch.isinf, "isfinite": torch.isfinite,
    "digamma": lambda x: torch.digamma(x.detach()),  # whose slope is not written
    "detach": torch.detach, "alias": aten.alias.default, "clone": torch.clone,
    "lift_fresh": aten.lift_fresh.default, "lift_fresh_copy": aten.lift_fresh_copy.default,
    "contiguous": lambda x: x.contiguous(), "relu": torch.relu, "square": torch.square, "deg2rad": torch.deg2rad,
    "frac": torch.frac, "log_sigmoid": torch.nn.functional.logsigmoid,
    "sinc": torch.sinc, "log_ndtr": torch.special.log_ndtr, "ndtr": torch.special.ndtr,
    "nan_to_num": torch.nan_to_num, "positive": torch.positive,
}  # fmt: skip

BINARY = {
    "mul": torch.mul, "div": torch.div, "atan2": torch.atan2, "maximum": torch.maximum, "minimum": torch.minimum,
    "fmod": torch.fmod, "remainder": torch.remainder, "hypot": torch.hypot, "copysign": torch.copysign,
    "lt": torch.lt, "le": torch.le, "gt": torch.gt, "ge": torch.ge, "eq": torch.eq, "ne": torch.ne,
    "logical_and": torch.logical_and, "logical_or": torch.logical_or, "logical_xor": torch.logical_xor,
    "bitwise_and": torch.bitwise_and, "bitwise_or": torch.bitwise_or, "bitwise_xor": torch.bitwise_xor,
    "add": torch.add, "sub": torch.sub, "rsub": torch.rsub, "pow": torch.pow,
    "floor_divide": torch.floor_divide, "true_divide": torch.true_divide, "xlogy": torch.xlogy,
    "heaviside": torch.heaviside, "logaddexp": torch.logaddexp,
    "float_power": torch.float_power,
}  # fmt: skip

DIVIDING = {"fmod", "remainder", "floor_divide", "div"}
"""Whole numbers are not divided by zero, which torch refuses."""


def _numbers_first(many):
    """Numbers of Python as the first operand, as they are in `2 ** x` and `3 - x`."""
    for dtype in DTYPES:
        for number in (2, -3, 0.5, True):
            for name in ("add", "sub", "mul", "truediv", "pow", "lt", "ge", "eq"):
                call = getattr(operator, name)
                values = _some(dtype, 3, random.Random(name))
                yield Case(
                    f"{name}({number!r}, {dtype})",
                    lambda x, call=call, number=number: call(number, x),
                    (Operand(values, (3,), dtype),),
                )


def _scaled(name, call):
    def cases(many):
        for alpha in (2, -1, 0.5) if many > FEW else (2,):
            yield from binary(f"{name}, alpha={alpha}", lambda a, b, alpha=alpha: call(a, b, alpha=alpha), FEW)

    return cases


def _rounded_div(many):
    for mode in ("floor", "trunc"):
        yield from binary(
            f"div {mode}", lambda a, b, mode=mode: torch.div(a, b, rounding_mode=mode), many, divides=True
        )


def _round(many):
    yield from unary("round", torch.round)
    for decimals in (1, 2, -1, 0):
        yield from on_array(
            f"round to {decimals}", lambda x, decimals=decimals: torch.round(x, decimals=decimals), FLOATS, sums=False
        )


def _where(many):
    for pair in pairs_of_arrays("where", None):
        condition = Operand((1, 0, 0, 1, 1, 0), (2, 3), BOOL)
        yield Case(pair.label, torch.where, (condition, *pair.operands))
        first, other = pair.operands
        yield Case(f"{pair.label} one", torch.where, (condition, Operand(first.values[:1], (), first.dtype), other))
    for dtype in DTYPES:
        condition, values = (
            Operand((1, 0), (2, 1), BOOL),
            Operand(VALUES[dtype][:3] or (1,), (len(VALUES[dtype][:3]),), dtype),
        )
        for number in (0, 1.5, True, 2):
            yield Case(
                f"where({number}, {dtype})", lambda c, x, number=number: torch.where(c, number, x), (condition, values)
            )
            yield Case(
                f"where({dtype}, {number})", lambda c, x, number=number: torch.where(c, x, number), (condition, values)
            )


def _masked_fill(many):
    for dtype in DTYPES:
        values, mask = Operand(VALUES[dtype], (len(VALUES[dtype]),), dtype), Operand((1, 0), (2, 1), BOOL)
        for number in (0, 1.5, True, -2):
            yield Case(
                f"masked_fill({dtype}, {number})", lambda x, m, number=number: x.masked_fill(m, number), (values, mask)
            )
        for other in DTYPES:
            yield Case(
                f"masked_fill({dtype}, {other})",
                lambda x, m, y: x.masked_fill(m, y),
                (values, mask, Operand(VALUES[other][1:2], (), other)),
            )


def _clamp(many):
    for dtype in DTYPES:
        values = Operand(VALUES[dtype], (len(VALUES[dtype]),), dtype)
        for low, high in ((0, 2), (None, 1.5), (-0.5, None), (1, -1), (True, 2), (0.25, 0.75)):
            yield Case(
                f"clamp({dtype}, {low}, {high})",
                lambda x, low=low, high=high: torch.clamp(x, low, high),
                (values,),
            )
    for pair in pairs_of_arrays("clamp to tensors", None):
        low, high = (Operand(one.values[:3], (3,), one.dtype) for one in pair.operands)
        x = Operand((-2.0, 0.3, 1.5, 1, 2, 3), (2, 3), FLOAT32)
        yield Case(pair.label, torch.clamp, (x, low, high))
        yield Case(f"{pair.label} below", torch.clamp, pair.operands)


def _clamp_one_side(call):
    def cases(many):
        for dtype in DTYPES:
            values = Operand(VALUES[dtype], (len(VALUES[dtype]),), dtype)
            for bound in (0, 1.5, -2):
                yield Case(f"{call}({dtype}, {bound})", lambda x, bound=bound: call(x, bound), (values,))

    return cases


def _backward_of(call, count):
    def cases(many):
        for dtype in FLOATS:
            values = VALUES[dtype]
            slopes = Operand(values[3:] + values[:3], (len(values),), dtype)
            yield Case(f"{call}({dtype})", call, (slopes, Operand(values, (len(values),), dtype)))

    return cases


def _softplus(many):
    for beta, bound in ((1, 20), (2.0, 5), (0.5, 20)):
        yield from unary(
            f"softplus {beta}", lambda x, beta=beta, bound=bound: torch.nn.functional.softplus(x, beta, bound)
        )


def _softplus_backward(many):
    for beta, bound in ((1, 20), (2.0, 5.0)):
        yield from _backward_of(lambda g, x, beta=beta, bound=bound: aten.softplus_backward(g, x, beta, bound), 2)(many)


SHAPES = ((2, 3), (1,), (0,), (2, 0), (), (3, 1, 2))


def _reduction(name):
    call = getattr(torch, name)

    def cases(many):
        # torch finds the slopes of a product with zeros another way, where NaN are lost.
        settings = {"finite_only": name == "prod"}
        yield from on_array(name, call, shapes=SHAPES, **settings)
        for dim in (0, -1) if name == "prod" else (0, -1, (0, 1)):
            for keepdim in (True, False):
                along = functools.partial(call, dim=dim, keepdim=keepdim)
                yield from on_array(
                    f"{name} over {dim} {keepdim}", along, shapes=((2, 3), (3, 2, 2), (2, 0)), **settings
                )
        for dtype in () if name in ("amax", "amin") else DTYPES:
            yield from on_array(f"{name} as {dtype}", functools.partial(call, dtype=dtype), **settings)
            yield from on_array(f"{name} over 1 as {dtype}", functools.partial(call, dim=1, dtype=dtype), **settings)

    return cases


def _views(name, *calls, shapes=((2, 3),)):
    def cases(many):
        for number, call in enumerate(calls):
            yield from on_array(f"{name} {number}", call, shapes=shapes, sums=False)

    return cases


def _made(*calls):
    def cases(many):
        for number, call in enumerate(calls):
            for dtype in DTYPES:
                yield Case(f"made {number} {dtype}", lambda call=call, dtype=dtype: call(dtype), ())
                yield Case(
                    f"made {number} {dtype}, multiplied",
                    lambda x, call=call, dtype=dtype: call(dtype) * x,
                    (Operand((1.5,), (), FLOAT64),),
                )

    return cases


def _made_like(*calls):
    def cases(many):
        for number, call in enumerate(calls):
            yield from on_array(f"made {number}", lambda x, call=call: call(x, None) + x, sums=False)
            for dtype in DTYPES:
                yield from on_array(
                    f"made {number} {dtype}", lambda x, call=call, dtype=dtype: call(x, dtype) + x, sums=False
                )

    return cases


def _two(name, *calls, shapes=((2, 3), (2, 3))):
    def cases(many):
        for number, call in enumerate(calls):
            yield from pairs_of_arrays(f"{name} {number}", call, shapes)

    return cases


def _two_of_a_kind(name, *calls, shapes):
    """As writing in place calls them, which has cast before."""

    def cases(many):
        for case in _two(name, *calls, shapes=shapes)(many):
            if case.operands[0].dtype == case.operands[1].dtype:
                yield case

    return cases


def _casts(many):
    for before in DTYPES:
        for after in DTYPES:
            values = VALUES[before]
            if before in FLOATS and after not in FLOATS:  # what does not fit has no value
                values = tuple(one for one in values if (abs(one) < 2**31 if after != UINT8 else 0 <= one < 256))
                if after == BOOL:
                    values = VALUES[before]
                elif after == INT64:
                    values = (*values, float("nan"))
            yield Case(
                f"{before} to {after}", lambda x, after=after: x.to(after), (Operand(values, (len(values),), before),)
            )
            yield Case(
                f"{before} to {after} and on",
                lambda x, after=after: x.to(after) / 3 + x.to(after) * 2,
                (Operand(values, (len(values),), before),),
            )


AT = torch.tensor([1, 0, 1, -1])


def _index_put(many):
    for dtype in DTYPES:
        a, values = Operand(VALUES[dtype][:2], (2,), dtype), Operand((*VALUES[dtype], *VALUES[dtype])[:4], (4,), dtype)
        yield Case(f"index_put({dtype})", lambda a, v: torch.index_put(a, (AT[:1],), v[:1]), (a, values))
        yield Case(
            f"index_put({dtype}, adds)", lambda a, v: torch.index_put(a, (AT,), v, accumulate=True), (a, values), True
        )
        yield Case(
            f"index_put(zeros of {dtype}, adds)",
            lambda v: torch.index_put(torch.zeros(3, dtype=v.dtype), (AT,), v, accumulate=True),
            (values,),
            True,
        )


def _index(many):
    yield from on_array("index", lambda x: x[AT], sums=False)
    yield from on_array("index of both", lambda x: x[AT, AT], sums=False)
    yield from on_array("index of the last", lambda x: x[:, AT], sums=False)


EXAMPLES = {
    **{name: lambda many, name=name, call=call: unary(name, call) for name, call in UNARY.items()},
    **{
        name: lambda many, name=name, call=call: binary(name, call, many, name in DIVIDING and name != "div")
        for name, call in BINARY.items()
    },
    "numbers first": _numbers_first,
    "add, scaled": _scaled("add", torch.add),
    "sub, scaled": _scaled("sub", torch.sub),
    "rsub, scaled": _scaled("rsub", torch.rsub),
    "div, rounded": _rounded_div,
    "round": _round,
    "where": _where,
    "masked_fill": _masked_fill,
    "clamp": _clamp,
    "clamp_min": _clamp_one_side(torch.clamp_min),
    "clamp_max": _clamp_one_side(torch.clamp_max),
    "tanh_backward": _backward_of(aten.tanh_backward.default, 2),
    "sigmoid_backward": _backward_of(aten.sigmoid_backward.default, 2),
    "softplus": _softplus,
    "softplus_backward": _softplus_backward,
    **{name: _reduction(name) for name in ("sum", "mean", "prod", "amax", "amin")},
    "_to_copy": _casts,
    "reshape": _views("reshape", lambda x: aten.reshape.default(x, [3, 2]), lambda x: x.T.reshape(6)),
    "view": _views("view", lambda x: x.view(3, 2), lambda x: x.view(-1)),
    "_unsafe_view": _views("_unsafe_view", lambda x: aten._unsafe_view.default(x, [3, 2])),
    "expand": _views("expand", lambda x: x.expand(2, 2, 3), lambda x: x[:1].expand(4, -1)),
    "permute": _views("permute", lambda x: x.permute(1, 0), lambda x: x.permute(-1, -2)),
    "transpose": _views("transpose", lambda x: x.transpose(0, 1), lambda x: x.transpose(-1, 0)),
    "t": _views("t", lambda x: x.t(), shapes=((2, 3), (3,), ())),
    "unsqueeze": _views("unsqueeze", lambda x: x.unsqueeze(0), lambda x: x.unsqueeze(-1)),
    "squeeze": _views(
        "squeeze",
        lambda x: x.squeeze(),
        lambda x: x.squeeze(1),
        lambda x: x.squeeze((0, 1)),
        shapes=((2, 1, 3), (1, 1), ()),
    ),
    "select": _views("select", lambda x: x[1], lambda x: x.select(-1, -1), lambda x: x[0], shapes=((2, 3), (2,))),
    "slice": _views(
        "slice",
        lambda x: x[:, 1:],
        lambda x: x[..., ::2],
        lambda x: x[-1:],
        lambda x: x[5:],
        lambda x: x[:, :-1],
        lambda x: aten.slice.Tensor(x, 1, 0, 99),
    ),
    "diagonal": _views("diagonal", lambda x: x.diagonal(), lambda x: x.diagonal(1), lambda x: x.diagonal(-1, 1, 0)),
    "flip": _views("flip", lambda x: x.flip(0), lambda x: x.flip(0, 1), lambda x: x.flip(-1)),
    "tril": _views(
        "tril", torch.tril, lambda x: torch.tril(x, 1), lambda x: torch.tril(x, -1), shapes=((3, 3), (2, 3), (2, 2, 2))
    ),
    "triu": _views(
        "triu", torch.triu, lambda x: torch.triu(x, 1), lambda x: torch.triu(x, -1), shapes=((3, 3), (2, 3), (2, 2, 2))
    ),
    "stack": _two("stack", lambda a, b: torch.stack([a, b]), lambda a, b: torch.stack([b, a, a], -1) * 2),
    "cat": _two(
        "cat",
        lambda a, b: torch.cat([a, b]),
        lambda a, b: torch.cat([b, a], -1) * 2,
        lambda a, b: torch.cat([a, b[:0]]) * 2,
    ),
    "unbind": _views("unbind", lambda x: x.unbind(), lambda x: x.unbind(-1), shapes=((2, 3), (2,))),
    "constant_pad_nd": _views(
        "pad",
        lambda x: torch.nn.functional.pad(x, (1, 2)),
        lambda x: torch.nn.functional.pad(x, (0, 1, 1, 0), value=2),
        lambda x: torch.nn.functional.pad(x, (-1, 1), value=1.5),
        lambda x: torch.nn.functional.pad(x, (1, 0)) * 2,
    ),
    "full": _made(
        lambda dtype: torch.full((2, 2), 2.5, dtype=dtype),
        lambda dtype: torch.full((), 3, dtype=dtype),
        lambda dtype: torch.full((2,), True, dtype=dtype),
    ),
    "zeros": _made(lambda dtype: torch.zeros(2, dtype=dtype)),
    "ones": _made(lambda dtype: torch.ones(2, 2, dtype=dtype)),
    "full_like": _made_like(
        lambda x, dtype: torch.full_like(x, 2.5, dtype=dtype), lambda x, dtype: torch.full_like(x, 1, dtype=dtype)
    ),
    "zeros_like": _made_like(lambda x, dtype: torch.zeros_like(x, dtype=dtype)),
    "ones_like": _made_like(lambda x, dtype: torch.ones_like(x, dtype=dtype)),
    "scalar_tensor": _made(
        lambda dtype: aten.scalar_tensor.default(2.5, dtype=dtype),
        lambda dtype: aten.scalar_tensor.default(3, dtype=dtype),
    ),
    "arange": _made(
        lambda dtype: torch.arange(3, dtype=dtype),
        lambda dtype: torch.arange(1, 6, 2, dtype=dtype),
        lambda dtype: torch.arange(0.0, 1.0, 0.25, dtype=dtype),
    ),
    "index": _index,
    "index_put": _index_put,
    "_unsafe_index": lambda many: on_array(
        "unsafe index", lambda x: aten._unsafe_index.Tensor(x, [None, AT]), sums=False
    ),
    "_unsafe_index_put": lambda many: on_array(
        "unsafe index_put", lambda x: aten._unsafe_index_put.default(x, [AT[:2]], x[:1] * 2), sums=False
    ),
    "any": _views(
        "any", lambda x: torch.any(x, 1), lambda x: aten.any.dims(x, [0, 1], True), torch.any, shapes=((2, 3), (2, 1))
    ),
    "all": _views(
        "all", lambda x: torch.all(x, 1), lambda x: aten.all.dims(x, [0, 1], True), torch.all, shapes=((2, 3), (2, 1))
    ),
    "copy": _two("copy", aten.copy.default, lambda a, b: aten.copy.default(a, b) * 3, shapes=((2, 3), (3,))),
    "split_with_sizes": _views("split_with_sizes", lambda x: x.split([1, 2], 1), lambda x: x.split([2, 0], 0)),
    "split": _views("split", lambda x: aten.split.Tensor(x, 2, 1), lambda x: aten.split.Tensor(x, 1)),
    "slice_scatter": _two_of_a_kind(
        "slice_scatter",
        lambda a, b: torch.slice_scatter(a, b, 1, 1, 3),
        lambda a, b: torch.slice_scatter(a, b, 1, 0, 4, 2),
        shapes=((2, 4), (2, 2)),
    ),
    "select_scatter": _two_of_a_kind(
        "select_scatter",
        lambda a, b: torch.select_scatter(a, b, 1, 1),
        lambda a, b: torch.select_scatter(a, b, 1, -1),
        shapes=((2, 3), (2,)),
    ),
    "diagonal_scatter": _two_of_a_kind(
        "diagonal_scatter",
        torch.diagonal_scatter,
        lambda a, b: torch.diagonal_scatter(a, b, 1),
        shapes=((2, 3), (2,)),
    ),
    "select_backward": _views(
        "select_backward",
        lambda x: aten.select_backward.default(x, [2, 3, 3], 1, 2),
        lambda x: aten.select_backward.default(x, [3, 2, 3], 0, -1),
    ),
    "slice_backward": _views(
        "slice_backward",
        lambda x: aten.slice_backward.default(x, [2, 6], 1, 1, 6, 2),
        lambda x: aten.slice_backward.default(x, [4, 3], 0, 0, 2, 1),
    ),
}
"""From how many elements there are in a case of two operands to the cases, by operation; others than those written, too."""
