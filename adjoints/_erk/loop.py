"""One adaptive loop of an explicit Runge–Kutta method, over many solves and their sensitivities."""

from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
from odecal.adjoints._erk.batches import any_of_batch
from odecal.adjoints._erk.events import first_crossing
from odecal.adjoints._erk.interpolant import Interpolant
from odecal.adjoints._erk.rows import any_member, at_rows, rows_written
from odecal.adjoints._erk.tableau import stages
from odecal.adjoints._erk.tape import Tape, blank_tape, written

# The states and their sensitivities, of shape (element, lane, member): the first lane is the state.
# Members come last, so that what is done to all of them alike runs through memory in order.
Lanes = jax.Array


class Control(NamedTuple):
    """How steps are chosen. Every array has an axis of members, the last one for states.

    Args:
        begin: the end of the first step and the first state of the controller, of times, states
            of shape (element, member) and what the vector field is given there.
        judge: whether a step is kept, the start and end of the next one, the state of the
            controller and a result; of the step's start and end, of the lanes there and the
            estimate of their error, and of the state of the controller before.
        max_steps: the largest number of steps, or None.
    """

    begin: Callable[[jax.Array, jax.Array, Any], tuple[jax.Array, Any]]
    judge: Callable[..., tuple[Any, ...]]
    max_steps: int | None


class Stops(NamedTuple):
    """Where the lanes change.

    Args:
        times: known times, sorted, of shape (member, n); infinity for none.
        ranks: the order of changes at the same time, of shape (member, n).
        between: what the field is given after so many changes.
        leap: the lanes after a change, of its number, the time and the lanes before.
        late: below which rank each time to keep sees the changes at the same time, of shape
            (member, time); None for 0.
        conditions: scalars of a time, a state and what the field is given; where one falls below
            zero the lanes change.
        cross: the lanes after such a change, of the number of the condition, how many known
            changes lie behind, the time, and the lanes before.
    """

    times: jax.Array
    ranks: jax.Array
    between: Callable[[jax.Array], Any]
    leap: Callable[[jax.Array, jax.Array, Lanes], Lanes]
    late: jax.Array | None = None
    conditions: tuple[Callable[[jax.Array, jax.Array, Any], jax.Array], ...] = ()
    cross: Callable[[jax.Array, jax.Array, jax.Array, Lanes], Lanes] | None = None


class Way(NamedTuple):
    """What is integrated.

    Args:
        field: the derivative of all lanes, of times, the lanes, and what holds between changes.
        z0: the initial lanes.
        t0: the initial times, of shape (member,).
        ts: the times to keep, sorted, of shape (member, time).
        stops: where the lanes change; None for nowhere.
    """

    field: Callable[[jax.Array, Lanes, Any], Lanes]
    z0: Lanes
    t0: jax.Array
    ts: jax.Array
    stops: Stops | None = None


class Carry(NamedTuple):
    """Where the solves stand; each of shape (member,) but for what says otherwise.

    Args:
        start: the time reached.
        end: the time that the next step tries.
        z: the lanes at `start`.
        slope: their derivative there.
        saved: the lanes at the times to keep, of shape (member, time + 1, element, lane); the last
            row is for what is not to be kept.
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

    All members step together, each by steps of its own, until the last has ended.

    Args:
        solver: the method, whose last stage must be the first of the next step.
        control: how steps are chosen.
        way: what is integrated.
        taped: whether the accepted steps are remembered, of which there may be `max_steps`. For
            one member, and not where there are stops.

    Returns:
        Where the solves stand at their end.
    """

    def going(carry: Carry) -> jax.Array:
        unfinished = carry.num_saved < way.ts.shape[1]
        return unfinished & (carry.result == diffrax.RESULTS.successful)

    def turn(carry: Carry) -> Carry:
        stepping = going(carry)
        if way.stops is not None:
            carry, stepping = _changed_where_due(control, way, way.stops, carry, going)
        new = _step(solver, control, way, carry, stepping)
        if taped:
            assert carry.tape is not None
            i = carry.num_steps[0] - carry.num_rejected[0]  # a rejected step is overwritten
            tried = Tape(carry.start[0], carry.end[0], carry.z[:, 0, 0], carry.num_saved[0])
            new = new._replace(tape=written(carry.tape, tried, i, stepping[0]))
        if way.stops is not None and way.stops.conditions:
            new = _changed_where_fallen(control, way, way.stops, new)
        return new

    carry = _beginning(control, way, taped)
    return jax.lax.while_loop(lambda carry: any_of_batch(any_member(going(carry))), turn, carry)


