"""Multiplicative noise."""

import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import ArrayLike

from odecal.noise._floors import positive


class LogNormal(dist.LogNormal):
    """Multiplicative noise: log(value) ~ Normal(log(median), sigma).

    Args:
        median: the predicted value, in the unit of the observable.
        sigma: the standard deviation of the logarithm, dimensionless.
    """

    def __init__(self, median: ArrayLike, sigma: ArrayLike) -> None:
        super().__init__(jnp.log(positive(median)), sigma)
