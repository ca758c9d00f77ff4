"""Loops over batches."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# The numbers of members that fill registers.
_EVEN = 4


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


def as_one_batch(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A function of one, from a function of many: however it is mapped, all are done together.

    The function of many decides itself how its arrays are laid out and how long its loops run,
    which JAX decides for a mapped function of one. It goes from one pytree of arrays with a leading
    axis of members to another; the function of one does without the axis. Mapped, that calls
    `function` once, on all members of all mapped axes; but where it closes over something mapped it
    is mapped as JAX does.
    """

    def of_one(member: Any) -> Any:
        leaves, structure = jax.tree.flatten(member)
        results: list[Any] = []

        # Lists of arrays come in and go out: derivatives of a mapped one know no other trees.
        @jax.custom_batching.custom_vmap
        def of_many(leaves: list[jax.Array]) -> list[jax.Array]:
            found, result = jax.tree.flatten(function(jax.tree.unflatten(structure, leaves)))
            results.append(result)
            return found

        @of_many.def_vmap
        def of_more(size: int, mapped: list[Any], leaves: list[jax.Array]) -> tuple[Any, Any]:
            if not any(mapped[0]):  # tangents alone are mapped: JAX maps the loop along them
                found = jax.tree.leaves(function(jax.tree.unflatten(structure, leaves)))
                return found, [False] * len(found)

            def joined(x: jax.Array, mapped: bool) -> jax.Array:
                every = x if mapped else jnp.broadcast_to(x, (size, *x.shape))
                return every.reshape(-1, *every.shape[2:])

            found = of_many([joined(x, m) for x, m in zip(leaves, mapped[0], strict=True)])
            return [x.reshape(size, -1, *x.shape[1:]) for x in found], [True] * len(found)

        many = [jnp.asarray(x)[None] for x in leaves]
        try:
            found = of_many(many)
        except AssertionError:  # of JAX: what is closed over is mapped, and is not of members
            found = jax.tree.leaves(function(jax.tree.unflatten(structure, many)))
        return jax.tree.unflatten(results[0], [x[0] for x in found])

    return of_one


def in_pieces(function: Callable[[Any], Any], members: Any, size: int) -> Any:
    """A function of pytrees of arrays with a leading axis of members, of at most `size` at once."""
    count = len(jax.tree.leaves(members)[0])
    if count <= size:
        return function(members)
    width = -(-count // -(-count // size))  # of as many pieces as are needed
    width = min(size, -(-width // _EVEN) * _EVEN)
    num_pieces = -(-count // width)
    # What the last piece lacks is filled up with the last member.
    rows = np.minimum(np.arange(num_pieces * width), count - 1).reshape(num_pieces, width)
    found = jax.lax.map(function, jax.tree.map(lambda x: x[rows], members))
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:count], found)
