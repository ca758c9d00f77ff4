"""One adaptive loop of an explicit Runge–Kutta method, over a state and its sensitivities."""

from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
from odecal.adjoints._batches import any_of_batch
from odecal.adjoints._runge_kutta import row, stages, with_row
from odecal.adjoints._tape import Tape, blank_tape, written

# The state and its sensitivities, of shape (element, lane): the first lane is the state.
Lanes = jax.Array


class Control(NamedTuple):
    """How steps are chosen.

    Args:
        controller: the step-size controller.
        order: the order of the error estimate.
        of_state: the state as the controller is to see it, from a vector of its elements.
        args: what the controller is given as the arguments of the vector field.
        max_steps: the largest number of steps, or None.
    """

    controller: diffrax.AbstractStepSizeController
    order: Any
    of_state: Callable[[jax.Array], Any]
    args: Any
    max_steps: int | None


class Carry(NamedTuple):
    """Where a solve stands.

    Args:
        start: the time reached.
        end: the time that the next step tries.
        z: the lanes at `start`.
        slope: their derivative there.
        saved: the lanes at the times to keep, of shape (time, element, lane).
        num_saved: how many of these are filled.
        num_steps: the steps tried.
        num_rejected: those rejected.
        result: why the solve has ended.
        control: the state of the controller.
        tape: the accepted steps, if they are to be remembered.
    """

    start: jax.Array
    end: jax.Array
    z: Lanes
    slope: Lanes
    saved: jax.Array
    num_saved: jax.Array
    num_steps: jax.Array
    num_rejected: jax.Array
    result: Any
    control: Any
    tape: Tape | None


def integrate(
    solver: diffrax.AbstractERK,
    control: Control,
    field: Callable[[jax.Array, Lanes], Lanes],
    begin: tuple[jax.Array, jax.Array, Any],
    z0: Lanes,
    ts: jax.Array,
    taped: bool = False,
) -> Carry:
    """Solve dz/dt = field(t, z) from z0, keeping z at the times ts.

    Args:
        solver: the method, whose last stage must be the first of the next step.
        control: how steps are chosen.
        field: the derivative of all lanes.
        begin: the initial time, the end of the first step, and the first state of the controller.
        z0: the initial lanes.
        ts: the times to keep, sorted, of shape (time,).
        taped: whether the accepted steps are remembered, of which there may be `max_steps`.

    Returns:
        Where the solve stands at its end.
    """
    t0, first, control_state = begin
    zero = jnp.zeros((), jnp.int32)
    carry = Carry(
        t0,
        jnp.minimum(first, ts[-1]),
        z0,
        field(t0, z0),
        jnp.zeros((len(ts), *z0.shape), z0.dtype),
        zero,
        zero,
        zero,
        diffrax.RESULTS.successful,
        control_state,
        blank_tape(control.max_steps, t0, z0) if taped else None,
    )

    def going(carry: Carry) -> jax.Array:
        return (carry.num_saved < len(ts)) & (carry.result == diffrax.RESULTS.successful)

    def step(carry: Carry) -> Carry:
        span = (carry.start, carry.end)
        k, z1 = stages(solver.tableau, field, span, carry.z, carry.slope)
        return _judged(solver, control, carry, k, z1, ts)

    if not taped:
        return jax.lax.while_loop(going, step, carry)

    def step_of_those_going(carry: Carry) -> Carry:
        """In a batch, all go on until the last has ended; a tape is never copied to wait."""
        alive = going(carry)
        i = carry.num_steps - carry.num_rejected  # a rejected step is overwritten
        step_tried = Tape(carry.start, carry.end, carry.z, carry.num_saved)
        tape = written(carry.tape, step_tried, i, alive)
        new = step(carry)._replace(tape=None)
        old = carry._replace(tape=None)
        kept = jax.tree.map(lambda a, b: jnp.where(alive, a, b), new, old)
        return kept._replace(tape=tape)

    return jax.lax.while_loop(lambda carry: any_of_batch(going(carry)), step_of_those_going, carry)


def _judged(
    solver: diffrax.AbstractERK,
    control: Control,
    carry: Carry,
    k: jax.Array,
    z1: Lanes,
    ts: jax.Array,
) -> Carry:
    """Accept the step, keeping what is to be kept of it, or try a shorter one."""
    start, end = carry.start, carry.end
    errors = jnp.asarray(solver.tableau.b_error, k.dtype)[:, None]
    error = jnp.sum(errors * k[:, :, 0], axis=0)
    keep, next_start, next_end, _, control_state, result = control.controller.adapt_step_size(
        start,
        end,
        control.of_state(carry.z[:, 0]),
        control.of_state(z1[:, 0]),
        control.args,
        control.of_state(jnp.where(jnp.isfinite(error), error, jnp.inf)),
        control.order,
        carry.control,
    )
    keep = jnp.asarray(keep)
    saved, num_saved = _saved(solver, carry, k, z1, ts, keep)
    num_steps = carry.num_steps + 1
    results = diffrax.RESULTS
    # A step that cannot be told from none, or a rejected one that rounding makes again.
    stuck = (next_end <= next_start) | (~keep & (next_end >= end))
    result = results.where(stuck & (num_saved < len(ts)), results.dt_min_reached, result)
    if control.max_steps is not None:
        out = (num_steps >= control.max_steps) & (num_saved < len(ts))
        result = results.where(out, results.max_steps_reached, result)
    return Carry(
        next_start,
        jnp.minimum(next_end, ts[-1]),
        jnp.where(keep, z1, carry.z),
        jnp.where(keep, k[-1] / (end - start).astype(z1.dtype), carry.slope),
        saved,
        num_saved,
        num_steps,
        carry.num_rejected + jnp.where(keep, 0, 1),
        result,
        control_state,
        carry.tape,
    )


def _saved(
    solver: diffrax.AbstractERK,
    carry: Carry,
    k: jax.Array,
    z1: Lanes,
    ts: jax.Array,
    keep: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """The lanes at those times to keep that lie within an accepted step."""
    last = len(ts) - 1

    def within(found: tuple[jax.Array, jax.Array]) -> jax.Array:
        _, i = found
        return keep & (i <= last) & (row(ts, jnp.minimum(i, last)) <= carry.end)

    def save(found: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        saved, i = found
        path = solver.interpolation_cls(t0=carry.start, t1=carry.end, y0=carry.z, y1=z1, k=k)
        return with_row(saved, path.evaluate(row(ts, i)), i), i + 1

    return jax.lax.while_loop(within, save, (carry.saved, carry.num_saved))
