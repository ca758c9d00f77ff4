"""Noise models: how an observation scatters around what the system predicts.

Each is a NumPyro distribution in the modeller's terms (a predicted median or mean, then the
spread). They survive predictions that solver error has made slightly negative: a prediction below
a tiny floor counts as the floor. Any other NumPyro distribution can be returned by an observable
just as well.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

__all__ = [
    "AdditiveProportional",
    "LogNormal",
    "NegativeBinomial",
    "Normal",
    "Poisson",
    "StudentT",
]

Array = Any

# The smallest mean of a count: below it every count but zero is out of reach anyway.
_COUNT_FLOOR = 1e-10


def _at_least(x: Array, floor: float) -> jax.Array:
    """X where it exceeds the floor, else the floor with a zero gradient (never 0 * inf)."""
    x = jnp.asarray(x, jnp.result_type(x, float))
    return jnp.where(x > floor, x, jnp.asarray(floor, x.dtype))


def _positive(x: Array) -> jax.Array:
    """x, or a number so small that only its logarithm matters."""
    return _at_least(x, float(jnp.finfo(jnp.result_type(x, float)).tiny) ** 0.5)


class Normal(dist.Normal):
    """Additive Gaussian noise: value ~ Normal(mean, sd).

    Args:
        mean: the predicted value, in the unit of the observable.
        sd: the standard deviation, in the same unit.
    """

    def __init__(self, mean: Array, sd: Array) -> None:
        super().__init__(mean, sd)


class LogNormal(dist.LogNormal):
    """Multiplicative noise: log(value) ~ Normal(log(median), sigma).

    Args:
        median: the predicted value, in the unit of the observable.
        sigma: the standard deviation of the logarithm, dimensionless.
    """

    def __init__(self, median: Array, sigma: Array) -> None:
        super().__init__(jnp.log(_positive(median)), sigma)


class StudentT(dist.StudentT):
    """Additive noise with heavy tails: value ~ location + scale * t(df).

    Args:
        location: the predicted value, in the unit of the observable.
        scale: the scale, in the same unit.
        df: the degrees of freedom; 4 unless told otherwise.
    """

    def __init__(self, location: Array, scale: Array, df: Array = 4.0) -> None:
        super().__init__(df, location, scale)


class AdditiveProportional(dist.Normal):
    """Additive and proportional noise: variance = additive² + (proportional·mean)².

    The combined error model of pharmacometrics (its variances add).

    Args:
        mean: the predicted value, in the unit of the observable.
        additive: the standard deviation at zero, in the same unit.
        proportional: the coefficient of variation at large values, dimensionless.
    """

    def __init__(self, mean: Array, additive: Array, proportional: Array) -> None:
        variance = jnp.square(additive) + jnp.square(proportional * mean)
        super().__init__(mean, jnp.sqrt(_positive(variance)))


class Poisson(dist.Poisson):
    """Counts: value ~ Poisson(mean).

    Args:
        mean: the predicted count.
    """

    def __init__(self, mean: Array) -> None:
        super().__init__(_at_least(mean, _COUNT_FLOOR))


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

    def __init__(
        self, mean: Array, *, overdispersion: Array = None, concentration: Array = None
    ) -> None:
        if (overdispersion is None) == (concentration is None):
            raise TypeError(
                "NegativeBinomial takes exactly one of overdispersion= and concentration=."
            )
        if concentration is None:
            # Beyond 1e8 the distribution is Poisson's to every digit that log-gamma leaves.
            concentration = 1.0 / _at_least(overdispersion, 1e-8)
        super().__init__(_at_least(mean, _COUNT_FLOOR), concentration)
