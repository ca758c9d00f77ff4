"""Reverse mode through the steps of an explicit Runge–Kutta method."""

from typing import Any, ClassVar, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from odecal.adjoints._erk.solve import as_solution, check_solver, serves, solve_primal, solve_taped
from odecal.adjoints._erk.tableau import erk_stages, erk_stages_transposed
from odecal.adjoints._erk.tape import Tape
from odecal.adjoints._problem import Problem
from odecal.adjoints._properties import Mode, Properties
from odecal.adjoints._reverse import AbstractReverse, FlatProblem, Gradient, States
from odecal.adjoints._rows import row_at


class ExplicitReverse(AbstractReverse):
    """The discrete adjoint of an explicit Runge–Kutta method, in one small loop back.

    The accepted steps are kept. From the last to the first each is taken again, and the
    cotangent of its end, λ, is pulled back through its stages to its start:

        Ȳ_i = h (∂f/∂y)ᵀ k̄_i,   θ̄ += h (∂f/∂θ)ᵀ k̄_i,   λ ← λ + Σ_i Ȳ_i,

    so the gradient is exact for the discrete solve (with its steps as they were). Beside the state
    goes one tangent, along a direction in which every number has a part; where it is far off, as
    at the edge of the method's stability, it takes part in the control of the steps. But there
    steps and solution are those of [`ExplicitForward`][odecal.adjoints.ExplicitForward]. Time:
    about five solves, whatever the number k of parameters; memory: one state for each step that
    `max_steps` provides for.

    Serves `diffrax.Tsit5`, `Dopri5`, `Dopri8` and `Bosh3`, one `ODETerm`, `SaveAt(ts=...)`, and
    solves forward in time. Not for stiff systems, which need an implicit solver.

    Source: Hager (2000), https://doi.org/10.1007/s002110000178; Sandu (2006),
    https://doi.org/10.1007/11758549_76.
    """

    properties: ClassVar[Properties | None] = Properties(
        mode=Mode.REVERSE,
        exact=True,
        time="O(n d + n k)",
        memory="O(d N + k)",
        stiff=False,
        chaotic=True,
        hessian=True,
    )

    @staticmethod
    def serves(solver: diffrax.AbstractSolver) -> bool:
        """Whether a solver is an explicit method whose last stage is the next step's first."""
        return serves(solver)

    def check(self, solver: diffrax.AbstractSolver, max_steps: int | None) -> None:
        """Refuse solvers that are not explicit, and solves without bound."""
        check_solver(self, solver, "RecursiveCheckpoint()")
        if max_steps is None:
            raise ValueError(
                "ExplicitReverse needs to know how many steps to provide for, and got "
                "max_steps=None. Give max_steps, or use odecal.adjoints.ExplicitForward()."
            )

    def primal(self, problem: Problem, y0: Any, args: Any) -> diffrax.Solution:
        """Solve, keeping nothing."""
        return solve_primal(problem, y0, args)

    def forward(self, flat: FlatProblem, args: Any) -> tuple[diffrax.Solution, Any]:
        """Solve, keeping the accepted steps."""
        end, tape = solve_taped(flat, args)
        solution = as_solution(flat.problem, jax.vmap(flat.unravel)(end.saved[:, :, 0]), end)
        return solution, (tape, end.num_steps - end.num_rejected)

    def backward(
        self, flat: FlatProblem, residuals: Any, ys: States, cotangents: States
    ) -> Gradient:
        """Pull the cotangents back, step by step."""
        del ys
        tape, num_steps = residuals
        ts = jnp.asarray(flat.problem.saveat.subs.ts)

        def step(state: _BackwardState) -> _BackwardState:
            return _step_back(flat, tape, (ts, cotangents), state)

        begin = _BackwardState(
            num_steps,
            jnp.full_like(num_steps, len(ts)),
            jnp.zeros_like(flat.y0),
            jnp.zeros_like(flat.theta),
        )
        end = jax.lax.while_loop(lambda state: state.steps_left > 0, step, begin)
        return end.y_bar, end.theta_bar


class _BackwardState(NamedTuple):
    """The state of the backward loop: how many steps and saved times are left, and cotangents."""

    steps_left: Int[Array, ""]
    times_left: Int[Array, ""]
    y_bar: Float[Array, " d"]
    theta_bar: Float[Array, " k"]


def _step_back(
    flat: FlatProblem,
    tape: Tape,
    saved: tuple[Float[Array, " time"], Float[Array, "time d"]],
    state: _BackwardState,
) -> _BackwardState:
    """Take one step again, and pull back the cotangents of its end and of what it saved."""
    solver, n = flat.problem.solver, state.steps_left - 1
    start, end, y, num_saved = row_at(tape, n)
    span = (start, end)

    def field(t: jax.Array, y: jax.Array) -> jax.Array:
        return flat.field(t, y, flat.theta)

    k, y1 = erk_stages(solver.tableau, field, span, y, field(start, y))
    bars = _saved_back(solver, span, (y, y1, k), saved, num_saved, state)
    y_bar, theta_bar = erk_stages_transposed(
        solver.tableau, flat.field_vjp, span, y, k, (bars[2], bars[1]), state.theta_bar
    )
    return _BackwardState(n, num_saved, bars[0] + y_bar, theta_bar)


def _saved_back(
    solver: diffrax.AbstractERK,
    span: tuple[jax.Array, jax.Array],
    point: tuple[Float[Array, " d"], Float[Array, " d"], Float[Array, "stage d"]],
    saved: tuple[Float[Array, " time"], Float[Array, "time d"]],
    num_saved: Int[Array, ""],
    state: _BackwardState,
) -> tuple[Float[Array, " d"], Float[Array, " d"], Float[Array, "stage d"]]:
    """The cotangents of a step's start, end and stages, by way of the states saved within it."""

    def interpolated(y: jax.Array, y1: jax.Array, k: jax.Array, t: jax.Array) -> jax.Array:
        return solver.interpolation_cls(t0=span[0], t1=span[1], y0=y, y1=y1, k=k).evaluate(t)

    def pull_back(carry: Any) -> Any:
        i, bars = carry
        t, cotangent = row_at(saved, i - 1)
        _, vjp = jax.vjp(lambda y, y1, k: interpolated(y, y1, k, t), *point)
        return i - 1, jax.tree.map(jnp.add, bars, vjp(cotangent))

    bars = (jnp.zeros_like(point[0]), state.y_bar, jnp.zeros_like(point[2]))
    return jax.lax.while_loop(
        lambda carry: carry[0] > num_saved, pull_back, (state.times_left, bars)
    )[1]
