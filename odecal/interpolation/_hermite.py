"""Cubics."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float, Int

from odecal.interpolation._base import AbstractInterpolation, Coefficients, Times, Value
from odecal.interpolation._turns import pieces_of, turns


@dataclass(frozen=True)
class Hermite(AbstractInterpolation):
    """A cubic from each sample to the next, with a continuous slope and no overshoot.

    Source: Fritsch and Carlson (1980), https://doi.org/10.1137/0717021.
    """

    def coefficients(
        self, times: Float[np.ndarray, " sample"], values: Float[np.ndarray, " sample"]
    ) -> Float[np.ndarray, "sample coefficient"]:
        """Values and slopes."""
        from scipy.interpolate import PchipInterpolator

        if len(times) < 2:
            return np.stack([values, np.zeros_like(values)], axis=1)
        slopes = PchipInterpolator(times, values).derivative()(times)
        return np.stack([values, slopes], axis=1)

    def turns(
        self,
        individual: Int[np.ndarray, " n"],
        times: Float[np.ndarray, " n"],
        values: Float[np.ndarray, " n"],
        rtol: float,
    ) -> Int[np.ndarray, " turn"]:
        """Those between which it is smooth."""
        edges = np.flatnonzero(np.diff(individual)) + 1
        parts = zip(np.split(times, edges), np.split(values, edges), strict=True)
        slopes = np.concatenate([self.coefficients(*part)[:, 1] for part in parts])
        return turns(pieces_of(individual, times, values, slopes), rtol)

    def __call__(self, t: ArrayLike, times: Times, coefficients: Coefficients) -> Value:
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
