"""One step of an explicit Runge–Kutta method, and its transpose."""

from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from odecal.adjoints._erk.rows import over
from odecal.adjoints._rows import row_at, with_row


def weights(tableau: diffrax.ButcherTableau, ndim: int, dtype: Any) -> jax.Array:
    """The matrix a of a tableau, of shape (stage, stage, 1, ...), to weigh arrays of stages."""
    lower = np.zeros((tableau.num_stages, tableau.num_stages))
    for i, a in enumerate(tableau.a_lower, start=1):
        lower[i, :i] = a
    return jnp.asarray(lower.reshape(*lower.shape, *(1,) * ndim), dtype)


def nodes(tableau: diffrax.ButcherTableau, dtype: Any) -> jax.Array:
    """The times c of all stages, from 0 to 1."""
    return jnp.asarray(np.concatenate([[0.0], tableau.c]), dtype)


def erk_stages(
    tableau: diffrax.ButcherTableau,
    field: Callable[..., jax.Array],
    span: tuple[jax.Array, jax.Array],
    z: Float[Array, "*dims"],
    slope: Float[Array, "*dims"],
) -> tuple[Float[Array, " stage *dims"], Float[Array, "*dims"]]:
    """All stages of one step, times its length; and its end.

    The last stage of the method must be the first of the next step. A loop over the stages, rather
    than each written out: a smaller program, as fast.
    """
    start, end = span
    a, c = weights(tableau, z.ndim, z.dtype), nodes(tableau, start.dtype)
    h = end - start
    width = over(z, h.astype(z.dtype))

    def stage(i: jax.Array, found: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        k, _ = found
        inner = z + jnp.sum(row_at(a, i) * k, axis=0)
        return with_row(k, width * field(start + row_at(c, i) * h, inner), i), inner

    first = jnp.zeros((tableau.num_stages, *z.shape), z.dtype).at[0].set(width * slope)
    return jax.lax.fori_loop(1, tableau.num_stages, stage, (first, z))


def erk_stages_transposed(
    tableau: diffrax.ButcherTableau,
    field_vjp: Callable[..., tuple[jax.Array, jax.Array]],
    span: tuple[jax.Array, jax.Array],
    y: Float[Array, " d"],
    k: Float[Array, "stage d"],
    bars: tuple[Float[Array, "stage d"], Float[Array, " d"]],
    theta_bar: Float[Array, " k"],
) -> tuple[Float[Array, " d"], Float[Array, " k"]]:
    """The transpose of one step's derivative.

    With the inner states Y_i = y + Σ_j a_ij k_j and k_i = h f(t + c_i h, Y_i), and the end of the
    step the last of the Y_i,

        Ȳ_i = h (∂f/∂y)ᵀ k̄_i,   θ̄ += h (∂f/∂θ)ᵀ k̄_i,   k̄_j += a_ij Ȳ_i,   ȳ += Ȳ_i.

    From the cotangents of the stages and of the step's end, and that of the parameters so far, to
    the cotangent of y by way of both, and that of the parameters. `field_vjp` goes from a time, a
    state and the cotangent of the slope to the cotangents of the state and of the parameters.
    """
    start, end = span
    a, c = weights(tableau, 1, y.dtype), nodes(tableau, start.dtype)
    h = end - start
    width = h.astype(y.dtype)
    last = tableau.num_stages - 1

    def stage(n: jax.Array, found: Any) -> Any:
        k_bar, y_bar, theta_bar = found
        i = last - n
        inner = y + jnp.sum(row_at(a, i) * k, axis=0)
        inner_bar, more = field_vjp(start + row_at(c, i) * h, inner, width * row_at(k_bar, i))
        inner_bar = inner_bar + jnp.where(i == last, bars[1], 0)
        return k_bar + row_at(a, i) * inner_bar[None], y_bar + inner_bar, theta_bar + more

    found = (bars[0], jnp.zeros_like(y), theta_bar)
    _, y_bar, theta_bar = jax.lax.fori_loop(0, last + 1, stage, found)
    return y_bar, theta_bar
