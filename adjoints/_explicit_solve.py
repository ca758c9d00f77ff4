"""Solves by the loop of explicit methods, given and taken as Diffrax does."""

from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from odecal.adjoints._course import Course
from odecal.adjoints._explicit_loop import Carry, Control, Lanes, Stops, Way, integrate
from odecal.adjoints._problem import Problem


def serves(solver: diffrax.AbstractSolver) -> bool:
    """Whether a solver is an explicit method whose last stage is the next step's first."""
    return isinstance(solver, diffrax.AbstractERK) and bool(solver.tableau.fsal)


def check_solver(adjoint: Any, solver: diffrax.AbstractSolver, remedy: str) -> None:
    """Refuse solvers that the loop cannot run.

    Raises:
        ValueError: for those.
    """
    if not serves(solver):
        raise ValueError(
            f"{type(adjoint).__name__} cannot run {type(solver).__name__}: it serves the explicit "
            f"methods diffrax.Tsit5, Dopri5, Dopri8 and Bosh3. Use odecal.adjoints.{remedy}, "
            "which serves every solver."
        )


def flat_field(problem: Problem, unravel: Any, t: jax.Array, y: jax.Array, args: Any) -> jax.Array:
    """The vector field between vectors of all elements of the state."""
    slope = problem.terms.vector_field(t, unravel(y), args)
    return ravel_pytree(slope)[0].astype(y.dtype)


def solve_alone(problem: Problem, y0__args: Any) -> diffrax.Solution:
    """Solve with the state as the only lane."""
    y0, args = y0__args
    flat, unravel = ravel_pytree(y0)
    stops = None
    if problem.jumps is not None:
        course = Course(problem, unravel, problem.jumps, args)
        stops = course.stops(
            lambda move, z: move(z[:, 0], course.schedule, args)[:, None], course.between
        )

    def field(t: jax.Array, z: Lanes, within: Any) -> Lanes:
        given = args if stops is None else (args, within)
        return flat_field(problem, unravel, t, z[:, 0], given)[:, None]

    end = run(problem, field, flat[:, None], y0__args, unravel, stops=stops)
    return as_solution(problem, jax.vmap(unravel)(end.saved[:, :, 0]), end)


def run(
    problem: Problem,
    field: Callable[..., Lanes],
    z0: Lanes,
    y0__args: Any,
    unravel: Callable[[jax.Array], Any],
    taped: bool = False,
    stops: Stops | None = None,
) -> Carry:
    """Solve, with first steps of the controller's choice.

    Args:
        problem: the problem.
        field: the derivative of all lanes, of shape (element, lane), from a time, the lanes, and
            what holds between changes.
        z0: the initial lanes.
        y0__args: the initial state and the parameters as they were given.
        unravel: from the first lane to the state as it was given.
        taped: whether the accepted steps are remembered.
        stops: where the lanes change.
    """
    _, args = y0__args
    terms, solver, controller = problem.terms, problem.solver, problem.stepsize_controller
    ts = jnp.asarray(problem.saveat.subs.ts)
    order = solver.error_order(terms)

    def begin(t: jax.Array, y: jax.Array, within: Any) -> tuple[jax.Array, Any]:
        given = args if stops is None else (args, stops.of_state(within))
        first, state = controller.init(
            terms, t, ts[-1], unravel(y), problem.dt0, given, solver.func, order
        )
        return first, jax.tree.map(jnp.asarray, state)

    control = Control(controller, order, unravel, args, begin, problem.max_steps)
    way = Way(field, z0, jnp.asarray(problem.t0, ts.dtype), ts, stops)
    return integrate(solver, control, way, taped)


def as_solution(problem: Problem, states: Any, end: Carry) -> diffrax.Solution:
    """What Diffrax would give."""
    return diffrax.Solution(
        t0=problem.t0,
        t1=problem.t1,
        ts=jnp.asarray(problem.saveat.subs.ts),
        ys=states,
        interpolation=None,
        stats={
            "num_steps": end.num_steps,
            "num_accepted_steps": end.num_steps - end.num_rejected,
            "num_rejected_steps": end.num_rejected,
            "max_steps": problem.max_steps,
        },
        result=end.result,
        solver_state=None,
        controller_state=None,
        made_jump=None,
        event_mask=None,
    )
