"""Overdispersed counts."""

import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, ArrayLike, Float
from numpyro.distributions.util import promote_shapes

from odecal.noise._floors import COUNT_FLOOR, at_least
from odecal.noise._series import as_expected, excess, excess_over, floats, log1p_over, stirling

# Draws of a smaller overdispersion are drawn by this one.
_LEAST_OVERDISPERSION = 1e-12


class NegativeBinomial(dist.NegativeBinomial2):
    """Overdispersed counts: variance = mean + mean² · overdispersion.

    Give one of the two spreads; each is the reciprocal of the other.

    Args:
        mean: the predicted count.
        overdispersion: the coefficient of mean² in the variance; 0 is Poisson's.
        concentration: its reciprocal, Stan's `phi`.

    Raises:
        TypeError: if neither or both spreads are given.
    """

    pytree_data_fields = ("predicted", "overdispersion")

    def __init__(
        self,
        mean: ArrayLike,
        *,
        overdispersion: ArrayLike | None = None,
        concentration: ArrayLike | None = None,
    ) -> None:
        if (overdispersion is None) == (concentration is None):
            raise TypeError(
                "NegativeBinomial takes exactly one of overdispersion= and concentration=."
            )
        if concentration is None:
            a = jnp.asarray(overdispersion, jnp.result_type(overdispersion, float))
            a = jnp.where(a < 0, 0.0, a)
            concentration = 1.0 / at_least(a, _LEAST_OVERDISPERSION)
        else:
            a = 1.0 / jnp.asarray(concentration, jnp.result_type(concentration, float))
        mean = at_least(mean, COUNT_FLOOR)
        super().__init__(mean, concentration)
        self.predicted, self.overdispersion = promote_shapes(mean, a)

    def log_prob(self, value: ArrayLike) -> Float[Array, "..."]:
        """The log probability of a count.

        With m the mean, a the overdispersion, δ = (k − m) a / (1 + a m),
        δ' = (m − k) / (k (1 + a m)), ψ(δ) = δ − log(1 + δ), and s what Stirling's formula leaves
        of log Γ,

            log p = −ψ(δ) / a − k ψ(δ') − s(k) + s(k + 1/a) − s(1/a) − ½ log(2π k (1 + a k)).
        """
        k, mean, a = floats(value, self.predicted, self.overdispersion)
        some = jnp.where(k > 0, k, 1.0)
        more, wide = jnp.log1p(a * some), 1.0 + a * mean
        wider = more - jnp.log1p(a * mean)
        off = (some - mean) / wide
        spread = excess_over(a, off, wider)
        ratio = jnp.log(mean) - jnp.log(some) + wider
        apart = some * excess((mean - some) / (some * wide), ratio)
        left = stirling(a / (1.0 + a * some)) - stirling(a)
        some_log_prob = left - spread - apart - as_expected(some) - 0.5 * more
        return jnp.where(k > 0, some_log_prob, -log1p_over(a, mean))
