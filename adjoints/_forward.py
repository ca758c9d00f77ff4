"""Forward-mode sensitivities through any solver."""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from odecal.adjoints._sensitivities import AbstractSensitivities, Problem, without_states


class Forward(AbstractSensitivities):
    """Forward mode through the solver, wrapped for reverse mode outside.

    The solve is a function of the initial state and the parameters that are being
    differentiated, k numbers together. Its Jacobian is carried along with the solution by k
    tangents (`jax.jvp`, one batch), and contracted with the cotangent in the reverse pass. Exact
    for the discrete solve. Time O(k) solves, less what the tangents share; memory O(k) times the
    saved states, whatever the number of steps. Serves every solver, and second derivatives.

    What is not being differentiated (constants, fixed parameters) costs no tangent. For explicit
    solvers [`ExplicitForward`][odecal.adjoints.ExplicitForward] does the same, faster; for many
    parameters take [`RecursiveCheckpoint`][odecal.adjoints.RecursiveCheckpoint].
    """

    def solution(self, problem: Problem, y0__args: Any) -> diffrax.Solution:
        """Solve by `diffrax.diffeqsolve(..., adjoint=diffrax.ForwardMode())`."""
        y0, args = y0__args
        return diffrax.diffeqsolve(
            problem.terms,
            problem.solver,
            problem.t0,
            problem.t1,
            problem.dt0,
            y0,
            args,
            saveat=problem.saveat,
            stepsize_controller=problem.stepsize_controller,
            adjoint=diffrax.ForwardMode(),
            max_steps=problem.max_steps,
            throw=False,
        )

    def jacobian(
        self, problem: Problem, moving: Any, fixed: Any
    ) -> tuple[Any, Any, diffrax.Solution]:
        """Solve with one tangent a moving number."""
        x, unravel = ravel_pytree(moving)

        def ys_of(x: jax.Array) -> tuple[Any, Any]:
            return without_states(self.solution(problem, eqx.combine(unravel(x), fixed)))

        def tangent(direction: jax.Array) -> Any:
            return eqx.filter_jvp(ys_of, (x,), (direction,))

        (ys, rest), (jacobian, _) = eqx.filter_vmap(tangent, out_axes=(None, eqx.if_array(0)))(
            jnp.eye(x.size, dtype=x.dtype)
        )
        return ys, jacobian, rest
