"""Predictions kept above a floor, below which solver error may have brought them."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

# The smallest mean of a count: below it every count but zero is out of reach anyway.
COUNT_FLOOR = 1e-10


def at_least(x: ArrayLike, floor: float) -> Float[Array, "..."]:
    """X where it exceeds the floor, else the floor with a zero gradient (never 0 * inf)."""
    x = jnp.asarray(x, jnp.result_type(x, float))
    return jnp.where(x > floor, x, jnp.asarray(floor, x.dtype))


def positive(x: ArrayLike) -> Float[Array, "..."]:
    """x, or a number so small that only its logarithm matters."""
    return at_least(x, float(jnp.finfo(jnp.result_type(x, float)).tiny) ** 0.5)


def root_of_squares(a: ArrayLike, b: ArrayLike) -> Float[Array, "..."]:
    """√(a² + b²), or a small number where both are none; squares of neither underflow."""
    a, b = (jnp.asarray(x, jnp.result_type(a, b, float)) for x in (a, b))
    least = float(jnp.finfo(a.dtype).tiny) ** 0.5
    size = jax.lax.stop_gradient(jnp.maximum(jnp.abs(a), jnp.abs(b)))
    there = size > least
    size = jnp.where(there, size, 1.0)
    squares = jnp.where(there, jnp.square(a / size) + jnp.square(b / size), least)
    return size * jnp.sqrt(squares)
