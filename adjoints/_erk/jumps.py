"""Jumps of the columns: known ones when enough members have come to theirs, and events."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float
from odecal.adjoints._erk.events import first_crossing
from odecal.adjoints._erk.interpolant import Interpolant
from odecal.adjoints._erk.rows import any_member, over, rows_at, where_members
from odecal.adjoints._erk.saving import awaits_jump, next_jump_time, save_while
from odecal.adjoints._erk.state import BatchedJumps, LoopProblem, LoopState, StepControl


def ahead(
    jumps: BatchedJumps | None, num_jumps: jax.Array, t: jax.Array
) -> tuple[Any, Float[Array, " member"]]:
    """What the field is given after so many jumps, and when the next one is."""
    if jumps is None:
        return (), jnp.full_like(t, jnp.inf)
    return jumps.between(num_jumps), next_jump_time(jumps.times, num_jumps)


def jump_where_due(
    control: StepControl,
    problem: LoopProblem,
    jumps: BatchedJumps,
    state: LoopState,
    running: Callable[[LoopState], jax.Array],
) -> tuple[LoopState, Bool[Array, " member"]]:
    """Make the known jumps whose time has come, one after another; and tell who steps on.

    A jump costs all members as much as a step does. So the ones that are due wait until they are
    half of those that are running.
    """

    def due(state: LoopState) -> jax.Array:
        return running(state) & (next_jump_time(jumps.times, state.num_jumps) <= state.start)

    def enough(state: LoopState) -> jax.Array:
        count = jnp.sum(due(state))
        return (count > 0) & (2 * count >= jnp.sum(running(state)))

    def jump(state: LoopState) -> LoopState:
        which = due(state)
        z = jnp.where(over(state.z, which), jumps.at_time(state.num_jumps, state.z), state.z)
        num_jumps = state.num_jumps + which.astype(state.num_jumps.dtype)
        return _restart(control, problem, state._replace(z=z, num_jumps=num_jumps), which)

    if not jumps.times.shape[1]:
        return state, running(state)
    state = jax.lax.while_loop(enough, jump, state)
    return state, running(state) & ~due(state)


def jump_at_events(
    control: StepControl, problem: LoopProblem, jumps: BatchedJumps, state: LoopState
) -> LoopState:
    """Make the jumps of conditions that have fallen below zero."""

    def jump(state: LoopState) -> LoopState:
        which = state.event >= 0
        z = jumps.at_event(state.event, state.num_jumps, state.start, state.z)
        z = jnp.where(over(z, which), z, state.z)
        state = state._replace(z=z, event=jnp.full_like(state.event, -1))
        return _restart(control, problem, state, which)

    return jax.lax.while_loop(lambda state: any_member(state.event >= 0), jump, state)


def cut_at_events(
    jumps: BatchedJumps, between: Any, path: Interpolant, keep: jax.Array, step: Any
) -> Any:
    """Accepted steps, those of `keep`, ended where a condition first falls below zero.

    A step is its end, the start and end of the next one, and the columns at its end. They are
    given back, after the condition that has fallen, −1 for none.
    """
    end, next_start, next_end, z1 = step
    state_at = path.of_column(0)

    def at(condition: Callable[..., jax.Array]) -> Callable[[jax.Array], jax.Array]:
        return lambda t: condition(t, state_at(t), between)

    which, t = first_crossing([at(condition) for condition in jumps.conditions], path.start, end)
    cut = keep & (which >= 0)
    return (
        jnp.where(cut, which, -1),
        jnp.where(cut, t, end),
        jnp.where(cut, t, next_start),
        jnp.where(cut, t + (end - path.start), next_end),
        jnp.where(over(z1, cut), path(t), z1),
    )


def _restart(
    control: StepControl, problem: LoopProblem, state: LoopState, which: Bool[Array, " member"]
) -> LoopState:
    """Begin anew after a jump: a first step, a slope, and what is saved at the time of the jump."""
    t, z = state.start, state.z
    between, next_jump = ahead(problem.jumps, state.num_jumps, t)
    first, control_state = control.init(t, z[:, 0], between)

    def here(i: jax.Array) -> jax.Array:
        awaits = awaits_jump(problem, problem.jumps, state.num_jumps, i)
        return which & (rows_at(problem.ts, i) <= t) & ~awaits

    saved, num_saved = save_while(problem, state, here, lambda t: z)
    end = jnp.minimum(first, jnp.minimum(problem.ts[:, -1], next_jump))
    return state._replace(
        end=jnp.where(which, end, state.end),
        slope=jnp.where(over(z, which), problem.field(t, z, between), state.slope),
        saved=saved,
        num_saved=num_saved,
        control_state=where_members(which, control_state, state.control_state),
    )
