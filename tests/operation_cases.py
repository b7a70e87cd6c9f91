"""Every operation that is compiled, on every combination of the kinds of numbers that torch takes, at their edges.

A case is one call of an operation. Many cases become one function R^n -> R: the vector holds the values of all operands, which
the function casts to their dtypes, and a weight for each number that comes out. The gradient in the weights is then what came
out, and the gradient in the rest are the slopes, each apart from all others, so that infinities and NaN of one case spoil no
other.
"""

import functools
import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten

BOOL, UINT8, INT32, INT64, FLOAT32, FLOAT64 = DTYPES = (
    torch.bool, torch.uint8, torch.int32, torch.int64, torch.float32, torch.float64
)  # fmt: skip
FLOATS = (FLOAT32, FLOAT64)

SPECIAL = (0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, 3.0, -0.25, 20.5, 1e-30, math.inf, -math.inf, math.nan)

VALUES = {
    BOOL: (0, 1),
    UINT8: (0, 1, 2, 3, 7, 200, 255),
    INT32: (0, 1, -1, 2, -2, 3, -7, 2**30, -(2**31)),
    INT64: (0, 1, -1, 2, -2, 3, -7, 2**40, 2**62, -(2**63)),  # exact in double, by way of which they come
    FLOAT32: (*SPECIAL, 1e30),
    FLOAT64: (*SPECIAL, 1e300),
}
"""What numbers of each kind may be."""

FEW, MANY = 2, 6
"""How many elements operands of two have: few, with one way of many to meet each other, or many, in all ways."""

NUMBERS = (2, -3, 0.5, True, 0, 2.0, -1.5, math.inf, math.nan)
"""Numbers of Python that enter operations."""


@dataclass(frozen=True)
class Operand:
    """A tensor that enters an operation: from the vector, or a constant.

    Attributes:
        values: Its elements.
        shape: Its shape.
        dtype: Its dtype.
        live: Whether it comes from the vector.
    """

    values: tuple[float, ...]
    shape: tuple[int, ...]
    dtype: torch.dtype
    live: bool = True

    def tensor(self):
        return torch.tensor(self.values, dtype=self.dtype).reshape(self.shape)


@dataclass(frozen=True)
class Case:
    """One call of an operation.

    Attributes:
        label: What is called how.
        call: From tensors to a tensor or several.
        operands: The tensors.
        sums: Whether an element comes of many, so that rounding is relative to the largest of them.
    """

    label: str
    call: Callable
    operands: tuple[Operand, ...]
    sums: bool = False

    @property
    def single(self):
        """Whether single precision enters, be it as what functions of whole numbers give."""
        whole = any(one.dtype not in FLOATS for one in self.operands) and torch.get_default_dtype() == FLOAT32
        return whole or any(one.dtype == FLOAT32 for one in self.operands)

    def numbers(self, tensors):
        """All that comes out, as one vector in the precision of the vector that went in."""
        found = self.call(*tensors)
        parts = [found] if isinstance(found, torch.Tensor) else list(found)
        return [one.reshape(-1) for one in parts]


def possible(cases):
    """The cases that torch takes, with the number of what comes out of each."""
    found = []
    for case in cases:
        try:
            tensors = [one.tensor() for one in case.operands]
            for one in tensors:
                if one.is_floating_point():
                    one.requires_grad_()
            out = case.numbers(tensors)
            slopes = [one.sum() for one in out if one.requires_grad]
            if slopes:
                torch.autograd.grad(sum(slopes), [one for one in tensors if one.requires_grad], allow_unused=True)
        except (RuntimeError, TypeError, NotImplementedError, IndexError, ValueError):
            continue
        found.append((case, sum(one.numel() for one in out)))
    return found


@dataclass(frozen=True)
class Pack:
    """Cases as one function.

    Attributes:
        cases: With each, where its operands and its weights stand in the vector.
        point: The vector.
    """

    cases: tuple[tuple[Case, tuple[slice | None, ...], slice], ...]
    point: torch.Tensor

    @classmethod
    def of(cls, cases, dtype=FLOAT64):
        """Pack the cases that torch takes."""
        kept = possible(cases)
        values, places = [], []
        for case, _ in kept:
            own = []
            for one in case.operands:
                own.append(slice(len(values), len(values) + len(one.values)) if one.live else None)
                values.extend(one.values if one.live else ())
            places.append(tuple(own))
        placed, begin = [], len(values)
        for (case, count), own in zip(kept, places, strict=True):
            placed.append((case, own, slice(begin, begin + count)))
            begin += count
        weights = [1.0 + 0.25 * (i % 5) for i in range(begin - len(values))]
        return cls(tuple(placed), torch.tensor([*values, *weights], dtype=dtype))

    def __call__(self, z):
        """The weighted sum of all that comes out."""
        sizes = []
        for number, (_, places, weights) in enumerate(self.cases):
            for at, place in enumerate(places):
                if place is not None:
                    sizes.append((place.start, place.stop - place.start, number, at))
            sizes.append((weights.start, weights.stop - weights.start, number, "weights"))
        sizes.sort(key=lambda one: (one[0], one[1]))
        owners = dict(zip([one[2:] for one in sizes], z.split([one[1] for one in sizes]), strict=True))
        total = z.new_zeros(())
        for number, (case, places, _) in enumerate(self.cases):
            tensors = [
                one.tensor() if place is None else owners[number, at].reshape(one.shape).to(one.dtype)
                for at, (one, place) in enumerate(zip(case.operands, places, strict=True))
            ]
            found = torch.cat([one.to(z.dtype) for one in case.numbers(tensors)])
            total = total + (owners[number, "weights"] * found).sum()
        return total

    def wrong(self, gradient, expected):
        """What differs, case by case."""
        found = []
        for case, places, weights in self.cases:
            parts = {"value": weights, **{f"slope {at}": one for at, one in enumerate(places) if one is not None}}
            for what, place in parts.items():
                ours, torchs = gradient[place], expected[place]
                if not same(ours, torchs, case):
                    of = ", ".join(str(list(one.values)) for one in case.operands)
                    found.append(f"{case.label}: {what} {ours.tolist()}, torch {torchs.tolist()}, of {of}")
        return found