def _beginning(control: Control, way: Way, taped: bool) -> Carry:
    """Where the solves stand before their first steps."""
    zero = jnp.zeros(way.t0.shape, jnp.int32)
    within, stop = _ahead(way.stops, zero, way.t0)
    first, control_state = control.begin(way.t0, way.z0[:, 0], within)
    num_members, num_times = way.ts.shape
    saved = jnp.zeros((num_members, num_times + 1, *way.z0.shape[:-1]), way.z0.dtype)
    num_saved = zero
    if way.stops is not None:  # a change at t0 may come before any step
        every = jnp.arange(num_times, dtype=zero.dtype)
        awaits = jax.vmap(lambda i: _awaits(way, way.stops, zero, zero + i), out_axes=1)(every)
        early = (way.ts <= way.t0[:, None]) & ~awaits
        saved = saved + jnp.moveaxis(way.z0, -1, 0)[:, None]
        num_saved = jnp.sum(early, axis=1, dtype=zero.dtype)
    return Carry(
        way.t0,
        jnp.minimum(first, jnp.minimum(way.ts[:, -1], stop)),
        way.z0,
        way.field(way.t0, way.z0, within),
        saved,
        num_saved,
        zero,
        zero,
        zero,
        zero - 1,
        jax.tree.map(lambda x: jnp.broadcast_to(x, zero.shape), diffrax.RESULTS.successful),
        control_state,
        blank_tape(control.max_steps, way.t0[0], way.z0[:, 0, 0]) if taped else None,
    )


def _ahead(stops: Stops | None, num_changes: jax.Array, t: jax.Array) -> tuple[Any, jax.Array]:
    """What the field is given after so many changes, and when the next one is."""
    if stops is None:
        return (), jnp.full_like(t, jnp.inf)
    return stops.between(num_changes), _next_time(stops.times, num_changes)


def _next_time(times: jax.Array, i: jax.Array) -> jax.Array:
    """The i-th time of each member, infinity after the last."""
    num_members, count = times.shape
    if not count:
        return jnp.full(num_members, jnp.inf, times.dtype)
    return jnp.where(i < count, at_rows(times, jnp.minimum(i, count - 1)), jnp.inf)


def _awaits(way: Way, stops: Stops | None, num_changes: jax.Array, i: jax.Array) -> jax.Array:
    """Whether the i-th time to keep of each member is to see the next known change."""
    if stops is None or not stops.times.shape[1]:
        return jnp.zeros(num_changes.shape, bool)
    t, due = at_rows(way.ts, i), _next_time(stops.times, num_changes)
    rank = at_rows(stops.ranks, jnp.minimum(num_changes, stops.times.shape[1] - 1))
    late = 0.0 if stops.late is None else at_rows(stops.late, i).astype(rank.dtype)
    return (due < t) | ((due == t) & (rank < late))


def _changed_where_due(
    control: Control,
    way: Way,
    stops: Stops,
    carry: Carry,
    going: Callable[[Carry], jax.Array],
) -> tuple[Carry, jax.Array]:
    """Make the known changes whose time has come, one after another; and tell who steps on.

    A change costs all members as much as a step does. So the ones that are due wait until they are
    half of those that are going.
    """

    def due(carry: Carry) -> jax.Array:
        return going(carry) & (_next_time(stops.times, carry.num_changes) <= carry.start)

    def many(carry: Carry) -> jax.Array:
        count = jnp.sum(due(carry))
        return (count > 0) & (2 * count >= jnp.sum(going(carry)))

    def change(carry: Carry) -> Carry:
        which = due(carry)
        z = stops.leap(carry.num_changes, carry.start, carry.z)
        z = jnp.where(which, z, carry.z)
        num_changes = carry.num_changes + which.astype(carry.num_changes.dtype)
        return _begun_anew(control, way, carry._replace(z=z, num_changes=num_changes), which)

    if not stops.times.shape[1]:
        return carry, going(carry)
    carry = jax.lax.while_loop(many, change, carry)
    return carry, going(carry) & ~due(carry)


def _changed_where_fallen(control: Control, way: Way, stops: Stops, carry: Carry) -> Carry:
    """Make the changes of conditions that have fallen."""

    def change(carry: Carry) -> Carry:
        assert stops.cross is not None
        which = carry.crossed >= 0
        z = stops.cross(carry.crossed, carry.num_changes, carry.start, carry.z)
        z = jnp.where(which, z, carry.z)
        carry = carry._replace(z=z, crossed=jnp.full_like(carry.crossed, -1))
        return _begun_anew(control, way, carry, which)

    return jax.lax.while_loop(lambda carry: any_member(carry.crossed >= 0), change, carry)


def _begun_anew(control: Control, way: Way, carry: Carry, which: jax.Array) -> Carry:
    """Look where lanes go after a change, and keep them at times that are to see that."""
    t, z = carry.start, carry.z
    within, stop = _ahead(way.stops, carry.num_changes, t)
    first, control_state = control.begin(t, z[:, 0], within)

    def here(i: jax.Array) -> jax.Array:
        awaits = _awaits(way, way.stops, carry.num_changes, i)
        return which & (at_rows(way.ts, i) <= t) & ~awaits

    saved, num_saved = _kept(way, carry, here, lambda t: z)
    end = jnp.minimum(first, jnp.minimum(way.ts[:, -1], stop))
    return carry._replace(
        end=jnp.where(which, end, carry.end),
        slope=jnp.where(which, way.field(t, z, within), carry.slope),
        saved=saved,
        num_saved=num_saved,
        control=_where(which, control_state, carry.control),
    )


