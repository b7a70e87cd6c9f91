"""Shapes of values: the dims of the param itself, and the batch dims in front."""

from __future__ import annotations

from collections.abc import Iterable

from ...errors import ParamConfigurationError

__all__ = ["Shape", "Template", "as_shape", "broadcast_shapes", "fits", "holds", "show"]

Shape = tuple[int, ...]
Template = tuple[int | None, ...]
"""A shape in which None stands for any size."""


def as_shape(shape: Iterable[int | None], what: str) -> Template:
    """Check that something is a shape.

    Raises:
        ParamConfigurationError: It is not a sequence of sizes.
    """
    try:
        sizes = tuple(shape)
    except TypeError:
        raise ParamConfigurationError(f"The {what} must be a tuple of sizes, not {shape!r}.") from None
    for size in sizes:
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 0):
            raise ParamConfigurationError(f"The {what} must be a tuple of sizes, not {shape!r}.")
    return sizes


def fits(shape: Shape, template: Template) -> bool:
    """Whether a shape is the template, None standing for any size."""
    return len(shape) == len(template) and all(t is None or s == t for s, t in zip(shape, template, strict=True))


def broadcast_shapes(*shapes: Shape) -> Shape:
    """The shape to which all broadcast; ValueError if there is none. Unlike torch's, it keeps sizes of 0."""
    result: list[int] = []
    for shape in shapes:
        result[:0] = [1] * (len(shape) - len(result))
        for index in range(1, len(shape) + 1):
            if result[-index] == 1:
                result[-index] = shape[-index]
            elif shape[-index] not in (1, result[-index]):
                raise ValueError(f"{show(tuple(shape))} does not broadcast with {show(tuple(result))}")
    return tuple(result)


def show(shape: Iterable[int | None]) -> str:
    """A shape as people write it."""
    return str(tuple(shape))


def holds(value: Shape, template: Template, batch_shape: Shape | None) -> bool:
    """Whether a value's shape is a batch shape followed by the template."""
    split = len(value) - len(template)
    if split < 0 or not fits(value[split:], template):
        return False
    if batch_shape is None or split == 0:
        return True
    try:
        return broadcast_shapes(value[:split], batch_shape) == batch_shape
    except ValueError:
        return False
