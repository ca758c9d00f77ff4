"""Solves by the loop of explicit methods, given and taken as Diffrax does."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float
from odecal.adjoints._erk.batches import as_one_batch, in_pieces
from odecal.adjoints._erk.loop import integrate
from odecal.adjoints._erk.primal_and_tangents import AbstractPrimalAndTangents, Primal
from odecal.adjoints._erk.state import (
    BatchedJumps,
    LoopProblem,
    LoopState,
    PrimalAndTangents,
    StepControl,
)
from odecal.adjoints._erk.tangent_control import Step, witness_direction
from odecal.adjoints._erk.tape import Tape
from odecal.adjoints._problem import Problem, solution_at_times
from odecal.adjoints._reverse import FlatProblem
from odecal.adjoints._rows import row_at

# How many numbers, of all columns of all members, a CPU steps at once: as measured, the fastest.
_AT_ONCE = 192


def serves(solver: diffrax.AbstractSolver) -> bool:
    """Whether a solver is an explicit method whose last stage is the next step's first."""
    return isinstance(solver, diffrax.AbstractERK) and bool(solver.tableau.fsal)


def check_solver(adjoint: Any, solver: diffrax.AbstractSolver, remedy: str) -> None:
    """Refuse solvers that the loop cannot run."""
    if not serves(solver):
        raise ValueError(
            f"{type(adjoint).__name__} cannot run {type(solver).__name__}: it serves the explicit "
            f"methods diffrax.Tsit5, Dopri5, Dopri8 and Bosh3. Use odecal.adjoints.{remedy}, "
            "which serves every solver."
        )


class End(NamedTuple):
    """What a solve ends with: the columns at the saved times, steps, and why it ended."""

    saved: Float[Array, "time element column"]
    num_steps: jax.Array
    num_rejected: jax.Array
    result: Any


def solve_batched(columns: AbstractPrimalAndTangents, member: Any) -> End:
    """Solve one, together with all others that are mapped."""
    return as_one_batch(partial(_solve_in_pieces, columns))(member)


def solve_primal(problem: Problem, y0: Any, args: Any) -> diffrax.Solution:
    """Solve for the state alone."""
    member, rest = eqx.partition((problem, y0, args), eqx.is_array)
    end = solve_batched(Primal(rest), member)
    unravel = ravel_pytree(y0)[1]
    return as_solution(problem, jax.vmap(unravel)(end.saved[:, :, 0]), end)


def solve_taped(flat: FlatProblem, args: Any) -> tuple[End, Tape]:
    """Solve one, without jumps, with its state and a witness, and keep the accepted steps."""
    member, rest = eqx.partition((flat.problem, flat.unravel(flat.y0), args), eqx.is_array)
    columns = Primal(rest, witness=True)
    members = jax.tree.map(lambda x: jnp.asarray(x)[None], member)
    z0, aux = columns.init(members)
    solver, control, loop_problem = _loop(columns, members, z0, aux)
    direction = witness_direction(flat.theta)

    def of_one(t: jax.Array, z: PrimalAndTangents, held: Any) -> PrimalAndTangents:
        del held

        def slope(y: jax.Array, theta: jax.Array) -> jax.Array:
            return flat.field(t[0], y, theta)

        both = jax.jvp(slope, (z[:, 0, 0], flat.theta), (z[:, 1, 0], direction))
        return jnp.stack(both, axis=1)[..., None]

    state = integrate(solver, control, loop_problem._replace(field=of_one), taped=True)
    assert state.tape is not None
    return row_at(_end(state), jnp.zeros((), jnp.int32)), state.tape


def as_solution(problem: Problem, states: Any, end: End) -> diffrax.Solution:
    """What Diffrax would give."""
    stats = {
        "num_steps": end.num_steps,
        "num_accepted_steps": end.num_steps - end.num_rejected,
        "num_rejected_steps": end.num_rejected,
    }
    return solution_at_times(problem, states, stats, end.result)


