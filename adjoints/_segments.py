"""A solve whose state changes on the way, as one solve for each stretch between changes."""

from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.lax import stop_gradient
from odecal.adjoints._jump_maps import Course
from odecal.adjoints._jumps import Jumps, Schedule, rows_at
from odecal.adjoints._problem import Problem
from odecal.adjoints._step_limits import in_unit_time


def by_stretches(
    solve: Callable[[Problem, Any, Any], diffrax.Solution],
    problem: Problem,
    jumps: Jumps,
    y0: Any,
    args: Any,
) -> diffrax.Solution:
    """Solve stretch by stretch, each over a unit of its own time.

    Args:
        solve: solves a problem without changes, from an initial state and parameters.
        problem: the problem.
        jumps: what happens on the way.
        y0: the initial state.
        args: the parameters.

    Returns:
        The solution.

    Raises:
        ValueError: if the state changes where a condition falls.
    """
    if jumps.crossings:
        raise ValueError(
            "Changes where a condition on the state falls below zero are served by "
            "odecal.adjoints.ExplicitForward() alone, with diffrax.Tsit5, Dopri5, Dopri8 or Bosh3."
        )
    ts = jnp.asarray(problem.saveat.subs.ts)
    flat, unravel = ravel_pytree(y0)
    course = Course(problem, unravel, jumps, args)
    schedule = course.schedule
    t0, t1 = jnp.asarray(problem.t0, ts.dtype), ts[-1]
    # Those that never come are nowhere computed with: infinity would be a gradient of NaN.
    in_time = schedule._replace(times=jnp.where(schedule.times <= t1, schedule.times, t1))
    stretch_of = _stretch_of(schedule, ts, jumps.late)

    def stretch(carry: Any, i: jax.Array) -> tuple[Any, None]:
        start, y, ys, num_steps, result = carry
        due = jnp.append(schedule.times, jnp.inf)[i]
        end = stop_gradient(jnp.clip(due, start, t1))
        part, steps, why = _solve_stretch(
            solve, problem, (start, end), unravel(y), (args, rows_at(schedule.between, i)), ts
        )
        result = diffrax.RESULTS.where(result == diffrax.RESULTS.successful, why, result)
        ys = jnp.where((stretch_of == i)[:, None], part[:-1], ys)
        y = part[-1]
        if len(schedule.times):
            last = jnp.minimum(i, len(schedule.times) - 1)
            y = jnp.where(due <= t1, course.known(last)(y, in_time, args), y)
        return (end, y, ys, num_steps + steps, result), None

    begin = (
        t0,
        flat,
        jnp.zeros((len(ts), flat.size), flat.dtype),
        jnp.zeros((), jnp.int32),
        diffrax.RESULTS.successful,
    )
    count = jnp.arange(len(schedule.times) + 1)
    (_, _, ys, num_steps, result), _ = jax.lax.scan(stretch, begin, count)
    if problem.max_steps is not None:
        out = num_steps > problem.max_steps
        result = diffrax.RESULTS.where(out, diffrax.RESULTS.max_steps_reached, result)
    return diffrax.Solution(
        t0=problem.t0,
        t1=problem.t1,
        ts=ts,
        ys=jax.vmap(unravel)(ys),
        interpolation=None,
        stats={"num_steps": num_steps, "max_steps": problem.max_steps},
        result=result,
        solver_state=None,
        controller_state=None,
        made_jump=None,
        event_mask=None,
    )


def _stretch_of(schedule: Schedule, ts: jax.Array, late: jax.Array | None) -> jax.Array:
    """The number of the stretch that each time to keep lies in."""
    times, ranks = stop_gradient((schedule.times, schedule.order))
    below = jnp.zeros_like(ts) if late is None else late.astype(ranks.dtype)
    behind = (times < ts[:, None]) | ((times == ts[:, None]) & (ranks < below[:, None]))
    return jnp.sum(behind, axis=1)


def _solve_stretch(
    solve: Callable[[Problem, Any, Any], diffrax.Solution],
    problem: Problem,
    span: tuple[jax.Array, jax.Array],
    y: Any,
    given: Any,
    ts: jax.Array,
) -> tuple[jax.Array, jax.Array, Any]:
    """The states at the times to keep and at the end, as rows; how many steps; how it ended."""
    start, end = span
    width = end - start

    def field(s: Any, y: Any, given__span: Any) -> Any:
        given, start, width = given__span
        slope = problem.terms.vector_field(start + s * width, y, given)
        return jax.tree.map(lambda x: (width * x).astype(x.dtype), slope)

    inside = jnp.clip((ts - start) / jnp.where(width > 0, width, 1.0), 0.0, 1.0)
    unit = problem._replace(
        terms=diffrax.ODETerm(field),
        t0=jnp.zeros_like(start),
        t1=jnp.ones_like(start),
        dt0=None,
        saveat=diffrax.SaveAt(ts=jnp.append(inside, 1.0)),
        stepsize_controller=in_unit_time(problem.stepsize_controller, start, width),
        jumps=None,
    )
    solution = solve(unit, y, (given, start, width))
    rows = jax.vmap(lambda y: ravel_pytree(y)[0])(solution.ys)
    return rows, solution.stats["num_steps"], solution.result