def _step(
    solver: diffrax.AbstractERK, control: Control, way: Way, carry: Carry, stepping: jax.Array
) -> Carry:
    """Try one step of those that step; accept it, keeping what is to be kept, or try a shorter."""
    start, end, ts = carry.start, carry.end, way.ts
    within, stop = _ahead(way.stops, carry.num_changes, start)

    def field(t: jax.Array, z: Lanes) -> Lanes:
        return way.field(t, z, within)

    k, z1 = stages(solver.tableau, field, (start, end), carry.z, carry.slope)
    errors = jnp.asarray(solver.tableau.b_error, k.dtype)[:, None, None, None]
    error = jnp.sum(errors * k, axis=0)
    error = error.at[:, 0].set(jnp.where(jnp.isfinite(error[:, 0]), error[:, 0], jnp.inf))
    keep, next_start, next_end, control_state, result = control.judge(
        (start, end), (carry.z, z1, error), carry.control
    )
    # A step that cannot be told from none, or a rejected one that rounding makes again.
    stuck = (next_end <= next_start) | (~keep & (next_end >= end))
    keep = keep & stepping
    path = Interpolant(solver, start, end, (carry.z, z1), k)
    crossed, slope = carry.crossed, k[-1] / (end - start).astype(z1.dtype)
    if way.stops is not None and way.stops.conditions:
        crossed, end, next_start, next_end, z1 = _cut_short(
            way.stops, within, path, keep, (end, next_start, next_end, z1)
        )
    saved, num_saved = _saved(way, carry, path, keep, end)
    num_steps = carry.num_steps + stepping.astype(carry.num_steps.dtype)
    results, unfinished = diffrax.RESULTS, stepping & (num_saved < ts.shape[1])
    result = _where(stuck & unfinished, results.dt_min_reached, result)
    if control.max_steps is not None:
        out = (num_steps >= control.max_steps) & unfinished
        result = _where(out, results.max_steps_reached, result)

    return carry._replace(
        start=jnp.where(stepping, next_start, start),
        end=jnp.where(stepping, jnp.minimum(next_end, jnp.minimum(ts[:, -1], stop)), carry.end),
        z=jnp.where(keep, z1, carry.z),
        slope=jnp.where(keep, slope, carry.slope),
        saved=saved,
        num_saved=num_saved,
        num_steps=num_steps,
        num_rejected=carry.num_rejected + (stepping & ~keep).astype(num_steps.dtype),
        crossed=crossed,
        result=_where(stepping, result, carry.result),
        control=_where(stepping, control_state, carry.control),
    )


def _where(which: jax.Array, new: Any, old: Any) -> Any:
    """For each member the one or the other, of pytrees of arrays of shape (member,)."""
    return jax.tree.map(lambda a, b: jnp.where(which, a, b), new, old)


def _cut_short(stops: Stops, within: Any, path: Interpolant, keep: jax.Array, step: Any) -> Any:
    """Accepted steps, ended where a condition first falls below zero."""
    end, next_start, next_end, z1 = step
    of_state = path.of_lane(0)

    def at(condition: Callable[..., jax.Array]) -> Callable[[jax.Array], jax.Array]:
        return lambda t: condition(t, of_state(t), within)

    found = first_crossing([at(condition) for condition in stops.conditions], path.start, end)
    cut = keep & (found.which >= 0)
    return (
        jnp.where(cut, found.which, -1),
        jnp.where(cut, found.t, end),
        jnp.where(cut, found.t, next_start),
        jnp.where(cut, found.t + (end - path.start), next_end),
        jnp.where(cut, path(found.t), z1),
    )


def _saved(
    way: Way, carry: Carry, path: Interpolant, keep: jax.Array, end: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The lanes at those times to keep that lie within accepted steps."""

    def inside(i: jax.Array) -> jax.Array:
        t = at_rows(way.ts, i)
        found = keep & (t <= end)
        return found & ~_awaits(way, way.stops, carry.num_changes, i)

    return _kept(way, carry, inside, path.__call__)


def _kept(
    way: Way,
    carry: Carry,
    within_reach: Callable[[jax.Array], jax.Array],
    lanes_at: Callable[[jax.Array], Lanes],
) -> tuple[jax.Array, jax.Array]:
    """What is saved and how much, with the next times to keep as long as they are within reach.

    Args:
        way: what is integrated.
        carry: where the solves stand.
        within_reach: whether the i-th time of each member is.
        lanes_at: the lanes at times of shape (member,).
    """
    num_times = way.ts.shape[1]

    def due(i: jax.Array) -> jax.Array:
        return (i < num_times) & within_reach(jnp.minimum(i, num_times - 1))

    def save(found: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        saved, i = found
        now = due(i)
        z = lanes_at(at_rows(way.ts, jnp.minimum(i, num_times - 1)))
        return rows_written(saved, z, jnp.where(now, i, num_times)), i + now.astype(i.dtype)

    return jax.lax.while_loop(
        lambda found: any_member(due(found[1])), save, (carry.saved, carry.num_saved)
    )
