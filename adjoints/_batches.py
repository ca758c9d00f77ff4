"""Loops over batches."""

import jax
import jax.numpy as jnp


@jax.custom_batching.custom_vmap
def any_of_batch(predicate: jax.Array) -> jax.Array:
    """A predicate; in a batch, whether it holds anywhere, the same for all.

    JAX freezes what has ended in a batched loop by copying all that the loop carries, at every
    turn. A loop that goes on by this predicate, and itself leaves alone what has ended, copies
    only what it must.
    """
    return predicate


@any_of_batch.def_vmap
def _any_of_batch(axis_size: int, in_batched: list[bool], predicate: jax.Array) -> tuple:
    del axis_size, in_batched
    return any_of_batch(jnp.any(predicate, axis=0)), False
