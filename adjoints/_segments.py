"""A solve with jumps as one solve for each segment between two of them."""

from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.lax import stop_gradient
from jaxtyping import Array, Float, Int, Shaped
from odecal.adjoints._jump_maps import JumpMaps
from odecal.adjoints._jumps import Schedule
from odecal.adjoints._problem import Problem, solution_at_times
from odecal.adjoints._rows import row_at
from odecal.adjoints._step_limits import in_unit_time


def solve_segments(
    solve: Callable[[Problem, Any, Any], diffrax.Solution], problem: Problem, y0: Any, args: Any
) -> diffrax.Solution:
    """Solve segment by segment, each over a unit of its own time.

    Raises:
        ValueError: if the state changes where a condition falls.
    """
    jumps = problem.jumps
    assert jumps is not None
    if jumps.crossings:
        raise ValueError(
            "Changes where a condition on the state falls below zero are served by "
            "odecal.adjoints.ExplicitForward() alone, with diffrax.Tsit5, Dopri5, Dopri8 or Bosh3."
        )
    ts = jnp.asarray(problem.saveat.subs.ts)
    flat, unravel = ravel_pytree(y0)
    schedule = jumps.schedule(args)
    maps = JumpMaps(problem.terms, unravel, jumps, args, schedule)
    t0, t1 = jnp.asarray(problem.t0, ts.dtype), ts[-1]
    # Those that never come are nowhere computed with: infinity would be a gradient of NaN.
    in_time = schedule._replace(times=jnp.where(schedule.times <= t1, schedule.times, t1))
    segment_of_time = _segment_of_time(schedule, ts, jumps.save_ranks)

    def segment(carry: Any, i: jax.Array) -> tuple[Any, None]:
        start, y, ys, num_steps, result = carry
        due = jnp.append(schedule.times, jnp.inf)[i]
        end = stop_gradient(jnp.clip(due, start, t1))
        given = (args, row_at(schedule.between, i))
        part, steps, why = _solve_segment(solve, problem, (start, end), unravel(y), given, ts)
        result = diffrax.RESULTS.where(result == diffrax.RESULTS.successful, why, result)
        ys = jnp.where((segment_of_time == i)[:, None], part[:-1], ys)
        y = part[-1]
        if len(schedule.times):
            last = jnp.minimum(i, len(schedule.times) - 1)
            y = jnp.where(due <= t1, maps.at_time(last)(y, in_time, args), y)
        return (end, y, ys, num_steps + steps, result), None

    begin = (
        t0,
        flat,
        jnp.zeros((len(ts), flat.size), flat.dtype),
        jnp.zeros((), jnp.int32),
        diffrax.RESULTS.successful,
    )
    count = jnp.arange(len(schedule.times) + 1)
    (_, _, ys, num_steps, result), _ = jax.lax.scan(segment, begin, count)
    if problem.max_steps is not None:
        out = num_steps > problem.max_steps
        result = diffrax.RESULTS.where(out, diffrax.RESULTS.max_steps_reached, result)
    return solution_at_times(problem, jax.vmap(unravel)(ys), {"num_steps": num_steps}, result)


def _segment_of_time(
    schedule: Schedule, ts: Float[Array, " time"], save_ranks: Shaped[Array, " time"] | None
) -> Int[Array, " time"]:
    """The number of the segment that each saved time lies in."""
    times, ranks = stop_gradient((schedule.times, schedule.order))
    below = jnp.zeros_like(ts) if save_ranks is None else save_ranks.astype(ranks.dtype)
    behind = (times[None] < ts[:, None]) | (
        (times[None] == ts[:, None]) & (ranks[None] < below[:, None])
    )
    return jnp.sum(behind, axis=1)


def _solve_segment(
    solve: Callable[[Problem, Any, Any], diffrax.Solution],
    problem: Problem,
    span: tuple[jax.Array, jax.Array],
    y: Any,
    given: Any,
    ts: Float[Array, " time"],
) -> tuple[Float[Array, "time+1 element"], jax.Array, Any]:
    """The states at the saved times and at the end; how many steps; how it ended."""
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
