"""The adjoint equation solved backwards: what the continuous strategies share."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float
from odecal.adjoints._integrate import AtStop, BackwardProblem, OnStep, integrate_with_stops
from odecal.adjoints._problem import Problem, solve_by_diffrax
from odecal.adjoints._properties import Mode, Properties
from odecal.adjoints._reverse import AbstractReverse, FlatProblem, States
from odecal.adjoints._step_limits import with_reversed_limits, with_scalar_atol, without_limits

# The backward solve may take this many times the steps of the forward one: every saved state is a
# jump of the cotangent, after which a stiff system passes through its fast transients again.
_MORE = 10


class AbstractContinuous(AbstractReverse):
    """A strategy that solves the adjoint equation backwards in time.

    With λ(t) = (∂L/∂y(t))ᵀ, which jumps by the cotangent of each saved state,

        dλ/dt = −(∂f/∂y)ᵀ λ,   dL/dθ = ∫ (∂f/∂θ)ᵀ λ dt from t0 to t1,   dL/dy0 = λ(t0).

    The cotangents are scaled to one before, so that tolerances are relative to the largest.

    Attributes:
        rtol: relative tolerance of the backward solve; None takes the forward controller.
        atol: absolute tolerance of the backward solve.
        solver: solver of the backward solve; None takes the forward one.
    """

    properties: ClassVar[Properties | None] = Properties(
        mode=Mode.REVERSE,
        exact=False,
        time="O(n d + n k)",
        memory="O(d N + k)",
        stiff=True,
        chaotic=True,
        hessian=True,
    )

    # Whether the forward solution is kept at all times, as residuals.
    keeps_path: ClassVar[bool] = True

    rtol: eqx.AbstractVar[float | None]
    atol: eqx.AbstractVar[float | None]
    solver: eqx.AbstractVar[diffrax.AbstractSolver | None]

    def __check_init__(self) -> None:
        if (self.rtol is None) != (self.atol is None):
            raise ValueError(
                f"{type(self).__name__} takes both tolerances or neither. "
                f"Got rtol={self.rtol}, atol={self.atol}."
            )

    def check(self, solver: diffrax.AbstractSolver, max_steps: int | None) -> None:
        """Refuse solvers that take several terms, unstable ones, and solves without bound."""
        structure = solver.term_structure
        if isinstance(structure, tuple) or getattr(structure, "__origin__", None) is (
            diffrax.MultiTerm
        ):
            raise ValueError(
                f"{type(self).__name__} cannot run {type(solver).__name__} backwards: it takes "
                "several terms. Use odecal.adjoints.Forward() or a solver of a single term, such "
                "as diffrax.Tsit5()."
            )
        if max_steps is None:
            raise ValueError(
                f"{type(self).__name__} needs to know how much to provide for, and got "
                "max_steps=None. Give max_steps, or use odecal.adjoints.Forward()."
            )
        stiff = self.properties is None or self.properties.stiff
        if isinstance(solver, diffrax.AbstractImplicitSolver) and not stiff:
            raise ValueError(
                f"{type(self).__name__} cannot be right with {type(solver).__name__}: an implicit "
                "solver is for stiff systems, whose solution backwards in time explodes. Use "
                "odecal.adjoints.Forward(), RecursiveCheckpoint() or Gauss()."
            )

    def primal(self, problem: Problem, y0: Any, args: Any) -> diffrax.Solution:
        """Solve by `diffrax.diffeqsolve`."""
        return solve_by_diffrax(problem, y0, args)

    def forward(self, flat: FlatProblem, args: Any) -> tuple[diffrax.Solution, Any]:
        """Solve, keeping the solution at all times where the strategy needs it."""
        y0 = flat.unravel(flat.y0)
        solution = solve_by_diffrax(flat.problem, y0, args, dense=self.keeps_path)
        return solution, Path(solution.interpolation) if self.keeps_path else None

    def backward_problem(
        self,
        problem: Problem,
        field: Callable[..., Any],
        at_stop: AtStop,
        on_step: OnStep | None = None,
    ) -> BackwardProblem:
        """The backward solve in s = −t, from the last saved time past the others to t0."""
        controller = with_scalar_atol(without_limits(problem.stepsize_controller))
        if self.rtol is not None:
            controller = diffrax.PIDController(rtol=self.rtol, atol=self.atol)
        ts = jnp.asarray(problem.saveat.subs.ts)
        stops = -jnp.append(jnp.flip(ts), jnp.asarray(problem.t0, ts.dtype))
        return BackwardProblem(
            diffrax.ODETerm(lambda s, z, args: field(s, z)),
            _for_linear_equations(problem.solver if self.solver is None else self.solver),
            with_reversed_limits(controller, problem.stepsize_controller),
            stops,
            at_stop,
            on_step,
            None if problem.max_steps is None else _MORE * problem.max_steps,
        )


def _for_linear_equations(solver: diffrax.AbstractSolver) -> diffrax.AbstractSolver:
    """The solver without the test by which Newton's method gives up where it does not converge.

    The adjoint equation is linear: the method arrives at its first iteration, and the rate of
    convergence that it measures after that is rounding, which on stiff systems looks like
    divergence.
    """
    root_finder: Any = getattr(solver, "root_finder", None)
    if not getattr(root_finder, "cauchy_termination", False):
        return solver
    return replace(solver, root_finder=replace(root_finder, cauchy_termination=False))


class Path(eqx.Module):
    """The forward solution at all times."""

    interpolation: Any

    def __call__(self, t: jax.Array) -> Float[Array, " d"]:
        """The state. Some methods look beyond the ends; they find the states at the ends there."""
        path = self.interpolation
        return ravel_pytree(path.evaluate(jnp.clip(t, path.t0, path.t1)))[0]


def scaled_kicks(cotangents: States) -> tuple[Float[Array, "row d"], Float[Array, ""]]:
    """Cotangents over the largest, last time first and none at t0; and the largest."""
    largest = jnp.max(jnp.abs(cotangents))
    scale = jnp.where(largest > 0, largest, 1)
    none = jnp.zeros_like(cotangents[:1])
    return jnp.concatenate([jnp.flip(cotangents, 0), none]) / scale, scale


def solve_backward(
    problem: BackwardProblem, z0: Any, accumulated: Any, scale: jax.Array
) -> tuple[Any, Any]:
    """Integrate; what is found is scaled back, and is NaN where the solve failed."""
    z, accumulated, failed = integrate_with_stops(problem, z0, accumulated)
    factor = jnp.where(failed, jnp.nan, scale)
    return jax.tree.map(lambda a: a * factor.astype(a.dtype), (z, accumulated))
