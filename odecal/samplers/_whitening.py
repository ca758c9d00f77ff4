"""Coordinates in which a density is about round, for methods whose metric is diagonal."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from odecal.samplers._base import LogDensity, as_matrix


class Whitening(NamedTuple):
    """The linear map x = factor z from whitened coordinates z to a chain's x."""

    factor: Float[Array, "dim dim"]  # lower triangular

    @classmethod
    def of(
        cls, covariances: Float[Array, "chain dim dim"] | Float[Array, "chain dim"]
    ) -> "Whitening":
        """That of the mean of guesses of the covariance."""
        return cls(jnp.linalg.cholesky(as_matrix(jnp.mean(covariances, axis=0))))

    def whiten(self, positions: Float[Array, "n dim"]) -> Float[Array, "n dim"]:
        """Whitened coordinates of positions."""
        return jax.scipy.linalg.solve_triangular(self.factor, positions.T, lower=True).T

    def unwhiten(self, positions: Float[Array, "*n dim"]) -> Float[Array, "*n dim"]:
        """Positions from whitened coordinates."""
        return positions @ self.factor.T

    def gradient(self, gradients: Float[Array, "n dim"]) -> Float[Array, "n dim"]:
        """Gradients in whitened coordinates."""
        return gradients @ self.factor

    def density(self, logdensity_fn: LogDensity) -> LogDensity:
        """The same log density as a function of whitened coordinates."""
        return lambda z: logdensity_fn(self.unwhiten(z))
