"""Tangents in the control of the steps, where those of the state would leave them far off."""

import diffrax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

# A state and its tangents, as columns, before and after a step, and the estimate of their error.
Step = tuple[
    Float[Array, "element column"], Float[Array, "element column"], Float[Array, "element column"]
]

# The error of a step in a tangent, over the tangent, that goes unnoticed; in relative tolerances.
_RELATIVE = 1000.0
# Likewise, over the tolerance of the state, for a tangent times the number that it belongs to.
_ABSOLUTE = 10.0
# Once it was noticed, such errors are kept to these by so much less.
_STRICTER = 100.0


def error_with_tangents(
    controller: diffrax.AbstractStepSizeController,
    sizes: Float[Array, " k"],
    step: Step,
    watched: Bool[Array, ""],
) -> tuple[Float[Array, " element"], Bool[Array, ""]]:
    """The estimated error of a step's state, raised where that of a tangent was far too large.

    A controller that sees the state alone lets tangents go where the state does not: at the edge of
    an explicit method's stability, where a state is held by the choice of the steps and its
    tangents, for which the steps are given, are not; and where a state rests. Noticed is an error
    in a tangent s by a number x that is larger than both

        1000 rtol ‖s‖   and   10 ‖tolerance of the state‖ / |x|,

    element by element in units of the tolerance of the state. An ordinary solve is far below that,
    and takes the steps of the state. From such a step on, which is rejected, tangents have their
    part in the error, a hundred times as large. `watched` is whether there was such a step before;
    it is given back with the error. A controller without tolerances is left alone.
    """
    start, end, error = step
    rtol, atol = (getattr(controller, name, None) for name in ("rtol", "atol"))
    if rtol is None or atol is None:
        return error[:, 0], watched
    reach = jnp.maximum(jnp.abs(start), jnp.abs(end))
    unit = atol + rtol * reach[:, 0]
    wrong = sizes * jnp.max(jnp.abs(error[:, 1:]) / unit[:, None], axis=0)
    large = sizes * jnp.max(reach[:, 1:] / unit[:, None], axis=0)
    ratios = wrong / jnp.maximum(_ABSOLUTE, _RELATIVE * rtol * large)
    # A tangent that is no number is left to show in the result.
    ratio = jnp.max(jnp.where(jnp.isfinite(ratios), ratios, 0.0), initial=0.0)
    watched = watched | (ratio > 1.0)
    raised = jnp.maximum(jnp.abs(error[:, 0]), _STRICTER * ratio * unit)
    return jnp.where(watched, raised, error[:, 0]), watched


def sizes_of(x: Float[Array, " k"]) -> Float[Array, " k"]:
    """The sizes of numbers; 1 for what is zero."""
    return jnp.where(x == 0, 1.0, jnp.abs(x))


def witness_direction(x: Float[Array, " k *dims"]) -> Float[Array, " k *dims"]:
    """A direction in which every number moves by a part of itself, no two by the same."""
    return x * jnp.cos(1.0 + 2.4 * jnp.arange(x.shape[0], dtype=x.dtype)).reshape(
        -1, *(1,) * (x.ndim - 1)
    )
