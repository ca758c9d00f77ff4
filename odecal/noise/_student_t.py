"""Additive noise with heavy tails."""

import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, ArrayLike, Float

from odecal.noise._series import HALF_LOG_TWO_PI, floats, stirling


class StudentT(dist.StudentT):
    """Additive noise with heavy tails: value ~ location + scale * t(df).

    Args:
        location: the predicted value, in the unit of the observable.
        scale: the scale, in the same unit.
        df: the degrees of freedom; 4 unless told otherwise.
    """

    def __init__(self, location: ArrayLike, scale: ArrayLike, df: ArrayLike = 4.0) -> None:
        super().__init__(df, location, scale)

    def log_prob(self, value: ArrayLike) -> Float[Array, "..."]:
        """The log density of a value, z scales from the location, with ν degrees of freedom.

        With s what Stirling's formula leaves of log Γ, and less the logarithm of the scale,

            (ν/2) log(1 + 1/ν) − ½ + s(ν/2 + ½) − s(ν/2) − ½ log 2π − ((ν + 1)/2) log(1 + z²/ν).
        """
        z, df = floats((value - self.loc) / self.scale, self.df)
        half = 0.5 * df
        flat = half * jnp.log1p(1.0 / df) - 0.5 - HALF_LOG_TWO_PI
        gamma = flat + stirling(1.0 / (half + 0.5)) - stirling(1.0 / half)
        return gamma - (half + 0.5) * jnp.log1p(jnp.square(z) / df) - jnp.log(self.scale)
