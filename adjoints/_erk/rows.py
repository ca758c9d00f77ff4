"""Rows of arrays of many members, each at a number of its own."""

import jax
import jax.numpy as jnp


def any_member(predicate: jax.Array) -> jax.Array:
    """Whether a predicate, of shape (member,), holds for any."""
    return predicate[0] if len(predicate) == 1 else jnp.any(predicate)


def at_rows(array: jax.Array, i: jax.Array) -> jax.Array:
    """array[m, i[m]] of every member m.

    Args:
        array: of shape (member, row).
        i: in bounds, of shape (member,).
    """
    if len(array) == 1:
        return jax.lax.dynamic_index_in_dim(array[0], i[0], keepdims=True)
    return jnp.take_along_axis(array, i[:, None], axis=1, mode="promise_in_bounds")[:, 0]


def rows_written(array: jax.Array, values: jax.Array, i: jax.Array) -> jax.Array:
    """An array whose rows array[m, i[m]] are the values of every member m.

    Args:
        array: of shape (member, row, *dims).
        values: of shape (*dims, member).
        i: in bounds, of shape (member,).
    """
    members = jnp.moveaxis(values, -1, 0)
    if jax.default_backend() != "cpu":
        return array.at[jnp.arange(len(array)), i].set(members, mode="promise_in_bounds")

    # On a CPU a scatter costs more than a short loop.
    def write(m: jax.Array, array: jax.Array) -> jax.Array:
        value = jax.lax.dynamic_index_in_dim(members, m, keepdims=True)
        start = (m.astype(i.dtype), i[m], *[jnp.zeros((), i.dtype)] * (value.ndim - 1))
        return jax.lax.dynamic_update_slice(array, value[:, None], start)

    if len(array) == 1:
        return write(jnp.zeros((), i.dtype), array)
    return jax.lax.fori_loop(0, len(array), write, array)
