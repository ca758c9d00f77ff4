"""Adaptive steps of any Diffrax solver from stop to stop, as backward solves need them."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from odecal.adjoints._erk.batches import any_of_batch
from odecal.adjoints._step_limits import step_end

# What is made of a step: from what was accumulated so far, whether the step is accepted, the times
# of its start and end, and the solver's dense information, to what is accumulated.
OnStep = Callable[[Any, jax.Array, tuple[jax.Array, jax.Array], Any], Any]
# What happens at a stop: from its number and the state, to the state and whether all is well.
AtStop = Callable[[jax.Array, Any], tuple[Any, jax.Array]]


class BackwardProblem(NamedTuple):
    """dz/ds = g(s, z) past some stops, which rise: the first is the start, the last the end."""

    term: diffrax.ODETerm
    solver: diffrax.AbstractSolver
    controller: diffrax.AbstractStepSizeController
    stops: Float[Array, " stop"]
    at_stop: AtStop
    on_step: OnStep | None
    max_steps: int | None


class _State(NamedTuple):
    """The state of the loop.

    Args:
        s: the time reached.
        z: the state there.
        stop: the number of the next stop.
        length: the step wanted, whether or not a stop cuts it short.
        made_jump: whether the state has jumped since the last step.
        num_steps: the steps tried.
        failed: whether the solve cannot go on, or something was wrong at a stop.
    """

    s: jax.Array
    z: Any
    stop: jax.Array
    length: jax.Array
    solver_state: Any
    made_jump: jax.Array
    controller_state: Any
    num_steps: jax.Array
    failed: jax.Array


def integrate_with_stops(
    problem: BackwardProblem, z0: Any, accumulated: Any
) -> tuple[Any, Any, jax.Array]:
    """Solve from z0: the state at the end, what `on_step` accumulated, and whether it failed."""
    problem = problem._replace(solver=_resolved(problem.solver, problem.controller))
    state = _initial_state(problem, z0)

    def running(state: _State) -> jax.Array:
        return (state.stop < len(problem.stops)) & ~state.failed

    def body(carry: tuple[_State, Any]) -> tuple[_State, Any]:
        state, accumulated = carry
        alive = running(state)
        new, accepted, span, dense = _step(problem, state)
        if problem.on_step is not None:
            accumulated = problem.on_step(accumulated, alive & accepted, span, dense)
        return jax.tree.map(lambda a, b: jnp.where(alive, a, b), new, state), accumulated

    state, accumulated = jax.lax.while_loop(
        lambda carry: any_of_batch(running(carry[0])), body, (state, accumulated)
    )
    return state.z, accumulated, state.failed


def dense_info_shape(problem: BackwardProblem, z0: Any) -> Any:
    """The shapes of the dense information about a step."""
    solver = _resolved(problem.solver, problem.controller)

    def step(s: jax.Array, z: Any) -> Any:
        state = solver.init(problem.term, s, s, z, None)
        return solver.step(problem.term, s, s, z, None, state, False)[2]

    return jax.eval_shape(step, problem.stops[0], z0)


def _initial_state(problem: BackwardProblem, z0: Any) -> _State:
    """The start, after the stops that are there already."""
    solver, s0, end = problem.solver, problem.stops[0], problem.stops[-1]
    order = solver.error_order(problem.term)
    first, controller_state = problem.controller.init(
        problem.term, s0, end, z0, None, None, solver.func, order
    )
    length = jnp.asarray(first - s0)
    state = _State(
        s0,
        z0,
        jnp.zeros((), jnp.int32),
        length,
        solver.init(problem.term, s0, s0 + length, z0, None),
        jnp.array(False),
        jax.tree.map(jnp.asarray, controller_state),
        jnp.zeros((), jnp.int32),
        jnp.array(False),
    )
    return _after_stops(problem, state)


def _step(
    problem: BackwardProblem, state: _State
) -> tuple[_State, jax.Array, tuple[jax.Array, jax.Array], Any]:
    """Try one step, as far as the next stop at most."""
    solver, last = problem.solver, len(problem.stops) - 1
    stop = problem.stops[jnp.minimum(state.stop, last)]
    end = step_end(problem.controller, state.s, jnp.minimum(state.s + state.length, stop))
    z1, error, dense, solver_state, _ = solver.step(
        problem.term, state.s, end, state.z, None, state.solver_state, state.made_jump
    )
    error = jax.tree.map(lambda e: jnp.where(jnp.isfinite(e), e, jnp.inf), error)
    order = solver.error_order(problem.term)
    keep, s, next_end, _, controller_state, result = problem.controller.adapt_step_size(
        state.s, end, state.z, z1, None, error, order, state.controller_state
    )
    keep = jnp.asarray(keep)
    # A step that a stop cut short says little about the length of the next.
    longer = jnp.maximum(next_end - s, state.length)
    length = jnp.where(keep & (end < state.s + state.length), longer, next_end - s)
    stuck = (next_end <= s) | (~keep & (next_end >= end))
    num_steps = state.num_steps + 1
    out = False if problem.max_steps is None else num_steps >= problem.max_steps
    reached = keep & (end >= stop) & (state.stop == last)
    failed = (result != diffrax.RESULTS.successful) | ((stuck | out) & ~reached)

    def if_kept(new: Any, old: Any) -> Any:
        return jax.tree.map(lambda a, b: jnp.where(keep, a, b), new, old)

    new = _State(
        s,
        if_kept(z1, state.z),
        state.stop,
        length,
        if_kept(solver_state, state.solver_state),
        jnp.where(keep, False, state.made_jump),
        controller_state,
        num_steps,
        failed,
    )
    return _after_stops(problem, new), keep, (state.s, end), dense


def _after_stops(problem: BackwardProblem, state: _State) -> _State:
    """The state after all stops that have been reached."""
    last = len(problem.stops) - 1

    def reached(state: _State) -> jax.Array:
        stop = problem.stops[jnp.minimum(state.stop, last)]
        return (state.stop <= last) & (stop <= state.s)

    def at_stop(state: _State) -> _State:
        z, well = problem.at_stop(state.stop, state.z)
        return state._replace(
            z=z, stop=state.stop + 1, made_jump=jnp.array(True), failed=state.failed | ~well
        )

    return jax.lax.while_loop(reached, at_stop, state)


def _resolved(
    solver: diffrax.AbstractSolver, controller: diffrax.AbstractStepSizeController
) -> diffrax.AbstractSolver:
    """The solver as `diffrax.diffeqsolve` would use it: loops plain, tolerances filled in."""
    if getattr(solver, "scan_kind", "lax") is None:
        solver = eqx.tree_at(lambda s: s.scan_kind, solver, "lax", is_leaf=lambda x: x is None)
    root_finder = getattr(solver, "root_finder", None)
    for name in ("rtol", "atol", "norm"):
        value = getattr(root_finder, name, 0.0)
        if not (callable(value) or eqx.is_array_like(value)):  # to be taken from the controller
            where = attrgetter(f"root_finder.{name}")
            solver = eqx.tree_at(where, solver, getattr(controller, name))
    return solver
