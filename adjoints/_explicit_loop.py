"""One adaptive loop of an explicit Runge–Kutta method, over a state and its sensitivities."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
from odecal.adjoints._batches import any_of_batch
from odecal.adjoints._crossings import first_crossing
from odecal.adjoints._jumps import next_time
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
        begin: the end of the first step and the first state of the controller, of a time, a state
            and what the vector field is given there.
        max_steps: the largest number of steps, or None.
    """

    controller: diffrax.AbstractStepSizeController
    order: Any
    of_state: Callable[[jax.Array], Any]
    args: Any
    begin: Callable[[jax.Array, jax.Array, Any], tuple[jax.Array, Any]]
    max_steps: int | None


class Stops(NamedTuple):
    """Where the lanes change.

    Args:
        times: known times, sorted, of shape (n,); infinity for none.
        between: what the field is given after so many changes.
        leap: the lanes after a change, of its number, the time and the lanes before.
        late: which times to keep see the lanes after a change at the same time, of shape (time,),
            or None.
        conditions: scalars of a time, a state and what the field is given; where one falls below
            zero the lanes change.
        cross: the lanes after such a change, of the number of the condition, how many known
            changes lie behind, the time, and the lanes before.
        of_state: of what the field of the lanes is given, what that of the state alone is.
    """

    times: jax.Array
    between: Callable[[jax.Array], Any]
    leap: Callable[[jax.Array, jax.Array, Lanes], Lanes]
    late: jax.Array | None = None
    conditions: tuple[Callable[[jax.Array, jax.Array, Any], jax.Array], ...] = ()
    cross: Callable[[jax.Array, jax.Array, jax.Array, Lanes], Lanes] | None = None
    of_state: Callable[[Any], Any] = lambda within: within


class Way(NamedTuple):
    """What is integrated.

    Args:
        field: the derivative of all lanes, of a time, the lanes, and what holds between changes.
        z0: the initial lanes.
        t0: the initial time.
        ts: the times to keep, sorted, of shape (time,).
        stops: where the lanes change; None for nowhere.
    """

    field: Callable[[jax.Array, Lanes, Any], Lanes]
    z0: Lanes
    t0: jax.Array
    ts: jax.Array
    stops: Stops | None = None


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
        num_changes: the known changes that lie behind.
        crossed: the condition that has fallen below zero at `start`, −1 for none.
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
    num_changes: jax.Array
    crossed: jax.Array
    result: Any
    control: Any
    tape: Tape | None


def integrate(
    solver: diffrax.AbstractERK, control: Control, way: Way, taped: bool = False
) -> Carry:
    """Solve dz/dt = field(t, z) from z0, keeping z at the times ts.

    Args:
        solver: the method, whose last stage must be the first of the next step.
        control: how steps are chosen.
        way: what is integrated.
        taped: whether the accepted steps are remembered, of which there may be `max_steps`. Not
            where there are stops.

    Returns:
        Where the solve stands at its end.
    """
    carry = _beginning(control, way, taped)

    def going(carry: Carry) -> jax.Array:
        return (carry.num_saved < len(way.ts)) & (carry.result == diffrax.RESULTS.successful)

    def step(carry: Carry) -> Carry:
        return _step(solver, control, way, carry)

    if way.stops is not None:
        stops = way.stops
        return jax.lax.while_loop(
            going, lambda carry: _step_or_change(solver, control, way, stops, carry), carry
        )
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


