"""Forward-mode sensitivities through any solver."""

from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from odecal.adjoints._erk.solve import serves
from odecal.adjoints._explicit_forward import ExplicitForward
from odecal.adjoints._problem import Problem, saves_at_times, solve_by_diffrax, split_states
from odecal.adjoints._properties import Mode, Properties
from odecal.adjoints._segments import solve_segments
from odecal.adjoints._sensitivities import AbstractSensitivities


class Forward(AbstractSensitivities):
    """Forward mode through the solver, wrapped for reverse mode outside.

    The solve is a function of the initial state and the parameters that are being
    differentiated, k numbers together. Its Jacobian is carried along with the solution by k
    tangents (`jax.jvp`, one batch), and contracted with the cotangent in the reverse pass. Exact
    for the discrete solve. Time O(k) solves, less what the tangents share; memory O(k) times the
    saved states, whatever the number of steps. Serves every solver, and second derivatives.

    What is not being differentiated (constants, fixed parameters) costs no tangent. With explicit
    solvers, and states kept at given times, this is
    [`ExplicitForward`][odecal.adjoints.ExplicitForward]. For many parameters take
    [`RecursiveCheckpoint`][odecal.adjoints.RecursiveCheckpoint].
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

    serves_jumps: ClassVar[bool] = True

    def primal(self, problem: Problem, y0: Any, args: Any) -> diffrax.Solution:
        """Solve as `ExplicitForward` does, or else by Diffrax."""
        if _by_explicit_loop(problem):
            return ExplicitForward().primal(problem, y0, args)
        if problem.jumps is not None:
            return solve_segments(solve_by_diffrax, problem, y0, args)
        return solve_by_diffrax(problem, y0, args)

    def jacobian(
        self, problem: Problem, diff: Any, nondiff: Any
    ) -> tuple[Any, Any, diffrax.Solution]:
        """Solve with one tangent for each number that is differentiated by."""
        if _by_explicit_loop(problem):
            return ExplicitForward().jacobian(problem, diff, nondiff)
        x, unravel = ravel_pytree(diff)

        def ys_of(x: jax.Array) -> tuple[Any, Any]:
            return split_states(self.primal(problem, *eqx.combine(unravel(x), nondiff)))

        def tangent(direction: jax.Array) -> Any:
            return eqx.filter_jvp(ys_of, (x,), (direction,))

        (ys, rest), (jacobian, _) = eqx.filter_vmap(tangent, out_axes=(None, eqx.if_array(0)))(
            jnp.eye(x.size, dtype=x.dtype)
        )
        return ys, jacobian, rest

    def check(self, solver: diffrax.AbstractSolver, max_steps: int | None) -> None:
        """Serve every solver."""
        del solver, max_steps


def _by_explicit_loop(problem: Problem) -> bool:
    """Whether the loop of explicit methods serves, which lets no tangent explode."""
    return serves(problem.solver) and saves_at_times(problem)
