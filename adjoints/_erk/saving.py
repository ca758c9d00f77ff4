"""Saving the columns at the times asked for."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
from odecal.adjoints._erk.rows import any_member, rows_at, with_rows
from odecal.adjoints._erk.state import BatchedJumps, LoopProblem, LoopState, PrimalAndTangents


def save_while(
    problem: LoopProblem,
    state: LoopState,
    within_reach: Callable[[jax.Array], jax.Array],
    columns_at: Callable[[jax.Array], PrimalAndTangents],
) -> tuple[Float[Array, "member row element column"], Int[Array, " member"]]:
    """Save at the next times as long as they are within reach: what is saved, and how much."""
    num_times = problem.ts.shape[1]

    def due(i: jax.Array) -> jax.Array:
        return (i < num_times) & within_reach(jnp.minimum(i, num_times - 1))

    def save(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        saved, i = carry
        now = due(i)
        z = columns_at(rows_at(problem.ts, jnp.minimum(i, num_times - 1)))
        return with_rows(saved, z, jnp.where(now, i, num_times)), i + now.astype(i.dtype)

    return jax.lax.while_loop(
        lambda carry: any_member(due(carry[1])), save, (state.saved, state.num_saved)
    )


def next_jump_time(
    times: Float[Array, "member n"], i: Int[Array, " member"]
) -> Float[Array, " member"]:
    """The i-th time of each member, infinity after the last."""
    num_members, count = times.shape
    if not count:
        return jnp.full(num_members, jnp.inf, times.dtype)
    return jnp.where(i < count, rows_at(times, jnp.minimum(i, count - 1)), jnp.inf)


def awaits_jump(
    problem: LoopProblem, jumps: BatchedJumps | None, num_jumps: jax.Array, i: jax.Array
) -> Bool[Array, " member"]:
    """Whether the i-th time to save of each member is to see the next known jump."""
    if jumps is None or not jumps.times.shape[1]:
        return jnp.zeros(num_jumps.shape, bool)
    t, due = rows_at(problem.ts, i), next_jump_time(jumps.times, num_jumps)
    rank = rows_at(jumps.ranks, jnp.minimum(num_jumps, jumps.times.shape[1] - 1))
    below = 0.0 if jumps.save_ranks is None else rows_at(jumps.save_ranks, i).astype(rank.dtype)
    return (due < t) | ((due == t) & (rank < below))
