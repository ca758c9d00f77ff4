"""Interpolations: what an input is between its samples. Outside them it keeps the nearest."""

import abc
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from odecal.interpolation._turns import pieces_of, turns

__all__ = ["AbstractInterpolation", "Backward", "Constant", "Hermite", "Linear"]


@dataclass(frozen=True)
class AbstractInterpolation(abc.ABC):
    """What an input is between its samples.

    Attributes:
        jumps: whether it jumps at its samples, so that a solve stops there.
    """

    jumps: ClassVar[bool] = False

    def coefficients(self, times: np.ndarray, values: np.ndarray) -> np.ndarray:
        """What is computed once of the samples, of shape (sample, coefficient).

        Args:
            times: rising, of shape (sample,).
            values: of shape (sample,).
        """
        del times
        return values[:, None]

    def turns(
        self, individual: np.ndarray, times: np.ndarray, values: np.ndarray, rtol: float
    ) -> np.ndarray:
        """The samples that no step of a solve may pass, by number: all of them unless told better.

        None where it jumps: there a solve begins anew.

        Args:
            individual: whose each sample is, of shape (n,); not decreasing.
            times: of shape (n,); rising within an individual.
            values: of shape (n,).
            rtol: the relative tolerance of the solve.
        """
        del individual, values, rtol
        return np.arange(0 if self.jumps else len(times))

    @abc.abstractmethod
    def __call__(self, t: Any, times: jax.Array, coefficients: jax.Array) -> jax.Array:
        """The value at a time."""

    def after(self, t: Any, times: jax.Array, coefficients: jax.Array) -> jax.Array:
        """The value just after a time, which differs from that at it where it jumps there."""
        return self(t, times, coefficients)

    def needed(self, values: np.ndarray) -> np.ndarray:
        """Which samples tell it, where it jumps: by default those that differ from the one before.

        Args:
            values: of one individual, of shape (sample,).
        """
        return np.append(True, np.diff(values) != 0)


@dataclass(frozen=True)
class Linear(AbstractInterpolation):
    """A straight line from each sample to the next."""

    def turns(
        self, individual: np.ndarray, times: np.ndarray, values: np.ndarray, rtol: float
    ) -> np.ndarray:
        """Those between which it is smooth."""
        return turns(pieces_of(individual, times, values, None), rtol)

    def __call__(self, t: Any, times: jax.Array, coefficients: jax.Array) -> jax.Array:
        """The value at a time."""
        return jnp.interp(t, times, coefficients[:, 0])


@dataclass(frozen=True)
class Hermite(AbstractInterpolation):
    """A cubic from each sample to the next, with a continuous slope and no overshoot.

    Source: Fritsch and Carlson (1980), https://doi.org/10.1137/0717021.
    """

    def coefficients(self, times: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Values and slopes."""
        from scipy.interpolate import PchipInterpolator

        if len(times) < 2:
            return np.stack([values, np.zeros_like(values)], axis=1)
        slopes = PchipInterpolator(times, values).derivative()(times)
        return np.stack([values, slopes], axis=1)

    def turns(
        self, individual: np.ndarray, times: np.ndarray, values: np.ndarray, rtol: float
    ) -> np.ndarray:
        """Those between which it is smooth."""
        edges = np.flatnonzero(np.diff(individual)) + 1
        parts = zip(np.split(times, edges), np.split(values, edges), strict=True)
        slopes = np.concatenate([self.coefficients(*part)[:, 1] for part in parts])
        return turns(pieces_of(individual, times, values, slopes), rtol)

    def __call__(self, t: Any, times: jax.Array, coefficients: jax.Array) -> jax.Array:
        """The value at a time."""
        if len(times) < 2:
            return coefficients[0, 0]
        i = jnp.clip(jnp.searchsorted(times, t, side="right") - 1, 0, len(times) - 2)
        width = times[i + 1] - times[i]
        s = jnp.clip((t - times[i]) / jnp.where(width > 0, width, 1.0), 0.0, 1.0)
        s = jnp.where(width > 0, s, 1.0)  # the last sample repeated is the last sample
        (y0, m0), (y1, m1) = coefficients[i], coefficients[i + 1]
        rise = (1 - s) * ((1 + 2 * s) * (1 - s) * y0 + s * (1 - s) * width * m0)
        return rise + s * (s * (3 - 2 * s) * y1 - s * (1 - s) * width * m1)


@dataclass(frozen=True)
class Constant(AbstractInterpolation):
    """Each sample holds until the next."""

    jumps: ClassVar[bool] = True

    def __call__(self, t: Any, times: jax.Array, coefficients: jax.Array) -> jax.Array:
        """The value at a time; at that of a sample, the new one."""
        i = jnp.clip(jnp.searchsorted(times, t, side="right") - 1, 0, len(times) - 1)
        return coefficients[i, 0]


@dataclass(frozen=True)
class Backward(AbstractInterpolation):
    """Each sample holds back to the one before: the next observation carried backward.

    So does NONMEM, whose integration to a record goes by the values in that record.
    """

    jumps: ClassVar[bool] = True

    def needed(self, values: np.ndarray) -> np.ndarray:
        """Those that differ from the one after."""
        return np.append(np.diff(values) != 0, True)

    def __call__(self, t: Any, times: jax.Array, coefficients: jax.Array) -> jax.Array:
        """The value at a time; at that of a sample, this one."""
        i = jnp.clip(jnp.searchsorted(times, t, side="left"), 0, len(times) - 1)
        return coefficients[i, 0]

    def after(self, t: Any, times: jax.Array, coefficients: jax.Array) -> jax.Array:
        """The value just after a time; after that of a sample, the next one."""
        i = jnp.clip(jnp.searchsorted(times, t, side="right"), 0, len(times) - 1)
        return coefficients[i, 0]
