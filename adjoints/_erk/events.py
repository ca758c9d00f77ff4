"""Where, within a step, a condition on the state falls below zero."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

# A step is looked at in so many parts, and a part with a crossing halved so many times.
_PARTS, _HALVINGS = 8, 52


def first_crossing(
    conditions: Sequence[Callable[[jax.Array], jax.Array]],
    start: Float[Array, " member"],
    end: Float[Array, " member"],
) -> tuple[Int[Array, " member"], Float[Array, " member"]]:
    """Which of some conditions is the first to fall to zero or below within steps, and when.

    −1 and the end of the step for none. The condition is not above zero at the time given.
    """
    fractions = jnp.linspace(0.0, 1.0, _PARTS + 1, dtype=start.dtype)
    parts = start[None] + fractions[:, None] * (end - start)[None]
    values = jnp.stack([jax.vmap(condition)(parts) for condition in conditions])
    falls = (values[:, :-1] > 0) & (values[:, 1:] <= 0)
    fallen = falls.any(axis=1)

    def times() -> jax.Array:
        first = jnp.argmax(falls, axis=1)
        low = jnp.take_along_axis(parts, first, axis=0)
        high = jnp.take_along_axis(parts, first + 1, axis=0)
        roots = [_halved(c, (low[i], high[i])) for i, c in enumerate(conditions)]
        return jnp.where(fallen, jnp.stack(roots), jnp.inf)

    none = jnp.full(fallen.shape, jnp.inf, start.dtype)
    when = jax.lax.cond(fallen.any(), times, lambda: none)
    which, crossed = jnp.argmin(when, axis=0).astype(jnp.int32), fallen.any(axis=0)
    return jnp.where(crossed, which, -1), jnp.where(crossed, when.min(axis=0), end)


def _halved(condition: Callable[[jax.Array], jax.Array], bracket: Any) -> jax.Array:
    """The upper end of a bracket of a fall, halved down to rounding."""

    def half(_: jax.Array, bracket: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bracket
        middle = low + (high - low) / 2
        above = condition(middle) > 0
        return jnp.where(above, middle, low), jnp.where(above, high, middle)

    return jax.lax.fori_loop(0, _HALVINGS, half, bracket)[1]
