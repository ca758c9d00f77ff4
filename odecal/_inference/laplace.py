"""The Gaussian around a mode, measured by gradients; its diagonal where dimensions are many."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

# A square matrix, or the diagonal of one.
Factor = Float[np.ndarray, "dim dim"] | Float[np.ndarray, " dim"]
# Log densities and gradients of many positions.
Evaluate = Callable[
    [Float[np.ndarray, "n dim"]], tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n dim"]]
]

# Half the span of differences, in standard deviations; and how often the guess is updated.
_STEP, _ROUNDS = 0.25, 8
# Curvatures, relative to the guess, at which it is not updated again.
_NEAR = 0.2, 5.0
# The widest and narrowest standard deviations, in scales of the prior.
_BOUNDS = 1e-12, 10.0
# Sizes of the steps by which scales are found where dimensions are many.
_PROBES = 1e-2, 0.3


@dataclass(frozen=True, eq=False)
class Gaussian:
    """A Gaussian, S F u for unit normals u, S a diagonal matrix of scales; covariance S F Fᵀ S."""

    scale: Float[np.ndarray, " dim"]
    factor: Factor  # F, or its diagonal

    @classmethod
    def guess(cls, scale: Float[np.ndarray, " dim"], curvature: Factor) -> "Gaussian":
        """From an optimiser's estimate of the inverse Hessian, in units of the scales.

        A direction that it never moved along keeps the scale of the prior; none has a larger one.
        """
        if curvature.ndim == 1:
            return cls(scale, curvature)
        values, vectors = np.linalg.eigh(np.nan_to_num((curvature + curvature.T) / 2))
        return cls(scale, vectors * np.sqrt(np.clip(values, _BOUNDS[0] ** 2, 1.0)))

    def steps(self, u: Float[np.ndarray, "n dim"]) -> Float[np.ndarray, "n dim"]:
        """S F u, steps of the Gaussian."""
        return self.scale * (u * self.factor if self.factor.ndim == 1 else u @ self.factor.T)

    def whitened(self, gradients: Float[np.ndarray, "n dim"]) -> Float[np.ndarray, "n dim"]:
        """Fᵀ S ∇, gradients by u."""
        scaled = self.scale * gradients
        return scaled * self.factor if self.factor.ndim == 1 else scaled @ self.factor

    def squared_length(self, step: Float[np.ndarray, " dim"]) -> float:
        """The squared length of a step in standard deviations."""
        scaled = step / self.scale
        if self.factor.ndim == 1:
            return float(np.sum((scaled / self.factor) ** 2))
        return float(np.sum(np.linalg.solve(self.factor, scaled) ** 2))

    @property
    def log_det(self) -> float:
        """The log of the determinant of the covariance."""
        diagonal = self.factor.ndim == 1
        factor = np.log(self.factor).sum() if diagonal else np.linalg.slogdet(self.factor)[1]
        return 2.0 * float(np.log(self.scale).sum() + factor)

    @property
    def covariance(self) -> Factor:
        """The covariance; its diagonal where the factor is diagonal."""
        if self.factor.ndim == 1:
            return (self.scale * self.factor) ** 2
        factor = self.scale[:, None] * self.factor
        return factor @ factor.T

    def with_factor(self, factor: Factor) -> "Gaussian":
        """The same with another factor, clipped to the bounds."""
        if factor.ndim == 1:
            return replace(self, factor=np.clip(factor, *_BOUNDS))
        vectors, values, _ = np.linalg.svd(factor)
        return replace(self, factor=vectors * np.clip(values, *_BOUNDS))


class Curvature(NamedTuple):
    """The curvature of a log density at a position."""

    gaussian: Gaussian  # of the same curvature
    newton_step: Float[np.ndarray, " dim"]  # of Newton's method, by u
    concave: bool  # whether the density falls off in all directions


def measure_curvature(
    evaluate: Evaluate, position: Float[np.ndarray, " dim"], gaussian: Gaussian
) -> Curvature:
    """Measure the curvature at a position by finite differences of gradients, along a guess's axes.

    Differences span a part of a standard deviation, which is not known before: the guess is updated
    until the curvature is its own. A step along which the density falls by far more than its
    gradients say, or is not finite, was too long. Where the density does not fall off, the
    curvature is that of the guess, whose factor must be square.
    """
    newton_step, concave = np.zeros_like(position), False
    for _ in range(_ROUNDS):
        offsets = _STEP * np.eye(len(position))
        steps = gaussian.steps(np.concatenate([np.zeros((1, len(position))), offsets, -offsets]))
        density, gradient = evaluate(position + steps)
        whitened = np.where(np.isfinite(density)[:, None], gaussian.whitened(gradient), np.nan)
        hessian, too_long = _differences(density, whitened)
        if too_long.any():
            concave = False
            gaussian = gaussian.with_factor(
                gaussian.factor / np.sqrt(np.where(too_long > 0, too_long, 1.0))
            )
            continue
        values, vectors = np.linalg.eigh((hessian + hessian.T) / 2)
        concave = bool(values[0] > 0)
        near = (values > _NEAR[0]) & (values < _NEAR[1])
        bounded = np.where(values > 0, np.clip(values, 0.01, 1e8), 1.0)
        before = np.linalg.svd(gaussian.factor, compute_uv=False)
        gaussian = gaussian.with_factor(gaussian.factor @ vectors / np.sqrt(bounded))
        newton_step = gaussian.whitened(gradient[:1])[0]
        after = np.linalg.svd(gaussian.factor, compute_uv=False)
        if near.all() or np.allclose(before, after, rtol=0.1):
            break
    return Curvature(gaussian, newton_step, concave)


def _differences(
    density: Float[np.ndarray, " step"], whitened: Float[np.ndarray, "step dim"]
) -> tuple[Float[np.ndarray, "dim dim"], Float[np.ndarray, " dim"]]:
    """The negative Hessian by u, a row an axis; and where a step was too long its curvature, or 0.

    Densities, and gradients by u (NaN where there are none), are those at a position, at steps
    ahead along each axis, and at steps back.
    """
    (level, ahead, back), (here, up, down) = (
        np.split(x, [1, 1 + (len(x) - 1) // 2]) for x in (density, whitened)
    )
    with np.errstate(invalid="ignore"):
        central = (down - up) / (2 * _STEP)
        onesided = np.where(np.isfinite(up), here - up, down - here) / _STEP
        hessian = np.where(np.isfinite(central), central, onesided)
        fall = (2 * level - ahead - back) / _STEP**2
        steep = fall - np.maximum(np.diagonal(hessian), 1.0) > 1.0 / _STEP**2
    failed = ~np.isfinite(hessian).all(axis=1)
    too_long = np.where(failed, 16.0, np.where(steep, np.clip(fall, 1.0, 1e8), 0.0))
    return hessian, too_long


def measure_scales(
    evaluate: Evaluate,
    position: Float[np.ndarray, " dim"],
    gaussian: Gaussian,
    count: int,
    random: np.random.Generator,
) -> Gaussian:
    """Measure the scale of each axis of a guess by random steps.

    The variance of each axis is v = √(var u / var ∇ log p), which minimises the Fisher divergence
    to a Gaussian of independent axes. The first steps are small, the second of the size that the
    first have found; of each size there are `count`, taken in both directions. Where no gradient is
    finite the guess is unchanged. Source: as for `LowRankMetric`.
    """
    for size in _PROBES:
        step = gaussian.steps(size * random.standard_normal((count, len(position))))
        _, gradient = evaluate(np.concatenate([position + step, position - step]))
        whitened = gaussian.whitened(gradient)
        change = (whitened[:count] - whitened[count:]) / (2 * size)
        change = change[np.isfinite(change).all(axis=1)]
        if len(change):
            spread = np.sqrt(np.mean(change**2, axis=0))
            gaussian = gaussian.with_factor(gaussian.factor / np.sqrt(np.maximum(spread, 1e-10)))
    return gaussian