def _solve_in_pieces(columns: AbstractPrimalAndTangents, members: Any) -> End:
    """Solve for all: on a CPU so many at a time as fit into its innermost cache."""
    if jax.default_backend() != "cpu":
        return _solve_all(columns, members)

    def blank(member: Any) -> jax.Array:
        _, y0, _ = columns.unpack(member)
        return jnp.zeros((ravel_pytree(y0)[0].size, columns.num_columns(member)))

    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), members)
    size = jax.eval_shape(blank, one).size
    return in_pieces(partial(_solve_all, columns), members, max(1, _AT_ONCE // size))


def _solve_all(columns: AbstractPrimalAndTangents, members: Any) -> End:
    z0, aux = columns.init(members)
    return _end(integrate(*_loop(columns, members, z0, aux)))


def _end(state: LoopState) -> End:
    return End(state.saved[:, :-1], state.num_steps, state.num_rejected, state.result)


def _loop(
    columns: AbstractPrimalAndTangents, members: Any, z0: PrimalAndTangents, aux: Any
) -> tuple[diffrax.AbstractERK, StepControl, LoopProblem]:
    """What the loop is given."""
    problem, y0, _ = columns.unpack(jax.tree.map(lambda x: x[0], members))
    unravel = ravel_pytree(y0)[1]
    jumps = None if problem.jumps is None else _jumps(columns, members, aux)

    def times(member: Any) -> tuple[jax.Array, jax.Array]:
        problem, _, _ = columns.unpack(member)
        ts = jnp.asarray(problem.saveat.subs.ts)
        return jnp.asarray(problem.t0, ts.dtype), ts

    field = columns.field(members, aux)
    loop_problem = LoopProblem(field, z0, *jax.vmap(times)(members), jumps)
    control = _control(columns, members, aux, problem.max_steps, unravel)
    return problem.solver, control, loop_problem


def _control(
    columns: AbstractPrimalAndTangents,
    members: Any,
    aux: Any,
    max_steps: int | None,
    unravel: Callable[[jax.Array], Any],
) -> StepControl:
    """Steps as the controllers of the members choose them."""

    def init(member: Any, t: jax.Array, y: jax.Array, held: Any) -> tuple[jax.Array, Any]:
        problem, _, args = columns.unpack(member)
        order = problem.solver.error_order(problem.terms)
        given = args if problem.jumps is None else (args, held[0])
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

    def adapt(
        member: Any, aux: Any, span: tuple[jax.Array, jax.Array], step: Step, before: Any
    ) -> tuple[Any, ...]:
        problem, _, args = columns.unpack(member)
        order = problem.solver.error_order(problem.terms)
        z, z1, _ = step
        state, watched = before
        error, watched = columns.error(problem.stepsize_controller, aux, step, watched)
        y, y1, y_error = unravel(z[:, 0]), unravel(z1[:, 0]), unravel(error)
        keep, start, end, _, state, result = problem.stepsize_controller.adapt_step_size(
            *span, y, y1, args, y_error, order, state
        )
        return jnp.asarray(keep), start, end, (state, watched), result

    return StepControl(
        partial(jax.vmap(init, in_axes=(0, 0, -1, 0)), members),
        partial(jax.vmap(adapt, in_axes=(0, 0, 0, -1, 0)), members, aux),
        max_steps,
    )


def _jumps(columns: AbstractPrimalAndTangents, members: Any, aux: Any) -> BatchedJumps:
    """The jumps of the members."""
    problem, _, _ = columns.unpack(members)
    assert problem.jumps is not None
    crossings = problem.jumps.crossings
    schedule = columns.schedule(aux)

    def at_time(member: Any, aux: Any, i: Any, z: jax.Array) -> jax.Array:
        return columns.jump(member, aux, columns.jump_maps(member, aux).at_time(i), z)

    def at_event(member: Any, aux: Any, which: Any, i: Any, t: Any, z: jax.Array) -> jax.Array:
        maps = columns.jump_maps(member, aux)
        every = [maps.at_event(n, i, t) for n in range(len(crossings))]
        return jnp.stack([columns.jump(member, aux, jump_map, z) for jump_map in every])[which]

    def condition(n: int, member: Any, aux: Any, t: Any, y: jax.Array, held: Any) -> jax.Array:
        return columns.jump_maps(member, aux).condition(n, t, y, held[0])

    return BatchedJumps(
        schedule.times,
        schedule.order,
        partial(jax.vmap(columns.between), aux),
        partial(jax.vmap(at_time, in_axes=(0, 0, 0, -1), out_axes=-1), members, aux),
        problem.jumps.save_ranks,
        tuple(
            partial(jax.vmap(partial(condition, n), in_axes=(0, 0, 0, -1, 0)), members, aux)
            for n in range(len(crossings))
        ),
        partial(jax.vmap(at_event, in_axes=(0, 0, 0, 0, 0, -1), out_axes=-1), members, aux),
    )
