"""The adjoint equation, with the parameters' integral summed during the backward solve."""

from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from odecal.adjoints._continuous import AbstractContinuous, scaled_kicks, solve_backward
from odecal.adjoints._reverse import FlatProblem, Gradient, States


class Gauss(AbstractContinuous):
    """The continuous adjoint method, with Gauss–Legendre quadrature during the backward solve.

    Backwards in time it solves dλ/dt = −(∂f/∂y)ᵀ λ alone, with y(t) from the dense output of the
    forward solve. On each accepted step it adds

        Σ_j w_j (∂f/∂θ)ᵀ λ  at the Gauss points t_j  to  dL/dθ,

    so that parameters cost neither equations nor memory: as stable as
    [`Interpolating`][odecal.adjoints.Interpolating], and cheaper for many of them. *Not* exact for
    the discrete solve: its error follows the tolerances, and the accuracy of the solver's
    interpolation. Memory: one step for each that `max_steps` provides for.
    A gradient that cannot be found within ten times `max_steps` is NaN.

    Source: Norcliffe and Deisenroth (2023), https://arxiv.org/abs/2308.10644.

    Args:
        rtol: relative tolerance of the backward solve; None takes the forward controller.
        atol: absolute tolerance of the backward solve, of cotangents of which the largest is one.
        solver: solver of the backward solve; None takes the forward one.
        points: the number of Gauss points on a step.
    """

    rtol: float | None = None
    atol: float | None = None
    solver: diffrax.AbstractSolver | None = None
    points: int = 3

    def __check_init__(self) -> None:
        if self.points < 1:
            raise ValueError(f"Gauss expects points of at least 1. Got {self.points}.")

    def backward(
        self, flat: FlatProblem, residuals: Any, ys: States, cotangents: States
    ) -> Gradient:
        """Solve for λ, summing the integral up step by step."""
        del ys
        y_at = residuals
        kicks, scale = scaled_kicks(cotangents)
        nodes, weights = np.polynomial.legendre.leggauss(self.points)

        def field(s: Any, lam: jax.Array) -> jax.Array:
            return flat.field_vjp(-s, y_at(-s), lam)[0]

        def on_step(theta_bar: jax.Array, accepted: jax.Array, span: Any, dense: Any) -> jax.Array:
            start, end = span
            half, middle = (end - start) / 2, (end + start) / 2
            path = backward.solver.interpolation_cls(t0=start, t1=end, **dense)

            def at(node: jax.Array, weight: jax.Array) -> jax.Array:
                s = middle + half * node
                return weight * flat.field_vjp(-s, y_at(-s), path.evaluate(s))[1]

            parts = jax.vmap(at)(
                jnp.asarray(nodes, half.dtype), jnp.asarray(weights, theta_bar.dtype)
            )
            more = half.astype(theta_bar.dtype) * jnp.sum(parts, axis=0)
            return theta_bar + jnp.where(accepted, more, 0)

        def at_stop(i: jax.Array, lam: jax.Array) -> Any:
            return lam + kicks[i], jnp.array(True)

        backward = self.backward_problem(flat.problem, field, at_stop, on_step)
        return solve_backward(backward, jnp.zeros_like(flat.y0), jnp.zeros_like(flat.theta), scale)
