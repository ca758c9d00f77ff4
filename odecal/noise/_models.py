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
from numpyro.distributions.util import promote_shapes

from odecal.noise._log_densities import (
    negative_binomial_log_prob,
    poisson_log_prob,
    student_t_log_prob,
)

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

# Draws of a smaller overdispersion are drawn by this one.
_LEAST_OVERDISPERSION = 1e-12


def _at_least(x: Array, floor: float) -> jax.Array:
    """X where it exceeds the floor, else the floor with a zero gradient (never 0 * inf)."""
    x = jnp.asarray(x, jnp.result_type(x, float))
    return jnp.where(x > floor, x, jnp.asarray(floor, x.dtype))


def _positive(x: Array) -> jax.Array:
    """x, or a number so small that only its logarithm matters."""
    return _at_least(x, float(jnp.finfo(jnp.result_type(x, float)).tiny) ** 0.5)


def _root_of_squares(a: Array, b: Array) -> jax.Array:
    """√(a² + b²), or a small number where both are none; squares of neither underflow."""
    a, b = (jnp.asarray(x, jnp.result_type(a, b, float)) for x in (a, b))
    least = float(jnp.finfo(a.dtype).tiny) ** 0.5
    size = jax.lax.stop_gradient(jnp.maximum(jnp.abs(a), jnp.abs(b)))
    there = size > least
    size = jnp.where(there, size, 1.0)
    squares = jnp.where(there, jnp.square(a / size) + jnp.square(b / size), least)
    return size * jnp.sqrt(squares)


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

    def log_prob(self, value: Array) -> jax.Array:
        """The log density of a value."""
        z = (value - self.loc) / self.scale
        return student_t_log_prob(z, self.df) - jnp.log(self.scale)


class AdditiveProportional(dist.Normal):
    """Additive and proportional noise: variance = additive² + (proportional·mean)².

    The combined error model of pharmacometrics (its variances add).

    Args:
        mean: the predicted value, in the unit of the observable.
        additive: the standard deviation at zero, in the same unit.
        proportional: the coefficient of variation at large values, dimensionless.
    """

    def __init__(self, mean: Array, additive: Array, proportional: Array) -> None:
        super().__init__(mean, _root_of_squares(additive, proportional * mean))


class Poisson(dist.Poisson):
    """Counts: value ~ Poisson(mean).

    Args:
        mean: the predicted count.
    """

    def __init__(self, mean: Array) -> None:
        super().__init__(_at_least(mean, _COUNT_FLOOR))

    def log_prob(self, value: Array) -> jax.Array:
        """The log probability of a count."""
        return poisson_log_prob(value, self.rate)


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
        self, mean: Array, *, overdispersion: Array = None, concentration: Array = None
    ) -> None:
        if (overdispersion is None) == (concentration is None):
            raise TypeError(
                "NegativeBinomial takes exactly one of overdispersion= and concentration=."
            )
        if concentration is None:
            a = jnp.asarray(overdispersion, jnp.result_type(overdispersion, float))
            a = jnp.where(a < 0, 0.0, a)
            concentration = 1.0 / _at_least(a, _LEAST_OVERDISPERSION)
        else:
            a = 1.0 / jnp.asarray(concentration, jnp.result_type(concentration, float))
        mean = _at_least(mean, _COUNT_FLOOR)
        super().__init__(mean, concentration)
        self.predicted, self.overdispersion = promote_shapes(mean, a)

    def log_prob(self, value: Array) -> jax.Array:
        """The log probability of a count."""
        return negative_binomial_log_prob(value, self.predicted, self.overdispersion)
