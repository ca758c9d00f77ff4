"""Forward sensitivities in one small loop, for explicit Runge–Kutta methods."""

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from odecal.adjoints._explicit_loop import Carry, Control, Lanes, integrate
from odecal.adjoints._sensitivities import AbstractSensitivities, Problem


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

    @staticmethod
    def serves(solver: diffrax.AbstractSolver) -> bool:
        """Whether a solver is an explicit method whose last stage is the next step's first."""
        return isinstance(solver, diffrax.AbstractERK) and solver.tableau.fsal

    def check(self, solver: diffrax.AbstractSolver, max_steps: int | None) -> None:
        """Refuse solvers that are not explicit, or whose last stage is not the next first."""
        del max_steps
        if not self.serves(solver):
            raise ValueError(
                f"ExplicitForward cannot run {type(solver).__name__}: it serves the explicit "
                "methods diffrax.Tsit5, Dopri5, Dopri8 and Bosh3. Use odecal.adjoints.Forward(), "
                "which serves every solver."
            )

    def solution(self, problem: Problem, y0__args: Any) -> diffrax.Solution:
        """Solve without sensitivities: one lane."""
        y0, args = y0__args
        flat, unravel = ravel_pytree(y0)

        def field(t: jax.Array, z: Lanes) -> Lanes:
            return _flat_field(problem, unravel, t, z[:, 0], args)[:, None]

        end = _run(problem, field, flat[:, None], y0__args, unravel)
        return _solution(problem, jax.vmap(unravel)(end.saved[:, :, 0]), end)

    def jacobian(
        self, problem: Problem, moving: Any, fixed: Any
    ) -> tuple[Any, Any, diffrax.Solution]:
        """Solve with one lane more for every moving number."""
        x, unravel_x = ravel_pytree(moving)
        y0, args = eqx.combine(moving, fixed)
        flat, unravel = ravel_pytree(y0)
        inexact, rest = eqx.partition(args, eqx.is_inexact_array)

        def inputs(x: jax.Array) -> tuple[jax.Array, Any]:
            y0, args = eqx.combine(unravel_x(x), fixed)
            return ravel_pytree(y0)[0], eqx.filter(args, eqx.is_inexact_array)

        def tangents(unit: jax.Array) -> Any:
            return jax.jvp(inputs, (x,), (unit,))[1]

        y0_tangents, args_tangents = jax.vmap(tangents)(jnp.eye(x.size, dtype=x.dtype))

        def field(t: jax.Array, z: Lanes) -> Lanes:
            def slope(y: jax.Array, inexact: Any) -> jax.Array:
                return _flat_field(problem, unravel, t, y, eqx.combine(inexact, rest))

            def along(s: jax.Array, a: Any) -> tuple[jax.Array, jax.Array]:
                return jax.jvp(slope, (z[:, 0], inexact), (s, a))

            lanes = jax.vmap(along, in_axes=(1, 0), out_axes=(None, 1))
            value, moved = lanes(z[:, 1:], args_tangents)
            return jnp.concatenate([value[:, None], moved], axis=1)

        z0 = jnp.concatenate([flat[:, None], y0_tangents.T], axis=1)
        end = _run(problem, field, z0, (y0, args), unravel)
        states = jax.vmap(unravel)(end.saved[:, :, 0])
        jacobian = jax.vmap(jax.vmap(unravel), in_axes=2)(end.saved[:, :, 1:])
        return states, jacobian, _solution(problem, None, end)


def _flat_field(problem: Problem, unravel: Any, t: jax.Array, y: jax.Array, args: Any) -> jax.Array:
    """The vector field between vectors of all elements of the state."""
    slope = problem.terms.vector_field(t, unravel(y), args)
    return ravel_pytree(slope)[0].astype(y.dtype)


def _run(
    problem: Problem, field: Callable[..., Lanes], z0: Lanes, y0__args: Any, unravel: Any
) -> Carry:
    """Solve, with the first step of the controller's choice."""
    terms, solver, controller = problem.terms, problem.solver, problem.stepsize_controller
    if not (isinstance(terms, diffrax.ODETerm) and _keeps_times_alone(problem.saveat)):
        raise ValueError(
            "ExplicitForward solves one diffrax.ODETerm and keeps states at given times, "
            f"SaveAt(ts=...). Got {type(terms).__name__} and {problem.saveat}. Use "
            "odecal.adjoints.Forward()."
        )
    y0, args = y0__args
    ts = jnp.asarray(problem.saveat.subs.ts)
    t0 = jnp.asarray(problem.t0, ts.dtype)
    order = solver.error_order(terms)
    first, state = controller.init(terms, t0, ts[-1], y0, problem.dt0, args, solver.func, order)
    control = Control(controller, order, unravel, args, problem.max_steps)
    state = jax.tree.map(jnp.asarray, state)
    return integrate(solver, control, field, (t0, first, state), z0, ts)


def _keeps_times_alone(saveat: diffrax.SaveAt) -> bool:
    sub = saveat.subs
    plain = isinstance(sub, diffrax.SubSaveAt) and sub.ts is not None
    if not plain or sub.t0 or sub.t1 or sub.steps:
        return False
    return sub.fn is diffrax.SubSaveAt(ts=sub.ts).fn


def _solution(problem: Problem, states: Any, end: Carry) -> diffrax.Solution:
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
