"""The adjoint equation solved backwards: what the continuous strategies share."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from odecal.adjoints._integrate import Arrive, Road, Visit, march
from odecal.adjoints._problem import Problem, solve
from odecal.adjoints._properties import Mode, Properties
from odecal.adjoints._reverse import AbstractReverse, Flow
from odecal.adjoints._step_limits import backwards, inner, uniform

# The way back may take this many times the steps of the way there: every saved state is a jump,
# after which a stiff system passes through its fast transients again.
_MORE = 10


class AbstractContinuous(AbstractReverse):
    """A strategy that solves the adjoint equation backwards in time.

    With λ(t) = (∂L/∂y(t))ᵀ, which jumps by the cotangent of each saved state,

        dλ/dt = −(∂f/∂y)ᵀ λ,   dL/dθ = ∫ (∂f/∂θ)ᵀ λ dt from t0 to t1,   dL/dy0 = λ(t0).

    The cotangents are scaled to one before, so that tolerances are relative to the largest.
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

    rtol: float | None = None
    atol: float | None = None
    solver: diffrax.AbstractSolver | None = None

    def __check_init__(self) -> None:
        if (self.rtol is None) != (self.atol is None):
            raise ValueError(
                f"{type(self).__name__} takes both tolerances or neither. "
                f"Got rtol={self.rtol}, atol={self.atol}."
            )

    def check(self, solver: diffrax.AbstractSolver, max_steps: int | None) -> None:
        """Refuse solvers that take several terms, and solves without bound."""
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

    def solution(self, problem: Problem, y0__args: Any) -> diffrax.Solution:
        """Solve by `diffrax.diffeqsolve`."""
        y0, args = y0__args
        return solve(problem, y0, args, diffrax.ForwardMode())

    def remembered(self, problem: Problem, flow: Flow, args: Any) -> tuple[diffrax.Solution, Any]:
        """Solve, keeping the solution at all times."""
        return dense(problem, flow, args)

    def way_back(
        self,
        problem: Problem,
        field: Callable[..., Any],
        arrive: Arrive,
        visit: Visit,
    ) -> Road:
        """The way back in s = −t, from the last saved time past the others to t0.

        Args:
            problem: the problem.
            field: the derivative by s, of s and the state.
            arrive: what happens at each saved time, the last one first, and at t0.
            visit: what is made of each step.
        """
        controller = uniform(inner(problem.stepsize_controller))
        if self.rtol is not None:
            controller = diffrax.PIDController(rtol=self.rtol, atol=self.atol)
        ts = jnp.asarray(problem.saveat.subs.ts)
        stops = -jnp.append(jnp.flip(ts), jnp.asarray(problem.t0, ts.dtype))
        most = problem.max_steps
        return Road(
            diffrax.ODETerm(lambda s, z, args: field(s, z)),
            _for_linear_equations(problem.solver if self.solver is None else self.solver),
            backwards(problem.stepsize_controller, controller),
            stops,
            arrive,
            visit,
            None if most is None else _MORE * most,
        )


def _for_linear_equations(solver: diffrax.AbstractSolver) -> diffrax.AbstractSolver:
    """The solver without the test by which Newton's method gives up where it does not converge.

    The adjoint equation is linear: the method arrives at its first iteration, and what it sees of
    its rate of convergence after that is rounding, which on stiff systems looks like divergence.
    """
    root_finder: Any = getattr(solver, "root_finder", None)
    if not getattr(root_finder, "cauchy_termination", False):
        return solver
    implicit: Any = solver
    patient = replace(root_finder, cauchy_termination=False)
    return replace(implicit, root_finder=patient)


class Path(eqx.Module):
    """The forward solution at all times.

    Args:
        interpolation: as Diffrax gives it.
    """

    interpolation: Any

    def __call__(self, t: jax.Array) -> jax.Array:
        """The state, of shape (d,). Some methods look beyond the ends; they find those there."""
        path = self.interpolation
        return ravel_pytree(path.evaluate(jnp.clip(t, path.t0, path.t1)))[0]


def dense(problem: Problem, flow: Flow, args: Any) -> tuple[diffrax.Solution, Path]:
    """Solve, keeping the solution at all times."""
    adjoint = diffrax.ForwardMode()
    solution = solve(problem, flow.unravel(flow.y0), args, adjoint, dense=True)
    return solution, Path(solution.interpolation)


def pull(flow: Flow, t: Any, y: jax.Array, lam: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(∂f/∂y)ᵀ λ and (∂f/∂θ)ᵀ λ."""
    _, reverse = jax.vjp(lambda y, theta: flow.field(t, y, theta), y, flow.theta)
    return reverse(lam)


def unit(cotangents: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cotangents by the largest, and that; in the order of the way back, with none at t0."""
    largest = jnp.max(jnp.abs(cotangents))
    scale = jnp.where(largest > 0, largest, 1)
    none = jnp.zeros_like(cotangents[:1])
    return jnp.concatenate([jnp.flip(cotangents, 0), none]) / scale, scale


def begin(road: Road, z0: Any, seen: Any, scale: jax.Array) -> tuple[Any, Any]:
    """March; what is found is scaled back, and is not a number where the march failed."""
    z, seen, failed = march(road, road.stops[0], z0, seen)
    factor = jnp.where(failed, jnp.nan, scale)
    return jax.tree.map(lambda a: a * factor.astype(a.dtype), (z, seen))


def nothing_seen(seen: Any, counts: jax.Array, span: Any, dense: Any) -> Any:
    """Make nothing of a step."""
    del counts, span, dense
    return seen
