"""The accepted steps of a solve, remembered for the way back."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from odecal.adjoints._erk.tableau import with_row


class Tape(NamedTuple):
    """Accepted steps; one row more than they can be is for what does not count.

    Args:
        start: where each starts, of shape (step,).
        end: where it ends.
        y: the state at its start, of shape (step, element).
        first: how many times had been kept before it.
    """

    start: jax.Array
    end: jax.Array
    y: jax.Array
    first: jax.Array


def blank_tape(max_steps: int | None, t0: jax.Array, y0: jax.Array) -> Tape:
    """A tape for that many steps of a solve from t0, y0."""
    assert max_steps is not None
    rows = max_steps + 1
    times = jnp.zeros(rows, t0.dtype)
    return Tape(times, times, jnp.zeros((rows, *y0.shape), y0.dtype), jnp.zeros(rows, jnp.int32))


def written(tape: Any, values: Any, i: jax.Array, counts: jax.Array) -> Any:
    """A tape, or any pytree of rows, with one row written if it counts, and the last if not."""
    spare = len(jax.tree.leaves(tape)[0]) - 1
    i = jnp.where(counts, i, spare)
    return jax.tree.map(lambda rows, value: with_row(rows, value, i), tape, values)
