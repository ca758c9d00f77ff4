"""The accepted steps of a solve, kept for a backward pass."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from odecal.adjoints._rows import with_row


class Tape(NamedTuple):
    """Accepted steps, with the states at their starts, and how many times had been saved before.

    One row more than they can be is for what does not count.
    """

    start: Float[Array, " step"]
    end: Float[Array, " step"]
    y: Float[Array, "step element"]
    num_saved: Int[Array, " step"]


def blank_tape(max_steps: int | None, row: Any) -> Any:
    """A tape, or any pytree of rows like one, for so many steps."""
    assert max_steps is not None
    return jax.tree.map(lambda x: jnp.zeros((max_steps + 1, *x.shape), x.dtype), row)


def write_if(tape: Any, row: Any, i: jax.Array, counts: jax.Array) -> Any:
    """A tape, or any pytree of rows, with its i-th row written if it counts, or else its last."""
    spare = len(jax.tree.leaves(tape)[0]) - 1
    return with_row(tape, row, jnp.where(counts, i, spare))
