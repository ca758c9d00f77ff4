"""Solves by the loop of explicit methods, given and taken as Diffrax does."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from odecal.adjoints._erk.batches import as_one_batch, in_pieces
from odecal.adjoints._erk.loop import Carry, Control, Lanes, Stops, Way, integrate
from odecal.adjoints._erk.primal_and_tangents import AbstractLanes, StateAlone, WithWitness
from odecal.adjoints._erk.tape import Tape
from odecal.adjoints._jumps import rows_at
from odecal.adjoints._problem import Problem
from odecal.adjoints._tangent_control import part_in_witness

# How many numbers, of all lanes of all members, a CPU steps at once: as measured, the fastest.
_AT_ONCE = 192


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


class End(NamedTuple):
    """What a solve ends with.

    Args:
        saved: the lanes at the times to keep, of shape (time, element, lane).
        num_steps: the steps tried.
        num_rejected: those rejected.
        result: why it ended.
    """

    saved: jax.Array
    num_steps: jax.Array
    num_rejected: jax.Array
    result: Any


def solve_together(lanes: AbstractLanes, member: Any) -> End:
    """Solve, together with all others that are mapped.

    Args:
        lanes: what is integrated.
        member: the arrays of one solve.
    """
    return as_one_batch(partial(_solve_in_pieces, lanes))(member)


def _solve_in_pieces(lanes: AbstractLanes, members: Any) -> End:
    """Solve for all: on a CPU so many at a time as fit into its innermost cache."""
    if jax.default_backend() != "cpu":
        return _solve_all(lanes, members)
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), members)
    z0, _ = jax.eval_shape(lanes.beginning, one)
    found: End = in_pieces(partial(_solve_all, lanes), members, max(1, _AT_ONCE // z0.size))
    return found


def _solve_all(lanes: AbstractLanes, members: Any) -> End:
    z0, own = lanes.beginning(members)
    return _end(integrate(*_loop_of(lanes, members, z0, own)))


def _end(carry: Carry) -> End:
    return End(carry.saved[:, :-1], carry.num_steps, carry.num_rejected, carry.result)


def _loop_of(
    lanes: AbstractLanes, members: Any, z0: Lanes, own: Any
) -> tuple[diffrax.AbstractERK, Control, Way]:
    """What the loop is to do."""
    problem, y0, _ = lanes.parts(jax.tree.map(lambda x: x[0], members))
    unravel = ravel_pytree(y0)[1]
    stops = None if problem.jumps is None else _stops(lanes, members, own)

    def times(member: Any) -> tuple[jax.Array, jax.Array]:
        problem, _, _ = lanes.parts(member)
        ts = jnp.asarray(problem.saveat.subs.ts)
        return jnp.asarray(problem.t0, ts.dtype), ts

    way = Way(lanes.field(members, own), z0, *jax.vmap(times)(members), stops)
    return problem.solver, _control(lanes, members, own, problem, unravel), way


def _control(
    lanes: AbstractLanes,
    members: Any,
    own: Any,
    first: Problem,
    unravel: Callable[[jax.Array], Any],
) -> Control:
    """Steps as the controllers of the members choose them."""

    def begin(member: Any, t: jax.Array, y: jax.Array, within: Any) -> tuple[jax.Array, Any]:
        problem, _, args = lanes.parts(member)
        order = problem.solver.error_order(problem.terms)
        given = args if problem.jumps is None else (args, within[0])
        end, state = problem.stepsize_controller.init(
            problem.terms,
            t,
            jnp.asarray(problem.saveat.subs.ts)[-1],
            unravel(y),
            problem.dt0,
            given,
            problem.solver.func,
            order,
        )
        return end, (jax.tree.map(jnp.asarray, state), jnp.asarray(False))

    def judge(
        member: Any,
        own: Any,
        span: tuple[jax.Array, jax.Array],
        step: tuple[jax.Array, ...],
        before: Any,
    ) -> tuple[Any, ...]:
        problem, _, args = lanes.parts(member)
        order = problem.solver.error_order(problem.terms)
        z, z1, _ = step
        state, watched = before
        seen, watched = lanes.error(problem.stepsize_controller, own, step, watched)
        y, y1, error = unravel(z[:, 0]), unravel(z1[:, 0]), unravel(seen)
        keep, start, end, _, state, result = problem.stepsize_controller.adapt_step_size(
            *span, y, y1, args, error, order, state
        )
        return jnp.asarray(keep), start, end, (state, watched), result

    return Control(
        partial(jax.vmap(begin, in_axes=(0, 0, -1, 0)), members),
        partial(jax.vmap(judge, in_axes=(0, 0, 0, -1, 0)), members, own),
        first.max_steps,
    )


def _stops(lanes: AbstractLanes, members: Any, own: Any) -> Stops:
    """Where the lanes of the members change."""
    problem, _, _ = lanes.parts(members)
    assert problem.jumps is not None
    crossings = problem.jumps.crossings

    def leap(member: Any, own: Any, i: Any, t: Any, z: jax.Array) -> jax.Array:
        del t
        return lanes.after(member, own, lanes.course(member, own).known(i), z)

    def cross(member: Any, own: Any, which: Any, i: Any, t: Any, z: jax.Array) -> jax.Array:
        course = lanes.course(member, own)
        moves = [course.crossed(n, i, t) for n in range(len(crossings))]
        return jnp.stack([lanes.after(member, own, move, z) for move in moves])[which]

    def condition(n: int, member: Any, own: Any, t: Any, y: jax.Array, within: Any) -> jax.Array:
        return lanes.course(member, own).condition(n, t, y, within[0])

    return Stops(
        lanes.schedule(own).times,
        lanes.schedule(own).order,
        partial(jax.vmap(lanes.between), members, own),
        partial(jax.vmap(leap, in_axes=(0, 0, 0, 0, -1), out_axes=-1), members, own),
        problem.jumps.late,
        tuple(
            partial(jax.vmap(partial(condition, n), in_axes=(0, 0, 0, -1, 0)), members, own)
            for n in range(len(crossings))
        ),
        partial(jax.vmap(cross, in_axes=(0, 0, 0, 0, 0, -1), out_axes=-1), members, own),
    )


def solve_alone(problem: Problem, y0__args: Any) -> diffrax.Solution:
    """Solve with the state as the only lane."""
    member, rest = eqx.partition((problem, *y0__args), eqx.is_array)
    end = solve_together(StateAlone(rest), member)
    unravel = ravel_pytree(y0__args[0])[1]
    return as_solution(problem, jax.vmap(unravel)(end.saved[:, :, 0]), end)


def solve_taped(
    problem: Problem,
    y0__args: Any,
    field: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
    theta: jax.Array,
) -> tuple[End, Tape]:
    """Solve one with its state and a witness, and remember the accepted steps.

    Args:
        problem: the problem, without changes on its way.
        y0__args: the initial state and the parameters as they were given.
        field: the vector field, between vectors: of a time, a state and the parameters.
        theta: the parameters that are differentiated by, of shape (k,).
    """
    member, rest = eqx.partition((problem, *y0__args), eqx.is_array)
    lanes = WithWitness(rest)
    members = jax.tree.map(lambda x: jnp.asarray(x)[None], member)
    z0, own = lanes.beginning(members)
    solver, control, way = _loop_of(lanes, members, z0, own)
    along = part_in_witness(theta)

    def of_one(t: jax.Array, z: Lanes, within: Any) -> Lanes:
        del within

        def slope(y: jax.Array, theta: jax.Array) -> jax.Array:
            return field(t[0], y, theta)

        lanes = jax.jvp(slope, (z[:, 0, 0], theta), (z[:, 1, 0], along))
        return jnp.stack(lanes, axis=1)[..., None]

    end = integrate(solver, control, way._replace(field=of_one), taped=True)
    assert end.tape is not None
    ended: End = rows_at(_end(end), jnp.zeros((), jnp.int32))
    return ended, end.tape


def as_solution(problem: Problem, states: Any, end: End) -> diffrax.Solution:
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
