"""Forward sensitivities in one small loop, for explicit Runge–Kutta methods."""

from typing import Any, ClassVar, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from odecal.adjoints._erk.loop import Lanes
from odecal.adjoints._erk.primal_and_tangents import AbstractLanes, Field
from odecal.adjoints._erk.solve import (
    as_solution,
    check_solver,
    serves,
    solve_alone,
    solve_together,
)
from odecal.adjoints._jump_maps import Move
from odecal.adjoints._jumps import Schedule, rows_at
from odecal.adjoints._powers import with_limits
from odecal.adjoints._problem import Problem, require_times_alone
from odecal.adjoints._properties import Mode, Properties
from odecal.adjoints._sensitivities import AbstractSensitivities, seeds
from odecal.adjoints._tangent_control import sizes_of, with_tangents


class ExplicitForward(AbstractSensitivities):
    """Forward sensitivities by an explicit Runge–Kutta method, in one small loop.

    The state and its k sensitivities are one array of shape (element, 1 + k), stepped together:

        dy/dt = f(t, y, θ),   dS/dt = ∂f/∂y S + ∂f/∂θ,

    by the tableau, the interpolation and the step-size control of the Diffrax solver and
    by the tableau, the interpolation and the step-size control of the Diffrax solver and
    controller given. The control sees the state alone, until a sensitivity is far off, as at the
    edge of the method's stability: from there on it sees all. So the solution is Diffrax's, to
    rounding, but there; and the gradient is exact for the discrete solve. The program is a
    fraction of the size of a general solver's: it is traced and compiled in a fraction of the
    time, and runs faster. Time O(k) solves, less what the sensitivities share; memory O(k) times
    the saved states, whatever the number of steps.

    Serves `diffrax.Tsit5`, `Dopri5`, `Dopri8` and `Bosh3`, one `ODETerm`, `SaveAt(ts=...)`, and
    solves forward in time. Not for stiff systems, which need an implicit solver.

    Source: Hairer, Nørsett and Wanner (1993), sections II.4 to II.6,
    https://doi.org/10.1007/978-3-540-78862-1.
    """

    properties: ClassVar[Properties | None] = Properties(
        mode=Mode.FORWARD,
        exact=True,
        time="O(n d k)",
        memory="O(d k)",
        stiff=False,
        chaotic=True,
        hessian=True,
    )
    together: ClassVar[bool] = True
    # No memory is spent on steps, and a system may be stiff in a tail of the posterior.
    default_max_steps: ClassVar[int] = 2**16

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
        member, rest = eqx.partition((problem, moving, fixed), eqx.is_array)
        end = solve_together(_WithSensitivities(rest), member)
        unravel = ravel_pytree(eqx.combine(moving, fixed)[0])[1]
        states = jax.vmap(unravel)(end.saved[:, :, 0])
        jacobian = jax.vmap(jax.vmap(unravel), in_axes=2)(end.saved[:, :, 1:])
        return states, jacobian, as_solution(problem, None, end)


class _Own(NamedTuple):
    """What sensitivities need on their way.

    Args:
        tangents: of the floating-point parameters, with leading axes of members and of k.
        sizes: of the numbers that are differentiated by, of shape (k,).
        schedule: the known changes; None without changes.
        moved: their tangents, with axes of n and of k.
    """

    tangents: Any
    sizes: jax.Array
    schedule: Any = None
    moved: Any = None


class _WithSensitivities(AbstractLanes):
    """The state and its sensitivities. Members are the arrays of `(problem, moving, fixed)`."""

    def parts(self, member: Any) -> tuple[Problem, Any, Any]:
        """The problem; and what is moving, combined with the rest."""
        problem, moving, fixed = eqx.combine(member, self.rest)
        return (problem, *eqx.combine(moving, fixed))

    def beginning(self, members: Any) -> tuple[Lanes, Any]:
        """The initial states and their tangents; those of the parameters, and the schedules.

        A schedule is differentiated once, before the solve: its rows, and theirs along every
        sensitivity, are looked up on the way.
        """

        def begin(member: Any) -> tuple[jax.Array, Any]:
            problem, moving, fixed = eqx.combine(member, self.rest)
            start = seeds(moving, fixed)
            sizes = sizes_of(ravel_pytree(moving)[0])
            z0 = jnp.concatenate([start.flat[:, None], start.y0_tangents.T], axis=1)
            if problem.jumps is None:
                return z0, _Own(start.args_tangents, sizes)

            def with_tangent(a: Any) -> tuple[Schedule, Schedule]:
                def schedule(inexact: Any) -> Schedule:
                    return problem.jumps.schedule(eqx.combine(inexact, start.rest))

                return jax.jvp(schedule, (start.inexact,), (a,))

            # Both at once, since steady states are solved for in it.
            known, moved = jax.vmap(with_tangent, out_axes=(None, 1))(start.args_tangents)
            return z0, _Own(start.args_tangents, sizes, known, moved)

        return jax.vmap(begin, out_axes=(-1, 0))(members)

    def field(self, members: Any, own: _Own) -> Field:
        """The vector fields, and their derivatives along every lane.

        Members are mapped inside of lanes: so each operation runs over all of a lane in order.
        """
        _, _, args = self.parts(members)
        inexact = eqx.filter(args, eqx.is_inexact_array)
        tangents = jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), own.tangents)

        def of_all(t: jax.Array, z: Lanes, within: Any) -> Lanes:
            between, moved = within or (None, None)

            def slopes(y: jax.Array, between: Any, inexact: Any) -> jax.Array:
                return self.slopes(members, t, y, between, inexact)

            safe = with_limits(slopes, z[:, 0], between, inexact)

            def along(s: jax.Array, m: Any, a: Any) -> tuple[jax.Array, jax.Array]:
                return jax.jvp(safe, (z[:, 0], between, inexact), (s, m, a))

            lanes = jax.vmap(along, in_axes=(1, 1, 0), out_axes=(None, 1))
            value, change = lanes(z[:, 1:], moved, tangents)
            return jnp.concatenate([value[:, None], change], axis=1)

        return of_all

    def error(
        self, controller: Any, own: _Own, step: tuple[jax.Array, ...], watched: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The error of the state, or more where a sensitivity was far off."""
        start, end, error = step
        return with_tangents(controller, own.sizes, (start, end, error), watched)

    def schedule(self, own: _Own) -> Schedule:
        """Computed at the beginning."""
        found: Schedule = own.schedule
        return found

    def between(self, member: Any, own: _Own, i: jax.Array) -> tuple[Any, ...]:
        """A row of the schedule, and its tangents."""
        return rows_at(own.schedule.between, i), rows_at(own.moved.between, i)

    def after(self, member: Any, own: _Own, move: Move, z: jax.Array) -> jax.Array:
        """The change of the state, and its derivative along every lane."""
        _, _, args = self.parts(member)
        inexact, rest = eqx.partition(args, eqx.is_inexact_array)

        def moved(y: jax.Array, schedule: Schedule, inexact: Any) -> jax.Array:
            return move(y, schedule, eqx.combine(inexact, rest))

        safe = with_limits(moved, z[:, 0], own.schedule, inexact)

        def along(s: jax.Array, m: Schedule, a: Any) -> tuple[jax.Array, jax.Array]:
            return jax.jvp(safe, (z[:, 0], own.schedule, inexact), (s, m, a))

        lanes = jax.vmap(along, in_axes=(1, 1, 0), out_axes=(None, 1))
        value, change = lanes(z[:, 1:], own.moved, own.tangents)
        return jnp.concatenate([value[:, None], change], axis=1)
