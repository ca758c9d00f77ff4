"""The gradient of a steady state."""

from typing import Any, ClassVar

import diffrax
import jax
import jax.numpy as jnp
from odecal.adjoints._problem import Problem, solve_by_diffrax
from odecal.adjoints._properties import Mode, Properties
from odecal.adjoints._reverse import AbstractReverse, FlatProblem, Gradient, States


class SteadyState(AbstractReverse):
    """Implicit differentiation where the state has come to rest.

    Where f(t, y, θ) = 0, the implicit function theorem gives for the cotangent g of such a state

        dL/dθ = −(∂f/∂θ)ᵀ λ,   (∂f/∂y)ᵀ λ = g,   dL/dy0 = 0,

    whatever the way there: exact for the steady state, one solve of d linear equations for each
    saved time, and no memory of the steps.

    For data that were taken after the system had come to rest, at whatever times. It looks: where
    a saved state with a cotangent is not at rest, which is to move by more than `rtol` of itself
    (or `atol`) in as much time as the whole solve covers, the gradient is NaN. A conserved total
    makes ∂f/∂y singular, and the gradient NaN: write the system without the redundant state. Not
    for what happens on the way there.

    Source: Blondel et al. (2022), https://arxiv.org/abs/2105.15183.

    Args:
        rtol: how far a state at rest may still move, relative to itself.
        atol: the same, in the unit of the state; None takes a hundred times that of the solve.
    """

    properties: ClassVar[Properties | None] = Properties(
        mode=Mode.REVERSE,
        exact=False,
        time="O(d³ + k)",
        memory="O(d² + k)",
        stiff=True,
        chaotic=False,
        hessian=True,
    )

    rtol: float = 1e-3
    atol: float | None = None

    def primal(self, problem: Problem, y0: Any, args: Any) -> diffrax.Solution:
        """Solve by `diffrax.diffeqsolve`."""
        return solve_by_diffrax(problem, y0, args)

    def forward(self, flat: FlatProblem, args: Any) -> tuple[diffrax.Solution, None]:
        """Solve, keeping nothing but the saved states."""
        return solve_by_diffrax(flat.problem, flat.unravel(flat.y0), args), None

    def backward(
        self, flat: FlatProblem, residuals: Any, ys: States, cotangents: States
    ) -> Gradient:
        """Solve one linear system for each saved state."""
        del residuals
        ts = jnp.asarray(flat.problem.saveat.subs.ts)
        span = ts[-1] - flat.problem.t0
        atol = self.atol
        if atol is None:
            atol = 100 * getattr(flat.problem.stepsize_controller, "atol", 1e-8)

        def at(t: jax.Array, y: jax.Array, g: jax.Array) -> jax.Array:
            slope, vjp = jax.vjp(lambda theta: flat.field(t, y, theta), flat.theta)
            matrix = jax.jacfwd(lambda y: flat.field(t, y, flat.theta))(y)
            lam = jnp.linalg.solve(matrix.T, g)
            regular = jnp.linalg.cond(matrix) * jnp.finfo(y.dtype).eps < 0.01
            rests = jnp.all(jnp.abs(slope) * span <= atol + self.rtol * jnp.abs(y))
            found = jnp.where(rests & regular & jnp.all(jnp.isfinite(lam)), -vjp(lam)[0], jnp.nan)
            return jnp.where(jnp.any(g != 0), found, 0.0)

        theta_bar = jnp.sum(jax.vmap(at)(ts, ys, cotangents), axis=0)
        return jnp.zeros_like(flat.y0), theta_bar

    def check(self, solver: diffrax.AbstractSolver, max_steps: int | None) -> None:
        """Serve every solver."""
        del solver, max_steps
