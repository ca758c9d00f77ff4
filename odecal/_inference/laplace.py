"""The Gaussian around a mode, measured by gradients; its diagonal where dimensions are many."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

# Log densities and gradients of positions of shape (n, dim).
Evaluate = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

# Half the span of differences, in standard deviations; and how often it is set anew.
_STEP, _ROUNDS = 0.25, 8
# A curvature that is as near to that of the guess as this needs no second look.
_NEAR = 0.2, 5.0
# The widest and narrowest standard deviations, in scales of the prior.
_BOUNDS = 1e-12, 10.0
# Sizes of the steps by which scales are found where dimensions are many.
_PROBES = 1e-2, 0.3


@dataclass(frozen=True, eq=False)
class Shape:
    """The shape of a Gaussian: how steps u of independent unit normals become steps of it.

    Args:
        scale: the scale of each dimension, of shape (dim,).
        factor: F, of shape (dim, dim), or of shape (dim,) if diagonal: the covariance is S F Fᵀ S,
            S the diagonal matrix of scales.
    """

    scale: np.ndarray
    factor: np.ndarray

    @classmethod
    def guess(cls, scale: np.ndarray, curvature: np.ndarray) -> "Shape":
        """From an optimiser's estimate of the inverse curvature, in scales.

        A direction that it never measured keeps the scale of the prior; at most that.
        """
        if curvature.ndim == 1:
            return cls(scale, curvature)
        values, vectors = np.linalg.eigh(np.nan_to_num((curvature + curvature.T) / 2))
        return cls(scale, vectors * np.sqrt(np.clip(values, _BOUNDS[0] ** 2, 1.0)))

    def steps(self, u: np.ndarray) -> np.ndarray:
        """Steps of the Gaussian, of shape (n, dim), from steps of independent unit normals."""
        return self.scale * (u * self.factor if self.factor.ndim == 1 else u @ self.factor.T)

    def pulled(self, gradients: np.ndarray) -> np.ndarray:
        """Gradients by position, of shape (n, dim), as gradients by u."""
        scaled = self.scale * gradients
        return scaled * self.factor if self.factor.ndim == 1 else scaled @ self.factor

    def square(self, step: np.ndarray) -> float:
        """The squared length of a step, of shape (dim,), in standard deviations."""
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
    def covariance(self) -> np.ndarray:
        """The covariance, of shape (dim, dim); its diagonal where the factor is one."""
        if self.factor.ndim == 1:
            return (self.scale * self.factor) ** 2
        factor = self.scale[:, None] * self.factor
        return factor @ factor.T

    def turned(self, factor: np.ndarray) -> "Shape":
        """The same with another factor, kept within bounds."""
        if factor.ndim == 1:
            return replace(self, factor=np.clip(factor, *_BOUNDS))
        vectors, values, _ = np.linalg.svd(factor)
        return replace(self, factor=vectors * np.clip(values, *_BOUNDS))


class Measured(NamedTuple):
    """What differences of gradients tell of a place.

    Args:
        shape: of the Gaussian of the same curvature.
        slope: the gradient by u there, which is also the step of Newton's method, of shape (dim,).
        dome: whether the density falls off in all directions.
    """

    shape: Shape
    slope: np.ndarray
    dome: bool


def measured(evaluate: Evaluate, place: np.ndarray, shape: Shape) -> Measured:
    """Measure the curvature around a place, by differences along the axes of a guess.

    Differences are taken over a part of a standard deviation, which is what is sought: it is set
    anew until the measured curvature is that of the guess. A step along which the density falls by
    far more than its gradients say, or is not finite, was too long.

    Args:
        evaluate: gives log densities and gradients.
        place: of shape (dim,).
        shape: the guess, with a square factor.

    Returns:
        What was found. Where the density does not fall off, the guess is kept.
    """
    slope, dome = np.zeros_like(place), False
    for _ in range(_ROUNDS):
        offsets = _STEP * np.eye(len(place))
        steps = shape.steps(np.concatenate([np.zeros((1, len(place))), offsets, -offsets]))
        density, gradient = evaluate(place + steps)
        pulled = np.where(np.isfinite(density)[:, None], shape.pulled(gradient), np.nan)
        hessian, wall = _differences(density, pulled)
        if wall.any():
            dome = False
            shape = shape.turned(shape.factor / np.sqrt(np.where(wall > 0, wall, 1.0)))
            continue
        values, vectors = np.linalg.eigh((hessian + hessian.T) / 2)
        dome = bool(values[0] > 0)
        near = (values > _NEAR[0]) & (values < _NEAR[1])
        kept = np.where(values > 0, np.clip(values, 0.01, 1e8), 1.0)
        before = np.linalg.svd(shape.factor, compute_uv=False)
        shape = shape.turned(shape.factor @ vectors / np.sqrt(kept))
        slope = shape.pulled(gradient[:1])[0]
        after = np.linalg.svd(shape.factor, compute_uv=False)
        if near.all() or np.allclose(before, after, rtol=0.1):
            break
    return Measured(shape, slope, dome)


def _differences(density: np.ndarray, pulled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The negative Hessian by u, a row an axis; and where a step was too long its curvature, or 0.

    Args:
        density: at a place, at steps ahead along each axis, and at steps back.
        pulled: the gradients there; NaN where there are none.
    """
    (level, ahead, back), (here, up, down) = (
        np.split(x, [1, 1 + (len(x) - 1) // 2]) for x in (density, pulled)
    )
    with np.errstate(invalid="ignore"):
        central = (down - up) / (2 * _STEP)
        onesided = np.where(np.isfinite(up), here - up, down - here) / _STEP
        hessian = np.where(np.isfinite(central), central, onesided)
        fall = (2 * level - ahead - back) / _STEP**2
        steep = fall - np.maximum(np.diagonal(hessian), 1.0) > 1.0 / _STEP**2
    failed = ~np.isfinite(hessian).all(axis=1)
    wall = np.where(failed, 16.0, np.where(steep, np.clip(fall, 1.0, 1e8), 0.0))
    return hessian, wall


def probed(
    evaluate: Evaluate, place: np.ndarray, shape: Shape, count: int, random: np.random.Generator
) -> Shape:
    """A guess whose axes have the lengths that random steps along them tell.

    The variance v of each axis is the one for which √v is the spread of steps over that of the
    changes of the gradient: v = √(var u / var ∇ log p), which minimises the Fisher divergence to a
    Gaussian of independent axes. The first steps are small, the second of the size that the first
    have found. Source: as for `LowRankMetric`.

    Args:
        evaluate: gives log densities and gradients.
        place: of shape (dim,).
        shape: the guess.
        count: how many steps of each size; each is taken in both directions.
        random: where they come from.

    Returns:
        The guess, stretched along its axes; as it is where no gradient is finite.
    """
    for size in _PROBES:
        step = shape.steps(size * random.standard_normal((count, len(place))))
        _, gradient = evaluate(np.concatenate([place + step, place - step]))
        pulled = shape.pulled(gradient)
        change = (pulled[:count] - pulled[count:]) / (2 * size)
        change = change[np.isfinite(change).all(axis=1)]
        if len(change):
            spread = np.sqrt(np.mean(change**2, axis=0))
            shape = shape.turned(shape.factor / np.sqrt(np.maximum(spread, 1e-10)))
    return shape
