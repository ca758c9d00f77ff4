"""Counts."""

import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, ArrayLike, Float

from odecal.noise._floors import COUNT_FLOOR, at_least
from odecal.noise._series import as_expected, excess, floats


class Poisson(dist.Poisson):
    """Counts: value ~ Poisson(mean).

    Args:
        mean: the predicted count.
    """

    def __init__(self, mean: ArrayLike) -> None:
        super().__init__(at_least(mean, COUNT_FLOOR))

    def log_prob(self, value: ArrayLike) -> Float[Array, "..."]:
        """The log probability of a count."""
        k, mean = floats(value, self.rate)
        some = jnp.where(k > 0, k, 1.0)
        apart = some * excess((mean - some) / some, jnp.log(mean) - jnp.log(some))
        return jnp.where(k > 0, -apart - as_expected(some), -mean)
