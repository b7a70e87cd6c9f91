"""What is learned during warm-up, from all chains together: a step size and a scale of the coordinates.

With many chains a few steps are many draws, so a short warm-up will do. Nothing is learned after it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

__all__ = ["DualAveraging", "Moments", "Scale", "first_scale", "learned_scale", "windows"]

SMALLEST, LARGEST = 1e-6, 1e6
"""By how much at once a coordinate is shrunk or stretched."""

DRAWS_PER_DIM = 10
"""A full covariance is learned from at least so many draws for each dim; from fewer its noise costs more than it saves."""

MOST_DIMS = 2_000
"""Beyond so many dims a full covariance costs more than the gradients of most models."""

FEW_CHAINS = 8
"""From fewer starting points no variance is estimated."""


@dataclass(frozen=True)
class Scale:
    """A linear map from the coordinates of the sampler to those of the density, in which the metric is the identity.

    Attributes:
        factor: ``(dim,)`` for one factor of each coordinate, or a lower triangle ``(dim, dim)``: the metric is then the
            inverse of ``factor @ factor.T``.
    """

    factor: Tensor

    def out(self, x: Tensor) -> Tensor:
        """Positions of the sampler, ``(n, dim)``, as those of the density."""
        return x * self.factor if self.factor.ndim == 1 else x @ self.factor.T

    def into(self, z: Tensor) -> Tensor:
        """Positions of the density as those of the sampler."""
        if self.factor.ndim == 1:
            return z / self.factor
        back: Tensor = torch.linalg.solve_triangular(self.factor, z.T, upper=False)
        return back.T

    def gradient(self, gradient: Tensor) -> Tensor:
        """Gradients with respect to positions of the sampler, from those with respect to positions of the density."""
        return gradient * self.factor if self.factor.ndim == 1 else gradient @ self.factor

    def gradient_out(self, gradient: Tensor) -> Tensor:
        """Gradients with respect to positions of the density, from those with respect to positions of the sampler."""
        if self.factor.ndim == 1:
            return gradient / self.factor
        back: Tensor = torch.linalg.solve_triangular(self.factor, gradient, upper=False, left=False)
        return back

    def after(self, inner: Scale) -> Scale:
        """This map, done after another one."""
        if self.factor.ndim == 1 and inner.factor.ndim == 2:
            return Scale(self.factor[:, None] * inner.factor)
        return Scale(self.factor * inner.factor if inner.factor.ndim == 1 else self.factor @ inner.factor)


@dataclass(frozen=True)
class Moments:
    """Moments of draws and of their gradients, which draws are added to (Chan, Golub and LeVeque 1979).

    Attributes:
        count: Of how many draws.
        means: Of positions and of gradients, ``(2, dim)``.
        squares: Sums of squared deviations, ``(2, dim)``.
        products: Sums of products of deviations of positions, ``(dim, dim)``; None where they are not wanted.
    """

    count: int
    means: Tensor
    squares: Tensor
    products: Tensor | None

    @staticmethod
    def none(like: Tensor, full: bool) -> Moments:
        """Of no draws, of the kind of ``(n, dim)``."""
        dim = like.shape[1]
        zeros = like.new_zeros(2, dim)
        return Moments(0, zeros, zeros, like.new_zeros(dim, dim) if full else None)

    def add(self, x: Tensor, gradient: Tensor) -> Moments:
        """With the draws ``(n, dim)``."""
        both = torch.stack([x, gradient])
        more, total = both.shape[1], self.count + both.shape[1]
        means = both.mean(1)
        deviations, shift = both - means[:, None], means - self.means
        weight = self.count * more / total
        products = self.products
        if products is not None:
            products = products + deviations[0].T @ deviations[0] + weight * torch.outer(shift[0], shift[0])
        squares = self.squares + (deviations**2).sum(1) + weight * shift**2
        return Moments(total, self.means + shift * (more / total), squares, products)


def first_scale(z: Tensor, gradient: Tensor) -> Scale:
    """A scale from the starting points and the gradients there, both ``(n, dim)``.

    Of a Gaussian, differences of gradients are those of positions divided by the variance, wherever the points lie. A
    single point says of how steep the density is there, which is something.
    """
    ratio = z.var(0) / gradient.var(0) if len(z) >= FEW_CHAINS else torch.zeros_like(z[0])
    steepness = 1 / (gradient**2).mean(0)
    usable = torch.isfinite(ratio) & (ratio > 0)
    return Scale(_bounded(torch.where(usable, ratio, steepness) ** 0.25))


def learned_scale(scale: Scale, moments: Moments) -> Scale:
    """A better scale, from the moments of draws in the coordinates of the one that they were drawn with.

    From many draws it makes their covariance the identity. From few it is one factor for each coordinate, the one that
    brings the spread of the draws to that of the gradients, which minimises the Fisher divergence from a Gaussian of the
    identity (Seyboldt, Carlson and Carpenter 2024).
    """
    dim = moments.means.shape[1]
    if moments.products is not None and moments.count >= DRAWS_PER_DIM * dim:
        # A little of the identity, which is what the draws had to be so far.
        weight = moments.count / (moments.count + dim)
        covariance = weight * moments.products / (moments.count - 1) + (1 - weight) * torch.eye(
            dim, dtype=scale.factor.dtype, device=scale.factor.device
        )
        factor, info = torch.linalg.cholesky_ex(covariance)
        if int(info) == 0 and bool(torch.isfinite(factor).all()):
            return scale.after(Scale(factor))
    ratio = (moments.squares[0] / moments.squares[1]) ** 0.25
    return scale.after(Scale(_bounded(torch.where(torch.isfinite(ratio) & (ratio > 0), ratio, 1.0))))


def _bounded(factor: Tensor) -> Tensor:
    return torch.nan_to_num(factor, nan=1.0).clamp(SMALLEST, LARGEST)


@dataclass(frozen=True)
class DualAveraging:
    """The step size, adapted to an acceptance probability (Hoffman and Gelman 2014, section 3.2).

    Attributes:
        target: The acceptance probability.
        centre: The logarithm of the step size that it shrinks towards.
        log_step: The logarithm of the step size to take next.
        averaged: The logarithm of the step size to take in the end.
        error: The mean error of the acceptance probability.
        count: How often it was updated.
    """

    target: float
    centre: float
    log_step: float
    averaged: float
    error: float = 0.0
    count: int = 0

    @staticmethod
    def around(step_size: float, target: float) -> DualAveraging:
        """From a first step size; larger ones are tried first."""
        return DualAveraging(target, math.log(10 * step_size), math.log(step_size), math.log(step_size))

    def update(self, acceptance: float) -> DualAveraging:
        """After steps of this mean acceptance probability."""
        count = self.count + 1
        weight = 1 / (count + 10)
        error = (1 - weight) * self.error + weight * (self.target - acceptance)
        log_step = self.centre - math.sqrt(count) / 0.05 * error
        forget = count**-0.75
        averaged = forget * log_step + (1 - forget) * self.averaged
        return replace(self, log_step=log_step, averaged=averaged, error=error, count=count)


def windows(tune: int) -> tuple[int, ...]:
    """The steps of warm-up after which the scale is learned anew, each from the draws since the one before.

    Each is twice as long as the one before; after the last, a sixth of the warm-up is for the step size alone.
    """
    last = tune - max(tune // 6, min(10, tune))
    length = min(max(tune // 50, 3), 10)
    found: list[int] = []
    end = length
    while end <= last:
        length *= 2
        if end + length > last:
            end = last
        found.append(end)
        end += length
    return tuple(found)
