"""Guesses of the covariance around a mode: a matrix, or its diagonal where dimensions are many."""

from collections.abc import Callable

import numpy as np

# Of a variance that is guessed.
_BOUNDS = 1e-10, 1.0
# Sizes of the steps by which scales are found.
_PROBES = 1e-2, 0.3


def bounded(curvature: np.ndarray) -> np.ndarray:
    """An inverse curvature, of shape (dim, dim), as a covariance.

    A direction that the optimiser never measured keeps its unit guess; at most that.
    """
    values, vectors = np.linalg.eigh(np.nan_to_num((curvature + curvature.T) / 2))
    return (vectors * np.clip(values, *_BOUNDS)) @ vectors.T


def probed(
    gradients: Callable[[np.ndarray], np.ndarray],
    mode: np.ndarray,
    count: int,
    random: np.random.Generator,
) -> np.ndarray:
    """The diagonal of a covariance, from how the gradient changes around a mode.

    The variance v of each dimension is the one for which √v is the spread of steps over that of
    the changes of the gradient: v = √(var x / var ∇ log p), which minimises the Fisher divergence
    to a Gaussian of independent dimensions. The first steps are small, the second of the size
    that the first have found. Source: as for `LowRankMetric`.

    Args:
        gradients: of positions of shape (n, dim).
        mode: of shape (dim,).
        count: how many steps of each size; each is taken in both directions.
        random: where they come from.

    Returns:
        The variances, of shape (dim,); 1 where no gradient is finite.
    """
    variance = np.ones_like(mode)
    for size in _PROBES:
        step = np.sqrt(variance) * random.standard_normal((count, len(mode)))
        found = gradients(np.concatenate([mode + size * step, mode - size * step]))
        change = (found[:count] - found[count:]) / (2 * size)
        change = change[np.isfinite(change).all(axis=1)]
        if len(change):
            spread = np.sqrt(np.mean(change**2, axis=0))
            variance = np.clip(np.sqrt(variance) / np.maximum(spread, 1e-10), *_BOUNDS)
    return variance


# What is done with either form.


def solved(curvature: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The inverse of an inverse curvature, times a vector."""
    return x / curvature if curvature.ndim == 1 else np.linalg.pinv(curvature) @ x


def log_det(covariance: np.ndarray) -> float:
    """The log of the determinant."""
    if covariance.ndim == 1:
        return float(np.log(covariance).sum())
    return float(np.linalg.slogdet(covariance)[1])


def correlated(covariance: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Standard normal noise, of shape (dim,), with a covariance."""
    if covariance.ndim == 1:
        return np.sqrt(covariance) * noise
    return np.linalg.cholesky(covariance) @ noise
