"""Particles of sequential Monte Carlo: their densities, their weights, resampling."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Particles(NamedTuple):
    """Particles, and their log densities."""

    position: Float[Array, "particle dim"]
    prior: Float[Array, " particle"]
    posterior: Float[Array, " particle"]

    def likelihood(self) -> Float[Array, " particle"]:
        """The log likelihood, −inf where a solve failed."""
        return jnp.where(jnp.isneginf(self.posterior), -jnp.inf, self.posterior - self.prior)

    def tempered(self, beta: Float[Array, ""]) -> Float[Array, " particle"]:
        """The log density at an inverse temperature above zero."""
        return self.prior + beta * self.likelihood()


def rise_of_temperature(
    likelihood: Float[Array, " particle"], target_ess: float, left: Float[Array, ""]
) -> Float[Array, ""]:
    """How far the inverse temperature rises, so that weights keep an effective sample size.

    By bisection of its logarithm: from the prior it may have to rise by very little.
    """
    wanted = target_ess * likelihood.shape[0]

    def effective(rise: jax.Array) -> jax.Array:
        weights = jax.nn.softmax(jnp.where(jnp.isneginf(likelihood), -jnp.inf, rise * likelihood))
        return 1 / jnp.sum(weights**2)

    def halved(_: jax.Array, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = ends
        middle = (low + high) / 2
        fits = effective(jnp.exp(middle)) > wanted
        return jnp.where(fits, middle, low), jnp.where(fits, high, middle)

    high = jnp.log(left)
    low, _ = jax.lax.fori_loop(0, 40, halved, (high - 70.0, high))
    return jnp.where(effective(left) > wanted, left, jnp.exp(low))


def resampled(key: jax.Array, weights: Float[Array, " particle"]) -> Int[Array, " particle"]:
    """Systematic resampling: which particles go on, in their order."""
    number = weights.shape[0]
    marks = (jnp.arange(number) + jax.random.uniform(key, (), weights.dtype)) / number
    heaped = jnp.cumsum(weights)
    return jnp.searchsorted(heaped / heaped[-1], marks, side="right").clip(0, number - 1)
