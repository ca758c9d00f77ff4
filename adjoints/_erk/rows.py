"""Rows of arrays of many members, each at an index of its own."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Shaped


def any_member(predicate: Bool[Array, " member"]) -> Bool[Array, ""]:
    """Whether a predicate holds for any member."""
    return predicate[0] if len(predicate) == 1 else jnp.any(predicate)


def where_members(which: Bool[Array, " member"], new: Any, old: Any) -> Any:
    """For each member the one or the other, of pytrees of arrays of shape (member,)."""
    return jax.tree.map(lambda a, b: jnp.where(which, a, b), new, old)


def over(array: Shaped[Array, "*dims"], members: Shaped[Array, " *member"]) -> Shaped[Array, "..."]:
    """What each member has one of, with the axes before that of members which an array has."""
    return jax.lax.broadcast_to_rank(members, array.ndim)


def rows_at(
    array: Shaped[Array, "member row"], i: Int[Array, " member"]
) -> Shaped[Array, " member"]:
    """array[m, i[m]] of every member m, where i is in bounds."""
    if len(array) == 1:
        return jax.lax.dynamic_index_in_dim(array[0], i[0], keepdims=True)
    return jnp.take_along_axis(array, i[:, None], axis=1, mode="promise_in_bounds")[:, 0]


def with_rows(
    array: Shaped[Array, "member row *dims"],
    values: Shaped[Array, "*dims member"],
    i: Int[Array, " member"],
) -> Shaped[Array, "member row *dims"]:
    """An array whose rows array[m, i[m]] are the values of every member m; i is in bounds."""
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