def same(ours, torchs, case):
    """Equal up to rounding."""
    relative = 2e-5 if case.single or ours.dtype == FLOAT32 else 1e-10
    largest = 1.0
    if case.sums:
        terms = [abs(one) for operand in case.operands for one in operand.values if math.isfinite(one)]
        largest = max([*terms, *torchs[torchs.isfinite()].abs().tolist()], default=1.0)
    return torch.allclose(ours, torchs, rtol=relative, atol=relative * (largest if case.sums else 1e-2), equal_nan=True)


class Called(TorchDispatchMode):
    """The names of the operations that run."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.__name__.partition(".")[0])
        return func(*args, **(kwargs or {}))


# The operations


def _some(dtype, count, rng, divides=False, nonzero=False):
    # The processor, and torch with it, stops at the smallest whole number divided by minus one.
    values = [one for one in VALUES[dtype] if not (divides and one in (-(2**31), -(2**63))) and (one or not nonzero)]
    return tuple(rng.choice(values) for _ in range(count))


def unary(name, call):
    """All values of each kind, one element, and none."""
    for dtype in DTYPES:
        values = VALUES[dtype]
        yield Case(f"{name}({dtype})", call, (Operand(values, (len(values),), dtype),))
        yield Case(f"{name}({dtype}, of one)", call, (Operand(values[1:2], (), dtype),))
        yield Case(f"{name}({dtype}, empty)", call, (Operand((), (0, 2), dtype),))


def binary(name, call, many, divides=False):
    """All pairs of kinds: elements of vectors, of constants, of tensors without dims, of a column and a row, and numbers."""
    rng = random.Random(name)
    for a, b in itertools.product(DTYPES, DTYPES):
        of_a, of_b = (
            functools.partial(_some, a, rng=rng, divides=divides),
            functools.partial(_some, b, rng=rng, divides=divides, nonzero=divides and not (a in FLOATS or b in FLOATS)),
        )
        variants = [
            Case(
                f"{name}({a}, constant {b})",
                call,
                (Operand(of_a(many), (many,), a), Operand(of_b(many), (many,), b, False)),
            ),
            Case(
                f"{name}(constant {a}, {b})",
                call,
                (Operand(of_a(many), (many,), a, False), Operand(of_b(many), (many,), b)),
            ),
            Case(f"{name}({a}, {b} without dims)", call, (Operand(of_a(2), (2,), a), Operand(of_b(1), (), b))),
            Case(f"{name}({a} without dims, {b})", call, (Operand(of_a(1), (), a), Operand(of_b(1), (1,), b))),
            Case(f"{name}({a} column, {b} row)", call, (Operand(of_a(2), (2, 1), a), Operand(of_b(2), (1, 2), b))),
            Case(f"{name}({a} empty, {b})", call, (Operand((), (0,), a), Operand(of_b(1), (1,), b))),
        ]
        yield Case(f"{name}({a}, {b})", call, (Operand(of_a(many), (many,), a), Operand(of_b(many), (many,), b)))
        turn = rng.randrange(len(variants))
        yield from variants if many > FEW else variants[turn : turn + 1]
    for a in DTYPES:
        for number in NUMBERS if many > FEW else rng.sample(NUMBERS, 2):
            values = _some(a, many, rng, divides)
            yield Case(f"{name}({a}, {number!r})", lambda x, n=number: call(x, n), (Operand(values, (many,), a),))


def on_array(name, call, dtypes=DTYPES, shapes=((2, 3),), sums=True, finite_only=False):
    """An operation on a whole array of each kind."""
    rng = random.Random(name)
    for dtype, shape in itertools.product(dtypes, shapes):
        for finite in (True, False) if dtype in FLOATS and math.prod(shape) > 1 and not finite_only else (True,):
            # The order of operations decides where what is large overflows.
            values = [one for one in VALUES[dtype] if abs(one) < 100 or not (finite or math.isfinite(one))]
            values = values if dtype in FLOATS else VALUES[dtype]
            chosen = tuple(rng.choice(values) for _ in range(math.prod(shape)))
            yield Case(f"{name}({dtype} {shape})", call, (Operand(chosen, shape, dtype),), sums)


def pairs_of_arrays(name, call, shapes=((2, 3), (2, 3))):
    """An operation on two arrays of all kinds that it takes."""
    rng = random.Random(name)
    for dtypes in itertools.product(DTYPES, DTYPES):
        operands = tuple(
            Operand(_some(dtype, math.prod(shape), rng), shape, dtype)
            for dtype, shape in zip(dtypes, shapes, strict=True)
        )
        yield Case(f"{name}({dtypes[0]}, {dtypes[1]})", call, operands)
