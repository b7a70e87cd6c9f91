"""Small random programs of the operations that are compiled, kept small by hypothesis."""

from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from operation_cases import BOOL, DTYPES, FLOATS, VALUES, Case, Operand

__all__ = ["programs"]

UNARY = {
    "neg": torch.neg, "abs": torch.abs, "exp": torch.exp, "log": torch.log, "sqrt": torch.sqrt, "sin": torch.sin,
    "tanh": torch.tanh, "floor": torch.floor, "ceil": torch.ceil, "round": torch.round, "trunc": torch.trunc,
    "sign": torch.sign, "reciprocal": torch.reciprocal, "sigmoid": torch.sigmoid, "square": torch.square,
    "logical_not": torch.logical_not, "bitwise_not": torch.bitwise_not, "isnan": torch.isnan, "isfinite": torch.isfinite,
    "sum": torch.sum, "mean": torch.mean, "amax": torch.amax, "amin": torch.amin, "any": torch.any, "all": torch.all,
    "flip": lambda x: x.flip(-1), "first": lambda x: x[..., :1], "rest": lambda x: x[..., 1:], "column": lambda x: x[..., None],
    "twice": lambda x: torch.cat([x, x], -1), "padded": lambda x: torch.nn.functional.pad(x, (1, 0), value=1),
    "relu": torch.relu, "expm1": torch.expm1, "log1p": torch.log1p, "erf": torch.erf,
}  # fmt: skip

BINARY = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div, "maximum": torch.maximum,
    "minimum": torch.minimum, "lt": torch.lt, "le": torch.le, "eq": torch.eq, "ne": torch.ne, "gt": torch.gt, "ge": torch.ge,
    "logical_and": torch.logical_and, "logical_or": torch.logical_or, "logical_xor": torch.logical_xor,
    "bitwise_and": torch.bitwise_and, "bitwise_or": torch.bitwise_or, "bitwise_xor": torch.bitwise_xor,
    "atan2": torch.atan2, "hypot": torch.hypot, "copysign": torch.copysign,
    "floor_divide": lambda a, b: torch.floor_divide(a, divisor(b)), "remainder": lambda a, b: torch.remainder(a, divisor(b)),
    "fmod": lambda a, b: torch.fmod(a, divisor(b)), "pow": lambda a, b: torch.pow(a, exponent(b)),
    "where": lambda a, b: torch.where(a > b, a, b), "masked": lambda a, b: a.masked_fill(b > 0, 2),
}  # fmt: skip

NUMBERS = (2, -3, 0.5, -1.5, True, 0, 7)
WITH_NUMBER = ("add", "sub", "mul", "div", "lt", "le", "eq", "ge", "where", "pow", "floor_divide", "remainder")


def divisor(b):
    """What one may divide whole numbers by: torch refuses zero, and the processor some of what is negative."""
    if not isinstance(b, torch.Tensor):
        return b or 1
    return b if b.is_floating_point() else b.abs().clamp(1, 9)


def exponent(b):
    """What one may raise whole numbers to."""
    if not isinstance(b, torch.Tensor):
        return b
    return b if b.is_floating_point() else b.clamp(0, 3)


def cast(x, dtype):
    """To another type, where what comes of it is defined."""
    if x.is_floating_point() and dtype not in (*FLOATS, BOOL):
        x = torch.nan_to_num(x, 0.0, 100.0, -100.0).clamp(0 if dtype == torch.uint8 else -100, 100)
    return x.to(dtype)


@dataclass(frozen=True)
class Program:
    """Steps, each on what went before: the name of an operation, and which values or numbers it takes."""

    steps: tuple[tuple, ...]

    def __call__(self, *given):
        """All that comes out of the last steps; what torch does not take is left out."""
        found = list(given)
        for name, *operands in self.steps:
            try:
                found.append(run(name, [found[one % len(found)] if kind == "value" else one for kind, one in operands]))
            except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError):
                continue
            if found[-1].numel() > 40:
                found.pop()
        return found[-3:]


def run(name, operands):
    if name in UNARY:
        return UNARY[name](operands[0])
    return cast(*operands) if name == "cast" else BINARY[name](*operands)


VALUE = st.tuples(st.just("value"), st.integers(0, 7))


@st.composite
def steps(draw):
    """One step."""
    kind = draw(st.sampled_from(("unary", "binary", "binary", "number", "cast")))
    if kind == "unary":
        return (draw(st.sampled_from(sorted(UNARY))), draw(VALUE))
    if kind == "cast":
        return ("cast", draw(VALUE), ("dtype", draw(st.sampled_from(DTYPES))))
    if kind == "binary":
        return (draw(st.sampled_from(sorted(BINARY))), draw(VALUE), draw(VALUE))
    operands = [draw(VALUE), ("number", draw(st.sampled_from(NUMBERS)))]
    return (draw(st.sampled_from(WITH_NUMBER)), *operands)


@st.composite
def operands(draw):
    """A tensor that enters: most are of the usual numbers, and some at the edges."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.sampled_from(((), (1,), (3,), (2, 3), (2, 1))))
    few = [one for one in VALUES[dtype] if abs(one) < 30]
    values = few if dtype in FLOATS and draw(st.booleans()) else list(VALUES[dtype])
    count = torch.Size(shape).numel()
    chosen = draw(st.lists(st.sampled_from(values), min_size=count, max_size=count))
    return Operand(tuple(chosen), shape, dtype, draw(st.booleans()))


@st.composite
def programs(draw):
    """A program with its operands, as a case."""
    program = Program(tuple(draw(st.lists(steps(), min_size=1, max_size=7))))
    given = draw(st.lists(operands(), min_size=1, max_size=3))
    return Case(str(program.steps), program, tuple(given), sums=True)
