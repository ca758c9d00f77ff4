"""The adjoint equation and the state, solved backwards in time together."""

from typing import Any, ClassVar

import diffrax
import jax
import jax.numpy as jnp
from odecal.adjoints._continuous import AbstractContinuous, scaled_kicks, solve_backward
from odecal.adjoints._properties import Mode, Properties
from odecal.adjoints._reverse import FlatProblem, Gradient, States


class Backsolve(AbstractContinuous):
    """Optimise-then-discretise: the continuous adjoint method, without a record of the solve.

    Backwards in time it solves the state, the adjoint state and the integral together,

        dy/dt = f(t, y, θ),   dλ/dt = −(∂f/∂y)ᵀ λ,   dμ/dt = −(∂f/∂θ)ᵀ λ,

    restarting y from the saved state at every saved time. Memory is constant in the number of
    steps. It is *not* exact for the discrete solve: its error follows the tolerances.

    What is damped forwards grows backwards, so it does not serve stiff systems, nor chaotic ones
    or long solves that are seldom saved. It notices: a backward solution that misses a saved
    state by more than `max_drift`, or does not arrive within ten times `max_steps`, gives a
    gradient of NaN. The remedy is [`Gauss`][odecal.adjoints.Gauss] or an exact strategy.

    Source: Chen et al. (2018), https://arxiv.org/abs/1806.07366; Kidger (2021), chapter 5,
    https://arxiv.org/abs/2202.02435.

    Args:
        rtol: relative tolerance of the backward solve; None takes the forward controller.
        atol: absolute tolerance of the backward solve, of states, and of cotangents of which the
            largest is one.
        solver: solver of the backward solve; None takes the forward one.
        max_drift: how far the backward solution may miss a saved state, relative to the largest
            saved value of that element of the state.
    """

    properties: ClassVar[Properties | None] = Properties(
        mode=Mode.REVERSE,
        exact=False,
        time="O(n d + n k)",
        memory="O(d + k)",
        stiff=False,
        chaotic=False,
        hessian=True,
    )

    keeps_path: ClassVar[bool] = False

    rtol: float | None = None
    atol: float | None = None
    solver: diffrax.AbstractSolver | None = None
    max_drift: float = 1e-3

    def __check_init__(self) -> None:
        if not self.max_drift > 0:
            raise ValueError(f"Backsolve expects a positive max_drift. Got {self.max_drift}.")

    def backward(
        self, flat: FlatProblem, residuals: Any, ys: States, cotangents: States
    ) -> Gradient:
        """Solve for y, λ and μ together."""
        del residuals
        kicks, scale = scaled_kicks(cotangents)
        states = jnp.concatenate([jnp.flip(ys, 0), flat.y0[None]])
        allowed = self.max_drift * jnp.max(jnp.abs(states), axis=0)

        def field(s: Any, z: Any) -> Any:
            y, lam, _ = z
            return (-flat.field(-s, y, flat.theta), *flat.field_vjp(-s, y, lam))

        def at_stop(i: jax.Array, z: Any) -> Any:
            y, lam, mu = z
            near = jnp.all(jnp.abs(y - states[i]) <= allowed)  # not so for NaN
            return (states[i], lam + kicks[i], mu), near

        backward = self.backward_problem(flat.problem, field, at_stop)
        z0 = (states[0], jnp.zeros_like(flat.y0), jnp.zeros_like(flat.theta))
        (_, lam, mu), _ = solve_backward(backward, z0, None, scale)
        return lam, mu
