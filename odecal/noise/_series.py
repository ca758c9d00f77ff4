"""Parts of log densities without the cancellation of log-gamma functions.

A count k and its mean m can each be a hundred million, of which a difference of log-gamma
functions leaves no digit in single precision; nor of large degrees of freedom. Source: Loader
(2000), Fast and accurate computation of binomial probabilities.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

# Where series end: of the logarithm in a small ratio, of Stirling's formula in a small 1/z.
_SMALL, _NEAR = 0.1, 0.0625
_STIRLING = (-691 / 360360, 1 / 1188, -1 / 1680, 1 / 1260, -1 / 360, 1 / 12)
HALF_LOG_TWO_PI = 0.5 * float(np.log(2.0 * np.pi))


def floats(*arrays: ArrayLike) -> tuple[Float[Array, "..."], ...]:
    """Arrays of the default floating type."""
    return tuple(jnp.asarray(x, jnp.result_type(float)) for x in arrays)


def stirling(w: Float[Array, "..."]) -> Float[Array, "..."]:
    """What Stirling's formula leaves of log Γ(z + 1), of w = 1/z: 0 at w = 0."""
    near = w < _NEAR
    r, z = jnp.where(near, w, 0.0), 1.0 / jnp.where(near, 1.0, w)
    exact = jax.lax.lgamma(z + 1.0) - (z + 0.5) * jnp.log(z) + z - HALF_LOG_TWO_PI
    return jnp.where(near, r * jnp.polyval(jnp.asarray(_STIRLING, w.dtype), r * r), exact)


def as_expected(k: Float[Array, "..."]) -> Float[Array, "..."]:
    """Minus the log probability, by Poisson's law, of a positive count that is its mean."""
    return stirling(1.0 / k) + 0.5 * jnp.log(k) + HALF_LOG_TWO_PI


def excess(x: Float[Array, "..."], log: Float[Array, "..."]) -> Float[Array, "..."]:
    """The excess x − log(1 + x), given that logarithm."""
    near = jnp.abs(x) < _SMALL
    return jnp.where(near, jnp.square(x) * _of_square(jnp.where(near, x, 0.0)), x - log)


def excess_over(
    a: Float[Array, "..."], x: Float[Array, "..."], log: Float[Array, "..."]
) -> Float[Array, "..."]:
    """The excess (a x − log(1 + a x)) / a, given that logarithm: 0 at a = 0."""
    near = jnp.abs(a * x) < _SMALL
    series = a * jnp.square(x) * _of_square(jnp.where(near, a * x, 0.0))
    return jnp.where(near, series, (a * x - log) / jnp.where(near, 1.0, a))


def log1p_over(a: Float[Array, "..."], x: Float[Array, "..."]) -> Float[Array, "..."]:
    """log(1 + a x) / a of a x that is not negative: x at a = 0."""
    near = a * x < _SMALL
    series = jnp.polyval(_alternating(1, x.dtype), jnp.where(near, a * x, 0.0))
    return jnp.where(near, x * series, jnp.log1p(a * x) / jnp.where(near, 1.0, a))


def _of_square(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """(x − log(1 + x)) / x² of a small x."""
    return jnp.polyval(_alternating(2, x.dtype), x)


def _alternating(first: int, dtype: Any) -> Float[Array, " coefficient"]:
    """The coefficients of Σ (−x)ⁿ / (n + first), the highest first."""
    n = np.arange(16)[::-1]
    return jnp.asarray((-1.0) ** n / (n + first), dtype)
