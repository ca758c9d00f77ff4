"""Forward sensitivities in one small loop, for explicit Runge–Kutta methods."""

from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from odecal.adjoints._explicit_loop import Lanes
from odecal.adjoints._explicit_solve import (
    as_solution,
    check_solver,
    flat_field,
    run,
    serves,
    solve_alone,
)
from odecal.adjoints._problem import Problem, require_times_alone
from odecal.adjoints._properties import Mode, Monomial, Properties, order
from odecal.adjoints._sensitivities import AbstractSensitivities, seeds


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
        y0, args, flat, unravel, inexact, rest, y0_tangents, args_tangents = seeds(moving, fixed)

        def field(t: jax.Array, z: Lanes) -> Lanes:
            def slope(y: jax.Array, inexact: Any) -> jax.Array:
                return flat_field(problem, unravel, t, y, eqx.combine(inexact, rest))

            def along(s: jax.Array, a: Any) -> tuple[jax.Array, jax.Array]:
                return jax.jvp(slope, (z[:, 0], inexact), (s, a))

            lanes = jax.vmap(along, in_axes=(1, 0), out_axes=(None, 1))
            value, moved = lanes(z[:, 1:], args_tangents)
            return jnp.concatenate([value[:, None], moved], axis=1)

        z0 = jnp.concatenate([flat[:, None], y0_tangents.T], axis=1)
        end = run(problem, field, z0, (y0, args), unravel)
        states = jax.vmap(unravel)(end.saved[:, :, 0])
        jacobian = jax.vmap(jax.vmap(unravel), in_axes=2)(end.saved[:, :, 1:])
        return states, jacobian, as_solution(problem, None, end)