def _beginning(control: Control, way: Way, taped: bool) -> Carry:
    """Where a solve stands before its first step."""
    zero = jnp.zeros((), jnp.int32)
    within, stop = _ahead(way.stops, zero, way.t0)
    first, control_state = control.begin(way.t0, way.z0[:, 0], within)
    saved, num_saved = jnp.zeros((len(way.ts), *way.z0.shape), way.z0.dtype), zero
    if way.stops is not None:  # a change at t0 may come before any step
        early = way.ts <= way.t0
        early &= True if way.stops.late is None else ~way.stops.late
        saved, num_saved = saved + way.z0, jnp.sum(early, dtype=zero.dtype)
    return Carry(
        way.t0,
        jnp.minimum(first, jnp.minimum(way.ts[-1], stop)),
        way.z0,
        way.field(way.t0, way.z0, within),
        saved,
        num_saved,
        zero,
        zero,
        zero,
        jnp.full_like(zero, -1),
        diffrax.RESULTS.successful,
        control_state,
        blank_tape(control.max_steps, way.t0, way.z0) if taped else None,
    )


def _ahead(stops: Stops | None, num_changes: jax.Array, t: jax.Array) -> tuple[Any, Any]:
    """What the field is given after so many changes, and when the next one is."""
    if stops is None:
        return (), jnp.full((), jnp.inf, t.dtype)
    return stops.between(num_changes), next_time(stops.times, num_changes)


def _step_or_change(
    solver: diffrax.AbstractERK, control: Control, way: Way, stops: Stops, carry: Carry
) -> Carry:
    """Step on, unless a change is due; then change, where a condition has fallen or one is due.

    Each is done only where some of a batch needs it. So a batch steps together, whatever the
    times of its members' changes, and none waits for another's.
    """

    def due(carry: Carry) -> jax.Array:
        return next_time(stops.times, carry.num_changes) <= carry.start

    def only(which: jax.Array, new: Carry, old: Carry) -> Carry:
        return jax.tree.map(lambda a, b: jnp.where(which, a, b), new, old)

    def where(which: jax.Array, what: Callable[[Carry], Carry], carry: Carry) -> Carry:
        return jax.lax.cond(
            any_of_batch(which), lambda: only(which, what(carry), carry), lambda: carry
        )

    carry = where(~due(carry), lambda carry: _step(solver, control, way, carry), carry)
    if stops.conditions:
        fallen = carry.crossed >= 0
        carry = where(fallen, lambda carry: _changed_by_state(control, way, stops, carry), carry)
    if not len(stops.times):
        return carry
    return where(due(carry), lambda carry: _changed(control, way, stops, carry), carry)


def _changed(control: Control, way: Way, stops: Stops, carry: Carry) -> Carry:
    """Make the change that is due, and begin anew from there."""
    t = carry.start
    z = stops.leap(carry.num_changes, t, carry.z)
    return _begun_anew(control, way, carry._replace(z=z, num_changes=carry.num_changes + 1))


def _changed_by_state(control: Control, way: Way, stops: Stops, carry: Carry) -> Carry:
    """Make the change of the condition that has fallen, and begin anew from there."""
    assert stops.cross is not None
    z = stops.cross(carry.crossed, carry.num_changes, carry.start, carry.z)
    done = jnp.full_like(carry.crossed, -1)
    return _begun_anew(control, way, carry._replace(z=z, crossed=done))


