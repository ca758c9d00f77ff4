"""One adaptive loop of an explicit Runge–Kutta method, over a state and its sensitivities."""

from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

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


def integrate(
    solver: diffrax.AbstractERK,
    control: Control,
    field: Callable[[jax.Array, Lanes], Lanes],
    begin: tuple[jax.Array, jax.Array, Any],
    z0: Lanes,
    ts: jax.Array,
) -> Carry:
    """Solve dz/dt = field(t, z) from z0, keeping z at the times ts.

    Args:
        solver: the method, whose last stage must be the first of the next step.
        control: how steps are chosen.
        field: the derivative of all lanes.
        begin: the initial time, the end of the first step, and the first state of the controller.
        z0: the initial lanes.
        ts: the times to keep, sorted, of shape (time,).

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
    )

    def going(carry: Carry) -> jax.Array:
        return (carry.num_saved < len(ts)) & (carry.result == diffrax.RESULTS.successful)

    def step(carry: Carry) -> Carry:
        stages, z1 = _stages(solver.tableau, field, carry)
        return _judged(solver, control, carry, stages, z1, ts)

    return jax.lax.while_loop(going, step, carry)


def _stages(
    tableau: diffrax.ButcherTableau, field: Callable[..., Lanes], carry: Carry
) -> tuple[jax.Array, Lanes]:
    """All stages of one step, times its length, of shape (stage, element, lane); and its end.

    A loop over the stages, rather than each written out: a smaller program, as fast.
    """
    num_stages, dtype = tableau.num_stages, carry.z.dtype
    lower = np.zeros((num_stages, num_stages, 1, 1))
    for i, row in enumerate(tableau.a_lower, start=1):
        lower[i, :i, 0, 0] = row
    weights = jnp.asarray(lower, dtype)
    nodes = jnp.asarray(np.concatenate([[0.0], tableau.c]), carry.start.dtype)
    h = carry.end - carry.start
    width = h.astype(dtype)

    def stage(i: jax.Array, found: tuple[jax.Array, Lanes]) -> tuple[jax.Array, Lanes]:
        stages, _ = found
        z = carry.z + jnp.sum(_row(weights, i) * stages, axis=0)
        slope = field(carry.start + _row(nodes, i) * h, z)
        return _with_row(stages, width * slope, i), z

    none = jnp.zeros((num_stages, *carry.z.shape), dtype)
    first = none.at[0].set(width * carry.slope)
    return jax.lax.fori_loop(1, num_stages, stage, (first, carry.z))


def _judged(
    solver: diffrax.AbstractERK,
    control: Control,
    carry: Carry,
    stages: jax.Array,
    z1: Lanes,
    ts: jax.Array,
) -> Carry:
    """Accept the step, keeping what is to be kept of it, or try a shorter one."""
    start, end = carry.start, carry.end
    errors = jnp.asarray(solver.tableau.b_error, stages.dtype)[:, None]
    error = jnp.sum(errors * stages[:, :, 0], axis=0)
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
    saved, num_saved = _saved(solver, carry, stages, z1, ts, keep)
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
        jnp.where(keep, stages[-1] / (end - start).astype(z1.dtype), carry.slope),
        saved,
        num_saved,
        num_steps,
        carry.num_rejected + jnp.where(keep, 0, 1),
        result,
        control_state,
    )


def _saved(
    solver: diffrax.AbstractERK,
    carry: Carry,
    stages: jax.Array,
    z1: Lanes,
    ts: jax.Array,
    keep: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """The lanes at those times to keep that lie within an accepted step."""
    last = len(ts) - 1

    def within(found: tuple[jax.Array, jax.Array]) -> jax.Array:
        _, i = found
        return keep & (i <= last) & (_row(ts, jnp.minimum(i, last)) <= carry.end)

    def save(found: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        saved, i = found
        path = solver.interpolation_cls(t0=carry.start, t1=carry.end, y0=carry.z, y1=z1, k=stages)
        return _with_row(saved, path.evaluate(_row(ts, i)), i), i + 1

    return jax.lax.while_loop(within, save, (carry.saved, carry.num_saved))


def _row(array: jax.Array, i: jax.Array) -> jax.Array:
    """array[i], where i is known to be in bounds: a smaller program."""
    return jax.lax.dynamic_index_in_dim(array, i, keepdims=False)


def _with_row(array: jax.Array, row: jax.Array, i: jax.Array) -> jax.Array:
    """array.at[i].set(row), likewise."""
    return jax.lax.dynamic_update_index_in_dim(array, row, i, axis=0)
