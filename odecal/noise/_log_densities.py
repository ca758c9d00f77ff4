"""Log densities without the cancellation of log-gamma functions.

A count k and its mean m can each be a hundred million, of which a difference of log-gamma
functions leaves no digit in single precision; nor of large degrees of freedom. Source: Loader
(2000), Fast and accurate computation of binomial probabilities.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Array = Any

# Where series end: of the logarithm in a small ratio, of Stirling's formula in a small 1/z.
_SMALL, _NEAR = 0.1, 0.0625
_STIRLING = (-691 / 360360, 1 / 1188, -1 / 1680, 1 / 1260, -1 / 360, 1 / 12)
_HALF_LOG_TWO_PI = 0.5 * float(np.log(2.0 * np.pi))


def poisson_log_prob(k: Array, mean: Array) -> jax.Array:
    """The log probability of a count.

    Args:
        k: the count.
        mean: its expectation, positive.
    """
    k, mean = _floats(k, mean)
    some = jnp.where(k > 0, k, 1.0)
    apart = some * excess((mean - some) / some, jnp.log(mean) - jnp.log(some))
    return jnp.where(k > 0, -apart - _own(some), -mean)


def negative_binomial_log_prob(k: Array, mean: Array, overdispersion: Array) -> jax.Array:
    """The log probability of an overdispersed count: variance = mean + mean² · overdispersion.

    With a the overdispersion, δ = (k − m) a / (1 + a m), δ' = (m − k) / (k (1 + a m)),
    ψ(δ) = δ − log(1 + δ), and s what Stirling's formula leaves of log Γ,

        log p = −ψ(δ) / a − k ψ(δ') − s(k) + s(k + 1/a) − s(1/a) − ½ log(2π k (1 + a k)).

    Args:
        k: the count.
        mean: its expectation, positive.
        overdispersion: at least 0, where it is Poisson's.
    """
    k, mean, a = _floats(k, mean, overdispersion)
    some = jnp.where(k > 0, k, 1.0)
    more, wide = jnp.log1p(a * some), 1.0 + a * mean
    wider = more - jnp.log1p(a * mean)
    off = (some - mean) / wide
    near = jnp.abs(a * off) < _SMALL
    spread = jnp.where(
        near,
        a * jnp.square(off) * _of_square(jnp.where(near, a * off, 0.0)),
        (a * off - wider) / jnp.where(near, 1.0, a),
    )
    ratio = jnp.log(mean) - jnp.log(some) + wider
    apart = some * excess((mean - some) / (some * wide), ratio)
    left = stirling(a / (1.0 + a * some)) - stirling(a)
    return jnp.where(k > 0, left - spread - apart - _own(some) - 0.5 * more, _none(mean, a))


def student_t_log_prob(z: Array, df: Array) -> jax.Array:
    """The log density of Student's t.

    With s what Stirling's formula leaves of log Γ,

        log p = (ν/2) log(1 + 1/ν) − ½ + s(ν/2 + ½) − s(ν/2) − ½ log 2π − ((ν + 1)/2) log(1 + z²/ν).

    Args:
        z: a standardised value.
        df: the degrees of freedom ν.
    """
    z, df = _floats(z, df)
    half = 0.5 * df
    flat = half * jnp.log1p(1.0 / df) - 0.5 - _HALF_LOG_TWO_PI
    return (
        flat
        + stirling(1.0 / (half + 0.5))
        - stirling(1.0 / half)
        - (half + 0.5) * jnp.log1p(jnp.square(z) / df)
    )


def _floats(*arrays: Array) -> tuple[jax.Array, ...]:
    return tuple(jnp.asarray(x, jnp.result_type(float)) for x in arrays)


def _own(k: jax.Array) -> jax.Array:
    """What a count costs that is as expected."""
    return stirling(1.0 / k) + 0.5 * jnp.log(k) + _HALF_LOG_TWO_PI


def _none(mean: jax.Array, a: jax.Array) -> jax.Array:
    """The log probability of no count: −log(1 + a m) / a."""
    x = a * mean
    near = x < _SMALL
    series = jnp.polyval(_alternating(1, x.dtype), jnp.where(near, x, 0.0))
    return -jnp.where(near, mean * series, jnp.log1p(x) / jnp.where(near, 1.0, a))


def excess(x: jax.Array, log: jax.Array) -> jax.Array:
    """The excess x − log(1 + x), given that logarithm."""
    near = jnp.abs(x) < _SMALL
    return jnp.where(near, jnp.square(x) * _of_square(jnp.where(near, x, 0.0)), x - log)


def _of_square(x: jax.Array) -> jax.Array:
    """(x − log(1 + x)) / x² of a small x."""
    return jnp.polyval(_alternating(2, x.dtype), x)


def _alternating(first: int, dtype: Any) -> jax.Array:
    """The coefficients of Σ (−x)ⁿ / (n + first), the highest first."""
    n = np.arange(16)[::-1]
    return jnp.asarray((-1.0) ** n / (n + first), dtype)


def stirling(w: jax.Array) -> jax.Array:
    """What Stirling's formula leaves of log Γ(z + 1), of w = 1/z: 0 at w = 0."""
    near = w < _NEAR
    r, z = jnp.where(near, w, 0.0), 1.0 / jnp.where(near, 1.0, w)
    exact = jax.lax.lgamma(z + 1.0) - (z + 0.5) * jnp.log(z) + z - _HALF_LOG_TWO_PI
    return jnp.where(near, r * jnp.polyval(jnp.asarray(_STIRLING, w.dtype), r * r), exact)
