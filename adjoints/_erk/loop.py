"""One adaptive loop of an explicit Runge–Kutta method, over many solves and their sensitivities."""

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool
from odecal.adjoints._erk.batches import any_of_batch
from odecal.adjoints._erk.interpolant import Interpolant
from odecal.adjoints._erk.jumps import ahead, cut_at_events, jump_at_events, jump_where_due
from odecal.adjoints._erk.rows import any_member, over, rows_at, where_members
from odecal.adjoints._erk.saving import awaits_jump, save_while
from odecal.adjoints._erk.state import LoopProblem, LoopState, PrimalAndTangents, StepControl
from odecal.adjoints._erk.tableau import erk_stages
from odecal.adjoints._erk.tape import Tape, blank_tape, write_if


def integrate(
    solver: diffrax.AbstractERK, control: StepControl, problem: LoopProblem, taped: bool = False
) -> LoopState:
    """Solve dz/dt = field(t, z) from z0, saving z at the times ts.

    All members step together, each by steps of its own, until the last has ended. The last stage
    of the method must be the first of the next step. `taped` keeps the accepted steps, of which
    there may be `max_steps`: for one member, and not where there are jumps.
    """

    def running(state: LoopState) -> jax.Array:
        unfinished = state.num_saved < problem.ts.shape[1]
        return unfinished & (state.result == diffrax.RESULTS.successful)

    def body(state: LoopState) -> LoopState:
        stepping = running(state)
        if problem.jumps is not None:
            state, stepping = jump_where_due(control, problem, problem.jumps, state, running)
        new = _step(solver, control, problem, state, stepping)
        if taped:
            assert state.tape is not None
            i = state.num_steps[0] - state.num_rejected[0]  # a rejected step is overwritten
            tried = Tape(state.start[0], state.end[0], state.z[:, 0, 0], state.num_saved[0])
            new = new._replace(tape=write_if(state.tape, tried, i, stepping[0]))
        if problem.jumps is not None and problem.jumps.conditions:
            new = jump_at_events(control, problem, problem.jumps, new)
        return new

    state = _initial_state(control, problem, taped)
    return jax.lax.while_loop(lambda state: any_of_batch(any_member(running(state))), body, state)


def _initial_state(control: StepControl, problem: LoopProblem, taped: bool) -> LoopState:
    zero = jnp.zeros(problem.t0.shape, jnp.int32)
    between, next_jump = ahead(problem.jumps, zero, problem.t0)
    first, control_state = control.init(problem.t0, problem.z0[:, 0], between)
    num_members, num_times = problem.ts.shape
    saved = jnp.zeros((num_members, num_times + 1, *problem.z0.shape[:-1]), problem.z0.dtype)
    num_saved = zero
    if problem.jumps is not None:  # a jump at t0 may come before any step
        every = jnp.arange(num_times, dtype=zero.dtype)
        awaits = jax.vmap(
            lambda i: awaits_jump(problem, problem.jumps, zero, zero + i), out_axes=1
        )(every)
        early = (problem.ts <= problem.t0[:, None]) & ~awaits
        saved = saved + jnp.moveaxis(problem.z0, -1, 0)[:, None]
        num_saved = jnp.sum(early, axis=1, dtype=zero.dtype)
    tape = None
    if taped:
        t0 = problem.t0[0]
        tape = blank_tape(control.max_steps, Tape(t0, t0, problem.z0[:, 0, 0], zero[0]))
    return LoopState(
        problem.t0,
        jnp.minimum(first, jnp.minimum(problem.ts[:, -1], next_jump)),
        problem.z0,
        problem.field(problem.t0, problem.z0, between),
        saved,
        num_saved,
        zero,
        zero,
        zero,
        zero - 1,
        jax.tree.map(lambda x: jnp.broadcast_to(x, zero.shape), diffrax.RESULTS.successful),
        control_state,
        tape,
    )


def _step(
    solver: diffrax.AbstractERK,
    control: StepControl,
    problem: LoopProblem,
    state: LoopState,
    stepping: Bool[Array, " member"],
) -> LoopState:
    """Try one step of those that step; accept it and save what lies within, or try a shorter."""
    start, end, ts = state.start, state.end, problem.ts
    between, next_jump = ahead(problem.jumps, state.num_jumps, start)

    def field(t: jax.Array, z: PrimalAndTangents) -> PrimalAndTangents:
        return problem.field(t, z, between)

    k, z1 = erk_stages(solver.tableau, field, (start, end), state.z, state.slope)
    errors = jnp.asarray(solver.tableau.b_error, k.dtype)[:, None, None, None]
    error = jnp.sum(errors * k, axis=0)
    error = error.at[:, 0].set(jnp.where(jnp.isfinite(error[:, 0]), error[:, 0], jnp.inf))
    keep, next_start, next_end, control_state, result = control.adapt(
        (start, end), (state.z, z1, error), state.control_state
    )
    # A step that cannot be told from none, or a rejected one that rounding makes again.
    stuck = (next_end <= next_start) | (~keep & (next_end >= end))
    keep = keep & stepping
    path = Interpolant(solver, start, end, (state.z, z1), k)
    event, slope = state.event, k[-1] / over(z1, (end - start).astype(z1.dtype))
    if problem.jumps is not None and problem.jumps.conditions:
        event, end, next_start, next_end, z1 = cut_at_events(
            problem.jumps, between, path, keep, (end, next_start, next_end, z1)
        )

    def inside(i: jax.Array) -> jax.Array:
        found = keep & (rows_at(ts, i) <= end)
        return found & ~awaits_jump(problem, problem.jumps, state.num_jumps, i)

    saved, num_saved = save_while(problem, state, inside, path.__call__)
    num_steps = state.num_steps + stepping.astype(state.num_steps.dtype)
    results, unfinished = diffrax.RESULTS, stepping & (num_saved < ts.shape[1])
    result = where_members(stuck & unfinished, results.dt_min_reached, result)
    if control.max_steps is not None:
        out = (num_steps >= control.max_steps) & unfinished
        result = where_members(out, results.max_steps_reached, result)

    return state._replace(
        start=jnp.where(stepping, next_start, start),
        end=jnp.where(
            stepping, jnp.minimum(next_end, jnp.minimum(ts[:, -1], next_jump)), state.end
        ),
        z=jnp.where(over(z1, keep), z1, state.z),
        slope=jnp.where(over(z1, keep), slope, state.slope),
        saved=saved,
        num_saved=num_saved,
        num_steps=num_steps,
        num_rejected=state.num_rejected + (stepping & ~keep).astype(num_steps.dtype),
        event=event,
        result=where_members(stepping, result, state.result),
        control_state=where_members(stepping, control_state, state.control_state),
    )
