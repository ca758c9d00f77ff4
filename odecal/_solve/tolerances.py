"""The absolute tolerance of a solve, by what its states are like."""

from typing import Any

import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Float

from odecal._solve.forcing_data import ForcingData
from odecal._system.solve import Solve

# The tolerance of a state of magnitude one or more; and from where on a magnitude counts as that.
_USUAL, _ORDINARY = 1e-8, 1e-2


def absolute_tolerance(
    settings: Solve, y0: Float[Array, " element"], forcing_data: ForcingData | None
) -> Any:
    """The absolute tolerance of a step: as asked for, or one for each element of the packed state.

    It is 1e-8 of the magnitude of an element, which counts as 1 from 0.01 on. The magnitude is that
    of the initial value, or of the least dose; that of an element which begins at zero and gets no
    dose is the least of all elements, and of what was observed.
    """
    if settings.atol is not None:
        return settings.atol * settings.loosened
    size = _known(jnp.abs(stop_gradient(y0)))
    least = jnp.asarray(jnp.inf, size.dtype)
    if forcing_data is not None and forcing_data.doses:
        element = forcing_data.doses["element"].astype(int)
        into = jnp.where(element >= 0, element, len(size))  # no element: out of bounds
        amount = _known(jnp.abs(forcing_data.doses["amount"]).astype(size.dtype))
        size = size.at[into].min(amount, mode="drop")
    if forcing_data is not None and forcing_data.size is not None:
        least = jnp.asarray(forcing_data.size, size.dtype)
    least = jnp.minimum(least, jnp.min(size))
    size = jnp.where(jnp.isfinite(size), size, least)
    usual = ~(size < _ORDINARY)
    return stop_gradient(_USUAL * settings.loosened * jnp.where(usual, 1.0, size))


def _known(size: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Magnitudes, infinity where one says nothing: zero, what is no number, and rounding."""
    least = float(jnp.finfo(size.dtype).tiny) ** 0.6
    return jnp.where(size > least, size, jnp.inf)
