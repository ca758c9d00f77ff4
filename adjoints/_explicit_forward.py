"""Forward sensitivities in one small loop, for explicit Runge–Kutta methods."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float
from odecal.adjoints._erk.primal_and_tangents import AbstractPrimalAndTangents, Field
from odecal.adjoints._erk.solve import (
    as_solution,
    check_solver,
    serves,
    solve_batched,
    solve_primal,
)
from odecal.adjoints._erk.state import PrimalAndTangents
from odecal.adjoints._erk.tangent_control import Step, error_with_tangents, sizes_of
from odecal.adjoints._jump_maps import JumpMap
from odecal.adjoints._jumps import Schedule
from odecal.adjoints._powers import with_limits
from odecal.adjoints._problem import Problem, require_saved_times
from odecal.adjoints._properties import Mode, Properties
from odecal.adjoints._rows import row_at
from odecal.adjoints._sensitivities import AbstractSensitivities, seeds


class ExplicitForward(AbstractSensitivities):
    """Forward sensitivities by an explicit Runge–Kutta method, in one small loop.

    The state and its k sensitivities are one array of shape (element, 1 + k), stepped together:

        dy/dt = f(t, y, θ),   dS/dt = ∂f/∂y S + ∂f/∂θ,

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
    batched: ClassVar[bool] = True
    serves_jumps: ClassVar[bool] = True
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

    def primal(self, problem: Problem, y0: Any, args: Any) -> diffrax.Solution:
        """Solve without sensitivities."""
        require_saved_times(self, problem)
        return solve_primal(problem, y0, args)

    def jacobian(
        self, problem: Problem, diff: Any, nondiff: Any
    ) -> tuple[Any, Any, diffrax.Solution]:
        """Solve with one tangent for each number that is differentiated by."""
        require_saved_times(self, problem)
        member, rest = eqx.partition((problem, diff, nondiff), eqx.is_array)
        end = solve_batched(_WithSensitivities(rest), member)
        unravel = ravel_pytree(eqx.combine(diff, nondiff)[0])[1]
        states = jax.vmap(unravel)(end.saved[:, :, 0])
        jacobian = jax.vmap(jax.vmap(unravel), in_axes=2)(end.saved[:, :, 1:])
        return states, jacobian, as_solution(problem, None, end)


class _Tangents(NamedTuple):
    """What the sensitivities need beside the state's problem.

    Args:
        args: tangents of the floating-point parameters, with leading axes of members and of k.
        sizes: of the numbers that are differentiated by.
        schedule_tangents: with a leading axis of members and one of k after that of n.
    """

    args: Any
    sizes: Float[Array, " k"]
    schedule: Any = None
    schedule_tangents: Any = None


@dataclass(frozen=True, eq=False)
class _WithSensitivities(AbstractPrimalAndTangents):
    """The state and its sensitivities.

    Members are the arrays of `(problem, diff, nondiff)`, and `rest` what solves hold beside those,
    the same for all; `aux` are the tangents.
    """

    rest: Any

    def unpack(self, member: Any) -> tuple[Problem, Any, Any]:
        problem, diff, nondiff = eqx.combine(member, self.rest)
        return (problem, *eqx.combine(diff, nondiff))

    def num_columns(self, member: Any) -> int:
        _, diff, _ = eqx.combine(member, self.rest)
        return 1 + ravel_pytree(diff)[0].size

    def init(self, members: Any) -> tuple[PrimalAndTangents, Any]:
        """The initial states and their tangents; those of the parameters, and the schedules.

        A schedule is differentiated once, before the solve: its rows, and theirs along every
        sensitivity, are looked up during it.
        """

        def begin(member: Any) -> tuple[jax.Array, Any]:
            problem, diff, nondiff = eqx.combine(member, self.rest)
            start = seeds(diff, nondiff)
            sizes = sizes_of(ravel_pytree(diff)[0])
            z0 = jnp.concatenate([start.flat[:, None], start.y0_tangents.T], axis=1)
            if problem.jumps is None:
                return z0, _Tangents(start.args_tangents, sizes)

            def with_tangent(direction: Any) -> tuple[Schedule, Schedule]:
                def schedule(inexact: Any) -> Schedule:
                    return problem.jumps.schedule(eqx.combine(inexact, start.rest))

                return jax.jvp(schedule, (start.inexact,), (direction,))

            # Both at once, since steady states are solved for in it.
            both = jax.vmap(with_tangent, out_axes=(None, 1))(start.args_tangents)
            return z0, _Tangents(start.args_tangents, sizes, *both)

        return jax.vmap(begin, out_axes=(-1, 0))(members)

    def field(self, members: Any, aux: _Tangents) -> Field:
        """The vector fields, and their derivatives along every tangent.

        Members are mapped inside of tangents: so each operation runs over a column in order.
        """
        _, _, args = self.unpack(members)
        inexact = eqx.filter(args, eqx.is_inexact_array)
        args_tangents = jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), aux.args)

        def of_all(t: jax.Array, z: PrimalAndTangents, held: Any) -> PrimalAndTangents:
            between, between_tangents = held or (None, None)

            def slopes(y: jax.Array, between: Any, inexact: Any) -> jax.Array:
                return self.slopes(members, t, y, between, inexact)

            return _primal_and_tangents(
                slopes, z, (between, inexact), (between_tangents, args_tangents)
            )

        return of_all

    def error(
        self,
        controller: diffrax.AbstractStepSizeController,
        aux: _Tangents,
        step: Step,
        watched: Bool[Array, ""],
    ) -> tuple[Float[Array, " element"], Bool[Array, ""]]:
        return error_with_tangents(controller, aux.sizes, step, watched)

    def schedule(self, aux: _Tangents) -> Schedule:
        return aux.schedule

    def between(self, aux: _Tangents, i: jax.Array) -> tuple[Any, ...]:
        return row_at(aux.schedule.between, i), row_at(aux.schedule_tangents.between, i)

    def jump(
        self, member: Any, aux: _Tangents, jump_map: JumpMap, z: Float[Array, "element column"]
    ) -> Float[Array, "element column"]:
        _, _, args = self.unpack(member)
        inexact, rest = eqx.partition(args, eqx.is_inexact_array)

        def jumped(y: jax.Array, schedule: Schedule, inexact: Any) -> jax.Array:
            return jump_map(y, schedule, eqx.combine(inexact, rest))

        return _primal_and_tangents(
            jumped, z, (aux.schedule, inexact), (aux.schedule_tangents, aux.args)
        )


def _primal_and_tangents(
    function: Callable[..., jax.Array], z: jax.Array, others: Any, tangents: Any
) -> jax.Array:
    """The value of a function of a state and two others, and its tangents, as columns.

    The tangents of the first of the others have a second axis of k, of the second a leading one.
    """
    safe = with_limits(function, z[:, 0], *others)

    def along(s: jax.Array, first: Any, second: Any) -> tuple[jax.Array, jax.Array]:
        return jax.jvp(safe, (z[:, 0], *others), (s, first, second))

    columns = jax.vmap(along, in_axes=(1, 1, 0), out_axes=(None, 1))
    value, change = columns(z[:, 1:], *tangents)
    return jnp.concatenate([value[:, None], change], axis=1)
