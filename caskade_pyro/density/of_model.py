"""The density as the Pyro model itself gives it, which every faster form is held against."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ..compiler import Program
from ..errors import SamplingError
from .agreement import disagreement
from .closeness import close, first_line
from .flat import Slot
from .slopes import site_of_wrong_slope
from .starts import OF_SINGLE

__all__ = ["check_slopes", "disagreement_with_model", "gradient_of_model"]

Form = Callable[[Tensor], tuple[Tensor, Tensor]]


def gradient_of_model(log_density: Callable[[Tensor], Tensor], z: Tensor) -> tuple[Tensor, Tensor]:
    """The log density and its gradient at a vector, by automatic differentiation of the model.

    Raises:
        SamplingError: It has no gradient.
    """
    leaf = z.detach().clone().requires_grad_()
    with torch.enable_grad():
        value = log_density(leaf)
        try:
            (gradient,) = torch.autograd.grad(value, leaf)
        except RuntimeError as error:
            raise SamplingError(
                f"The density has no gradient, which samplers and fits follow: {first_line(error)}. Take an operation "
                "of torch with a derivative instead, or write into no tensor that is still needed."
            ) from error
    return value.detach(), gradient


def check_slopes(form: Form, point: Tensor, slots: Mapping[str, Slot], partly_single: bool) -> None:
    """Check the gradient against finite differences: without it no sampler and no fit finds the posterior.

    Args:
        form: The density.
        point: Where to look.
        slots: Where sites stand in the vector.
        partly_single: Whether some of it is in single precision.

    Raises:
        SamplingError: They disagree for a site, which is named.
    """
    site = site_of_wrong_slope(form, point, slots, partly_single)
    if site is not None:
        doubt = "" if point.dtype == torch.float64 else f" Or it overflows in single precision (float32), {OF_SINGLE}."
        raise SamplingError(
            f"The gradient of the log density is wrong by {site}: it is not the slope that differences show. Does "
            "the simulator leave torch on the way from there (numpy, scipy, .item(), .detach(), torch.no_grad()), or "
            "have a backward pass of its own? Write it in operations of torch. If it does nothing of the kind, please "
            f"report the model: it is a bug of caskade_pyro then.{doubt}"
        )


def disagreement_with_model(program: Program, model: Form, points: Tensor, seconds: float = math.inf) -> str | None:
    """Why a traced form cannot be used: it differs from the model at one of some points. None if it can.

    Args:
        program: The traced form.
        model: The model's own density.
        points: Vectors, ``(n, dim)``.
        seconds: How long to look: the model takes much longer than its trace.
    """
    end = time.monotonic() + seconds
    for z in points:
        if disagreement(program.run, model, z[None], program) is not None:
            again = model(z), model(z)
            if not all(close(a, b, program.single) for a, b in zip(*again, strict=True)):
                return (
                    "the model's own density is another at each call: the simulator seems to keep state, or to draw "
                    "random numbers"
                )
            return (
                "its traced form differs from the model's own density: a simulator that keeps state does that, and with "
                "any other it is a bug of caskade_pyro, so please report the model"
            )
        if time.monotonic() > end:
            break
    return None
