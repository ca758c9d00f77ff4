"""The adjoint equation along the dense forward solution."""

from typing import Any

import diffrax
import jax
import jax.numpy as jnp
from odecal.adjoints._continuous import AbstractContinuous, scaled_kicks, solve_backward
from odecal.adjoints._reverse import FlatProblem, Gradient, States


class Interpolating(AbstractContinuous):
    """The continuous adjoint method along the interpolated forward solution.

    Backwards in time it solves, with y(t) from the dense output of the forward solve,

        dλ/dt = −(∂f/∂y)ᵀ λ,   dμ/dt = −(∂f/∂θ)ᵀ λ,

    with dL/dθ = μ(t0). Stable where [`Backsolve`][odecal.adjoints.Backsolve] is not, for the
    backward equation is as well damped as the forward one. *Not* exact for the discrete solve: its
    error follows the tolerances, and the accuracy of the solver's interpolation. Memory: one step
    for each that `max_steps` provides for.

    With an implicit solver each step solves d + k linear equations; take
    [`Gauss`][odecal.adjoints.Gauss], which solves d, for more than a few parameters. A gradient
    that cannot be found within ten times `max_steps` is NaN.

    Source: Hindmarsh et al. (2005), SUNDIALS, https://doi.org/10.1145/1089014.1089020; Ma et al.
    (2021), https://doi.org/10.1109/HPEC49654.2021.9622796.

    Args:
        rtol: relative tolerance of the backward solve; None takes the forward controller.
        atol: absolute tolerance of the backward solve, of cotangents of which the largest is one.
        solver: solver of the backward solve; None takes the forward one.
    """

    rtol: float | None = None
    atol: float | None = None
    solver: diffrax.AbstractSolver | None = None

    def backward(
        self, flat: FlatProblem, residuals: Any, ys: States, cotangents: States
    ) -> Gradient:
        """Solve for λ and μ together."""
        del ys
        y_at = residuals
        kicks, scale = scaled_kicks(cotangents)

        def field(s: Any, z: Any) -> Any:
            return flat.field_vjp(-s, y_at(-s), z[0])

        def at_stop(i: jax.Array, z: Any) -> Any:
            return (z[0] + kicks[i], z[1]), jnp.array(True)

        backward = self.backward_problem(flat.problem, field, at_stop)
        z0 = (jnp.zeros_like(flat.y0), jnp.zeros_like(flat.theta))
        return solve_backward(backward, z0, None, scale)[0]
