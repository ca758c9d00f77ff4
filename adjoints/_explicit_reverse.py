"""Reverse mode through the steps of an explicit Runge–Kutta method."""

from typing import Any, ClassVar, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
from odecal.adjoints._erk.solve import (
    as_solution,
    check_solver,
    serves,
    solve_alone,
    solve_taped,
)
from odecal.adjoints._erk.tableau import row, stages, transposed_stages
from odecal.adjoints._erk.tape import Tape
from odecal.adjoints._problem import Problem
from odecal.adjoints._properties import Mode, Properties
from odecal.adjoints._reverse import AbstractReverse, Flow


class ExplicitReverse(AbstractReverse):
    """The discrete adjoint of an explicit Runge–Kutta method, in one small loop back.

    The accepted steps are remembered. From the last to the first each is taken again, and the
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

    def solution(self, problem: Problem, y0__args: Any) -> diffrax.Solution:
        """Solve, remembering nothing."""
        return solve_alone(problem, y0__args)

    def remembered(self, problem: Problem, flow: Flow, args: Any) -> tuple[diffrax.Solution, Any]:
        """Solve, remembering the accepted steps."""
        end, tape = solve_taped(problem, (flow.unravel(flow.y0), args), flow.field, flow.theta)
        solution = as_solution(problem, jax.vmap(flow.unravel)(end.saved[:, :, 0]), end)
        return solution, (tape, end.num_steps - end.num_rejected)

    def pulled_back(
        self, problem: Problem, flow: Flow, kept: Any, ys: jax.Array, cotangents: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Pull the cotangents back, step by step."""
        del ys
        tape, num_steps = kept
        ts = jnp.asarray(problem.saveat.subs.ts)

        def step(back: _Back) -> _Back:
            return _step_back(problem.solver, flow, tape, (ts, cotangents), back)

        begin = _Back(
            num_steps,
            jnp.full_like(num_steps, len(ts)),
            jnp.zeros_like(flow.y0),
            jnp.zeros_like(flow.theta),
        )
        end = jax.lax.while_loop(lambda back: back.steps_left > 0, step, begin)
        return end.y_bar, end.theta_bar


class _Back(NamedTuple):
    """Where the way back stands: how many steps, and how many kept times, are left."""

    steps_left: jax.Array
    times_left: jax.Array
    y_bar: jax.Array
    theta_bar: jax.Array


def _step_back(
    solver: diffrax.AbstractERK,
    flow: Flow,
    tape: Tape,
    kept: tuple[jax.Array, jax.Array],
    back: _Back,
) -> _Back:
    """Take one step again, and pull the cotangents of its end and of what it kept through it."""
    n = back.steps_left - 1
    start, end, y, first = (row(rows, n) for rows in tape)
    span = (start, end)

    def field(t: jax.Array, y: jax.Array) -> jax.Array:
        return flow.field(t, y, flow.theta)

    def pull(t: jax.Array, y: jax.Array, bar: jax.Array) -> tuple[jax.Array, jax.Array]:
        _, reverse = jax.vjp(lambda y, theta: flow.field(t, y, theta), y, flow.theta)
        return reverse(bar)

    k, y1 = stages(solver.tableau, field, span, y, field(start, y))
    bars = _kept_back(solver, span, (y, y1, k), kept, first, back)
    y_bar, theta_bar = transposed_stages(
        solver.tableau, pull, span, y, k, (bars[2], bars[1]), back.theta_bar
    )
    return _Back(n, first, bars[0] + y_bar, theta_bar)


def _kept_back(
    solver: diffrax.AbstractERK,
    span: tuple[jax.Array, jax.Array],
    point: tuple[jax.Array, jax.Array, jax.Array],
    kept: tuple[jax.Array, jax.Array],
    first: jax.Array,
    back: _Back,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The cotangents of a step's start, end and stages, by way of the states kept within it."""
    ts, cotangents = kept

    def state(y: jax.Array, y1: jax.Array, k: jax.Array, t: jax.Array) -> jax.Array:
        return solver.interpolation_cls(t0=span[0], t1=span[1], y0=y, y1=y1, k=k).evaluate(t)

    def pull(found: Any) -> Any:
        i, bars = found
        _, reverse = jax.vjp(lambda y, y1, k: state(y, y1, k, row(ts, i - 1)), *point)
        return i - 1, jax.tree.map(jnp.add, bars, reverse(row(cotangents, i - 1)))

    bars = (jnp.zeros_like(point[0]), back.y_bar, jnp.zeros_like(point[2]))
    return jax.lax.while_loop(lambda found: found[0] > first, pull, (back.times_left, bars))[1]
