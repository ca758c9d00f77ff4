"""The joint distribution of all values of one observable, as NumPyro sees it."""

import copy
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions import constraints

from odecal._model.censoring import interval_log_prob
from odecal._system.values import Values

Noise = Callable[..., dist.Distribution]

# How far outside its bounds solver error may push a distribution's argument.
_SLIGHT = 1e-5


class ObservationDistribution(dist.Distribution):
    """Independent values at several times, each from the distribution at that time.

    The noise is a function of one time's arguments; it is evaluated for all times at once by
    `jax.vmap`, so that inside it states have the shape of their dims and nothing else. Arguments
    are pytrees with a leading axis of times, of which `axes` has 0, or None for what is the same at
    all times. Of a censored value `upper` is the upper bound, and only that it lies between is
    known; elsewhere the bound is the value. Draws are not censored.
    """

    pytree_data_fields = ("arguments", "upper")
    pytree_aux_fields = ("noise", "axes", "num_times")

    def __init__(
        self,
        noise: Noise,
        arguments: tuple[Any, ...],
        axes: tuple[Any, ...],
        num_times: int,
        upper: Any = None,
    ) -> None:
        self.noise = noise
        self.arguments = arguments
        self.axes = axes
        self.num_times = num_times
        self.upper = upper
        one = self.at_first()
        super().__init__((num_times, *one.batch_shape), one.event_shape)

    @property
    def support(self) -> Any:
        """The support of one value, taken at the first time."""
        return self.at_first().support

    @property
    def mean(self) -> jax.Array:
        """The expected value at each time."""
        return self._map(lambda d: d.mean)

    @property
    def variance(self) -> jax.Array:
        """The variance at each time."""
        return self._map(lambda d: d.variance)

    def sample(self, key: jax.Array, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Draw values at all times, of shape (*sample_shape, time, *dims)."""
        keys = jax.random.split(key, self.num_times)
        draws = self._map(lambda d, key: repaired(d).sample(key, sample_shape), keys)
        return jnp.moveaxis(draws, 0, len(sample_shape))

    def log_prob(self, value: jax.Array, intermediates: Any = None) -> jax.Array:
        """The log density of each value, of shape (*sample_shape, time, *batch)."""
        del intermediates
        lead = jnp.ndim(value) - len(self.batch_shape) - len(self.event_shape)
        value = jnp.moveaxis(value, lead, 0)
        if self.upper is None:
            log_density = self._map(lambda d, x: repaired(d, _SLIGHT).log_prob(x), value)
        else:
            log_density = self._map(_known_between, value, jnp.asarray(self.upper, value.dtype))
        return jnp.moveaxis(log_density, 0, lead)

    def _map(self, of: Callable[..., Any], *each: Any) -> Any:
        """Evaluate something of the distribution at every time."""

        def one(arguments: tuple[Any, ...], *each: Any) -> Any:
            return of(self.noise(*arguments), *each)

        axes = (self.axes, *[0] * len(each))
        return jax.vmap(one, in_axes=axes, axis_size=self.num_times)(self.arguments, *each)

    def at_first(self) -> dist.Distribution:
        """The distribution of one value, at the first time."""

        def first(argument: Any, axis: Any) -> Any:
            if isinstance(axis, Values):
                return Values({name: first(argument[name], axis[name]) for name in axis})
            return jax.tree.map(lambda x: x[0], argument) if axis == 0 else argument

        return self.noise(*map(first, self.arguments, self.axes))


def _known_between(
    distribution: dist.Distribution, lower: jax.Array, upper: jax.Array
) -> jax.Array:
    """The log density where the bounds are one, the log probability between them elsewhere."""
    distribution = repaired(distribution, _SLIGHT)
    exact = lower == upper
    value = jnp.where(jnp.isfinite(upper), upper, lower)  # of a censored one, any in the support
    return jnp.where(
        exact, distribution.log_prob(value), interval_log_prob(distribution, lower, upper)
    )


def repaired(distribution: dist.Distribution, slightly: float = float("inf")) -> dist.Distribution:
    """A distribution whose rates and probabilities are drawn within their bounds.

    A solver can give a prevalence or a density of −1e-12. A density would be not a number there,
    and NumPyro's sampler of a binomial would never end. What is further outside than `slightly` is
    left as it is.
    """
    fixed = copy.copy(distribution)
    clip = slightly == float("inf")
    for name, constraint in distribution.arg_constraints.items():
        value = distribution.__dict__.get(name)
        if value is None or constraint not in _BOUNDED:
            continue
        if isinstance(value, dist.Distribution) or not jnp.issubdtype(
            jnp.result_type(value), jnp.floating
        ):
            continue
        value = jnp.asarray(value)
        info = jnp.finfo(value.dtype)
        low, high = float(info.tiny) ** 0.5, 1.0 - float(info.eps)
        near = (value <= low) & (value >= low - slightly)
        value = jnp.where(near | jnp.isnan(value) if clip else near, low, value)
        if constraint is constraints.unit_interval:
            value = jnp.where((value >= high) & (value <= high + slightly), high, value)
        setattr(fixed, name, value)
    return fixed


_BOUNDED = (constraints.unit_interval, constraints.positive, constraints.nonnegative)
