"""Rows of pytrees of arrays, at an index that is known to be in bounds: smaller programs."""

from typing import Any

import jax


def row_at(tree: Any, i: Any) -> Any:
    """`x[i]` of every array x of a pytree."""
    return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, i, keepdims=False), tree)


def with_row(tree: Any, row: Any, i: Any) -> Any:
    """`x.at[i].set(value)` of every array x of a pytree, with the values of another like a row."""
    return jax.tree.map(
        lambda x, value: jax.lax.dynamic_update_index_in_dim(x, value, i, axis=0), tree, row
    )
