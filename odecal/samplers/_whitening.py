"""Coordinates in which a density is about round, for methods whose metric is diagonal."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from odecal.samplers._base import as_matrix


class Whitening(NamedTuple):
    """The linear map x = factor z from round coordinates z to a chain's x.

    Args:
        factor: a lower triangular matrix of shape (dim, dim).
    """

    factor: jax.Array

    @classmethod
    def of(cls, covariances: jax.Array) -> "Whitening":
        """That of the mean of guesses of the covariance, with a leading axis of chains."""
        return cls(jnp.linalg.cholesky(as_matrix(jnp.mean(covariances, axis=0))))

    def whiten(self, positions: jax.Array) -> jax.Array:
        """Round coordinates of positions of shape (n, dim)."""
        return jax.scipy.linalg.solve_triangular(self.factor, positions.T, lower=True).T

    def unwhiten(self, positions: jax.Array) -> jax.Array:
        """Positions of shape (..., dim) from round coordinates."""
        return positions @ self.factor.T

    def gradient(self, gradients: jax.Array) -> jax.Array:
        """Gradients of shape (n, dim) in round coordinates."""
        return gradients @ self.factor

    def density(
        self, logdensity_fn: Callable[[jax.Array], jax.Array]
    ) -> Callable[[jax.Array], jax.Array]:
        """The same log density as a function of round coordinates."""
        return lambda z: logdensity_fn(self.unwhiten(z))
