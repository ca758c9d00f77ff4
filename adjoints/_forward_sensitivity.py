"""Forward sensitivities as an equation of their own."""

from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
from jax.flatten_util import ravel_pytree
from odecal.adjoints._erk.solve import serves
from odecal.adjoints._explicit_forward import ExplicitForward
from odecal.adjoints._problem import Problem, require_saved_times, solve_by_diffrax, split_states
from odecal.adjoints._properties import Mode, Properties
from odecal.adjoints._sensitivities import AbstractSensitivities, seeds


class ForwardSensitivity(AbstractSensitivities):
    """The forward sensitivity equation, solved with the state as one augmented system.

        dy/dt = f(t, y, θ),   dS/dt = (∂f/∂y) S + ∂f/∂θ,   S(t0) = ∂y0/∂θ,

    with one column of S for each of the k numbers that are differentiated by. With the state alone
    in the error norm, the default, the steps are those of the state, and an explicit solver gives
    the gradient of the discrete solve, as [`Forward`][odecal.adjoints.Forward] does. With
    `in_error_norm` the sensitivities are held to the tolerances as well: more steps, and
    a gradient as accurate as the solution.

    An implicit solver treats all d (1 + k) equations as one system, where `Forward` solves d: for
    small stiff systems only. Its gradient is then the continuous one, to the tolerance of the
    root finder. Time and memory grow with k, whatever the number of steps. Serves second
    derivatives.

    Source: Hindmarsh et al. (2005), SUNDIALS, https://doi.org/10.1145/1089014.1089020.

    Args:
        in_error_norm: whether the sensitivities take part in the control of the steps.
    """

    properties: ClassVar[Properties | None] = Properties(
        mode=Mode.FORWARD,
        exact=True,
        time="O(n d k)",
        memory="O(d k)",
        stiff=True,
        chaotic=True,
        hessian=True,
    )

    in_error_norm: bool = False

    def primal(self, problem: Problem, y0: Any, args: Any) -> diffrax.Solution:
        """Solve the state alone."""
        require_saved_times(self, problem)
        if self._by_explicit_loop(problem):
            return ExplicitForward().primal(problem, y0, args)
        return solve_by_diffrax(problem, y0, args)

    def jacobian(
        self, problem: Problem, diff: Any, nondiff: Any
    ) -> tuple[Any, Any, diffrax.Solution]:
        """Solve the state and all sensitivities."""
        require_saved_times(self, problem)
        if self._by_explicit_loop(problem):
            return ExplicitForward().jacobian(problem, diff, nondiff)
        flat, unravel, inexact, rest, y0_tangents, args_tangents = seeds(diff, nondiff)

        def field(t: Any, z: Any, given: Any) -> Any:
            y, s = z
            inexact, rest, args_tangents = given

            def slope(y: jax.Array, inexact: Any) -> jax.Array:
                args = eqx.combine(inexact, rest)
                return ravel_pytree(problem.terms.vector_field(t, unravel(y), args))[0]

            def along(s: jax.Array, a: Any) -> tuple[jax.Array, jax.Array]:
                return jax.jvp(slope, (y, inexact), (s, a))

            return jax.vmap(along, out_axes=(None, 0))(s, args_tangents)

        augmented = problem._replace(
            terms=diffrax.ODETerm(field), stepsize_controller=self._controller(problem)
        )
        given = (inexact, rest, args_tangents)
        (y, s), rest_of_solution = split_states(
            solve_by_diffrax(augmented, (flat, y0_tangents), given)
        )
        states = jax.vmap(unravel)(y)
        jacobian = jax.vmap(jax.vmap(unravel), in_axes=1)(s)
        return states, jacobian, rest_of_solution

    def check(self, solver: diffrax.AbstractSolver, max_steps: int | None) -> None:
        """Serve every solver."""
        del solver, max_steps

    def _by_explicit_loop(self, problem: Problem) -> bool:
        """Whether the loop of explicit methods serves, which lets no tangent explode."""
        return not self.in_error_norm and serves(problem.solver)

    def _controller(self, problem: Problem) -> diffrax.AbstractStepSizeController:
        """The controller, which sees the state alone unless told otherwise."""
        controller = problem.stepsize_controller
        norm = getattr(controller, "norm", None)
        if self.in_error_norm or norm is None:
            return controller
        return eqx.tree_at(lambda c: c.norm, controller, lambda z: norm(z[0]))