def _begun_anew(control: Control, way: Way, carry: Carry) -> Carry:
    """Look where the lanes go after a change, and keep them at times that are to see that."""
    t, z = carry.start, carry.z
    within, stop = _ahead(way.stops, carry.num_changes, t)
    first, control_state = control.begin(t, z[:, 0], within)
    last = len(way.ts) - 1
    # Changes at the same time follow one another: kept is the state after the last of them.
    settled = stop > t

    def here(found: tuple[jax.Array, jax.Array]) -> jax.Array:
        _, i = found
        return settled & (i <= last) & (row(way.ts, jnp.minimum(i, last)) <= t)

    def save(found: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        saved, i = found
        return with_row(saved, z, i), i + 1

    saved, num_saved = jax.lax.while_loop(here, save, (carry.saved, carry.num_saved))
    return carry._replace(
        end=jnp.minimum(first, jnp.minimum(way.ts[-1], stop)),
        slope=way.field(t, z, within),
        saved=saved,
        num_saved=num_saved,
        control=control_state,
    )


def _step(solver: diffrax.AbstractERK, control: Control, way: Way, carry: Carry) -> Carry:
    """Try one step."""
    within, _ = _ahead(way.stops, carry.num_changes, carry.start)

    def field(t: jax.Array, z: Lanes) -> Lanes:
        return way.field(t, z, within)

    k, z1 = stages(solver.tableau, field, (carry.start, carry.end), carry.z, carry.slope)
    return _judged(solver, control, way, carry, k, z1)


def _judged(
    solver: diffrax.AbstractERK, control: Control, way: Way, carry: Carry, k: jax.Array, z1: Lanes
) -> Carry:
    """Accept the step, keeping what is to be kept of it, or try a shorter one."""
    start, end, ts = carry.start, carry.end, way.ts
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
    num_steps = carry.num_steps + 1
    results = diffrax.RESULTS
    # A step that cannot be told from none, or a rejected one that rounding makes again.
    stuck = (next_end <= next_start) | (~keep & (next_end >= end))
    path = solver.interpolation_cls(t0=start, t1=end, y0=carry.z, y1=z1, k=k)
    crossed, slope = carry.crossed, k[-1] / (end - start).astype(z1.dtype)
    if way.stops is not None and way.stops.conditions:
        crossed, end, next_start, next_end, z1 = _cut_short(
            way.stops, carry, path, keep, (end, next_start, next_end, z1)
        )
    _, stop = _ahead(way.stops, carry.num_changes, start)
    saved, num_saved = _saved(way, carry, path, keep, end, stop)
    result = results.where(stuck & (num_saved < len(ts)), results.dt_min_reached, result)
    if control.max_steps is not None:
        out = (num_steps >= control.max_steps) & (num_saved < len(ts))
        result = results.where(out, results.max_steps_reached, result)
    return carry._replace(
        start=next_start,
        end=jnp.minimum(next_end, jnp.minimum(ts[-1], stop)),
        z=jnp.where(keep, z1, carry.z),
        slope=jnp.where(keep, slope, carry.slope),
        saved=saved,
        num_saved=num_saved,
        num_steps=num_steps,
        num_rejected=carry.num_rejected + jnp.where(keep, 0, 1),
        crossed=crossed,
        result=result,
        control=control_state,
    )


def _cut_short(stops: Stops, carry: Carry, path: Any, keep: jax.Array, step: Any) -> Any:
    """An accepted step, ended where a condition first falls below zero."""
    end, next_start, next_end, z1 = step
    within = stops.between(carry.num_changes)
    found = first_crossing(
        [
            partial(lambda of, t: of(t, path.evaluate(t)[:, 0], within), condition)
            for condition in stops.conditions
        ],
        carry.start,
        end,
    )
    cut = keep & (found.which >= 0)
    return (
        jnp.where(cut, found.which, -1),
        jnp.where(cut, found.t, end),
        jnp.where(cut, found.t, next_start),
        jnp.where(cut, found.t + (end - carry.start), next_end),
        jnp.where(cut, path.evaluate(found.t), z1),
    )


def _saved(
    way: Way, carry: Carry, path: Any, keep: jax.Array, end: jax.Array, stop: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The lanes at those times to keep that lie within an accepted step."""
    ts, last = way.ts, len(way.ts) - 1

    def within(found: tuple[jax.Array, jax.Array]) -> jax.Array:
        _, i = found
        j = jnp.minimum(i, last)
        inside = row(ts, j) <= end
        if way.stops is not None and way.stops.late is not None:
            inside &= ~(row(way.stops.late, j) & (row(ts, j) >= stop))
        return keep & (i <= last) & inside

    def save(found: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        saved, i = found
        return with_row(saved, path.evaluate(row(ts, i)), i), i + 1

    return jax.lax.while_loop(within, save, (carry.saved, carry.num_saved))
