"""Forward sensitivities in one small loop, for explicit Runge–Kutta methods."""

from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from odecal.adjoints._course import Course, Move
from odecal.adjoints._explicit_loop import Lanes, Stops
from odecal.adjoints._explicit_solve import (
    as_solution,
    check_solver,
    flat_field,
    run,
    serves,
    solve_alone,
)
from odecal.adjoints._jumps import Jumps, Schedule, rows_at
from odecal.adjoints._problem import Problem, require_times_alone
from odecal.adjoints._properties import Mode, Monomial, Properties, order
from odecal.adjoints._sensitivities import AbstractSensitivities, Seeds, seeds


class ExplicitForward(AbstractSensitivities):
    """Forward sensitivities by an explicit Runge–Kutta method, in one small loop.

    The state and its k sensitivities are one array of shape (element, 1 + k), stepped together:

        dy/dt = f(t, y, θ),   dS/dt = ∂f/∂y S + ∂f/∂θ,

    by the tableau, the interpolation and the step-size control of the Diffrax solver and
    controller given; the control sees the state alone. So the solution is Diffrax's, to rounding,
    and the gradient is exact for the discrete solve. The program is a fraction of the size of a
    general solver's: it is traced and compiled in a fraction of the time, and runs faster. Time
    O(k) solves, less what the sensitivities share; memory O(k) times the saved states, whatever
    the number of steps.

    Serves `diffrax.Tsit5`, `Dopri5`, `Dopri8` and `Bosh3`, one `ODETerm`, `SaveAt(ts=...)`, and
    solves forward in time. Not for stiff systems, which need an implicit solver.

    Source: Hairer, Nørsett and Wanner (1993), sections II.4 to II.6,
    https://doi.org/10.1007/978-3-540-78862-1.
    """

    properties: ClassVar[Properties | None] = Properties(
        mode=Mode.FORWARD,
        exact=True,
        time=order(Monomial(steps=1, states=1, parameters=1)),
        memory=order(Monomial(states=1, parameters=1)),
        stiff=False,
        chaotic=True,
        hessian=True,
    )

    @staticmethod
    def serves(solver: diffrax.AbstractSolver) -> bool:
        """Whether a solver is an explicit method whose last stage is the next step's first."""
        return serves(solver)

    def check(self, solver: diffrax.AbstractSolver, max_steps: int | None) -> None:
        """Refuse solvers that are not explicit, or whose last stage is not the next first."""
        del max_steps
        check_solver(self, solver, "Forward()")

    def solution(self, problem: Problem, y0__args: Any) -> diffrax.Solution:
        """Solve without sensitivities: one lane."""
        require_times_alone(self, problem.terms, problem.saveat)
        return solve_alone(problem, y0__args)

    def jacobian(
        self, problem: Problem, moving: Any, fixed: Any
    ) -> tuple[Any, Any, diffrax.Solution]:
        """Solve with one lane more for every moving number."""
        require_times_alone(self, problem.terms, problem.saveat)
        start = seeds(moving, fixed)
        y0, args, flat, unravel, inexact, rest, y0_tangents, args_tangents = start
        jumps = problem.jumps
        stops = None if jumps is None else _stops(problem, jumps, start)

        def field(t: jax.Array, z: Lanes, within: Any) -> Lanes:
            between, moved = within if stops is not None else (None, None)

            def slope(y: jax.Array, inexact: Any, between: Any) -> jax.Array:
                args = eqx.combine(inexact, rest)
                given = args if stops is None else (args, between)
                return flat_field(problem, unravel, t, y, given)

            def along(s: jax.Array, a: Any, b: Any) -> tuple[jax.Array, jax.Array]:
                return jax.jvp(slope, (z[:, 0], inexact, between), (s, a, b))

            lanes = jax.vmap(along, in_axes=(1, 0, 0), out_axes=(None, 1))
            value, change = lanes(z[:, 1:], args_tangents, moved)
            return jnp.concatenate([value[:, None], change], axis=1)

        z0 = jnp.concatenate([flat[:, None], y0_tangents.T], axis=1)
        end = run(problem, field, z0, (y0, args), unravel, stops=stops)
        states = jax.vmap(unravel)(end.saved[:, :, 0])
        jacobian = jax.vmap(jax.vmap(unravel), in_axes=2)(end.saved[:, :, 1:])
        return states, jacobian, as_solution(problem, None, end)


def _stops(problem: Problem, jumps: Jumps, seeds: Seeds) -> Stops:
    """Where the state and its sensitivities change.

    The schedule is differentiated once, before the solve: its rows, and theirs along every
    sensitivity, are looked up on the way.
    """

    def schedule(inexact: Any) -> Schedule:
        return jumps.schedule(eqx.combine(inexact, seeds.rest))

    def with_tangent(a: Any) -> tuple[Schedule, Schedule]:
        return jax.jvp(schedule, (seeds.inexact,), (a,))

    # Tangents of shape (n, k, ...); once for both, since steady states are solved for in it.
    known, moved = jax.vmap(with_tangent, out_axes=(None, 1))(seeds.args_tangents)
    args = eqx.combine(seeds.inexact, seeds.rest)
    course = Course(problem, seeds.unravel, jumps, args, known)

    def between(i: jax.Array) -> Any:
        return course.between(i), rows_at(moved.between, i)

    def lanes_after(move: Move, z: Lanes) -> Lanes:
        def of(y: jax.Array, schedule: Schedule, inexact: Any) -> jax.Array:
            return move(y, schedule, eqx.combine(inexact, seeds.rest))

        def along(s: jax.Array, m: Schedule, a: Any) -> tuple[jax.Array, jax.Array]:
            return jax.jvp(of, (z[:, 0], course.schedule, seeds.inexact), (s, m, a))

        lanes = jax.vmap(along, in_axes=(1, 1, 0), out_axes=(None, 1))
        value, change = lanes(z[:, 1:], moved, seeds.args_tangents)
        return jnp.concatenate([value[:, None], change], axis=1)

    return course.stops(lanes_after, between, lambda within: within[0])
