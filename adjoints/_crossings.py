"""Where, within a step, a condition on the state falls below zero."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from odecal.adjoints._batches import any_of_batch

# A step is looked at in so many parts, and a part with a crossing halved so many times.
_PARTS, _HALVINGS = 8, 52


class Found(NamedTuple):
    """The first crossing within a step.

    Args:
        which: the number of the condition, −1 for none.
        t: when; the end of the step for none. The condition is not above zero there.
    """

    which: jax.Array
    t: jax.Array


def first_crossing(
    conditions: Sequence[Callable[[jax.Array], jax.Array]], start: jax.Array, end: jax.Array
) -> Found:
    """The first time within a step at which one of some conditions has fallen to zero or below.

    Args:
        conditions: each a function of a time within the step.
        start: the start of the step.
        end: its end.
    """
    parts = start + jnp.linspace(0.0, 1.0, _PARTS + 1, dtype=start.dtype) * (end - start)
    values = jnp.stack([jax.vmap(condition)(parts) for condition in conditions])
    falls = (values[:, :-1] > 0) & (values[:, 1:] <= 0)
    fallen = falls.any(axis=1)

    def times() -> jax.Array:
        first = jnp.argmax(falls, axis=1)
        brackets = parts[first], parts[first + 1]
        roots = [
            _halved(condition, (brackets[0][i], brackets[1][i]))
            for i, condition in enumerate(conditions)
        ]
        return jnp.where(fallen, jnp.stack(roots), jnp.inf)

    none = jnp.full(len(conditions), jnp.inf, start.dtype)
    when = jax.lax.cond(any_of_batch(fallen.any()), times, lambda: none)
    which = jnp.argmin(when).astype(jnp.int32)
    return Found(jnp.where(fallen.any(), which, -1), jnp.where(fallen.any(), when[which], end))


def _halved(condition: Callable[[jax.Array], jax.Array], bracket: Any) -> jax.Array:
    """The upper end of a bracket of a fall, halved down to rounding."""

    def half(_: jax.Array, bracket: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bracket
        middle = low + (high - low) / 2
        above = condition(middle) > 0
        return jnp.where(above, middle, low), jnp.where(above, high, middle)

    return jax.lax.fori_loop(0, _HALVINGS, half, bracket)[1]
