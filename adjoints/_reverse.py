"""Reverse mode with rules of our own: what such strategies share."""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from odecal.adjoints._base import AbstractAdjoint
from odecal.adjoints._problem import Problem, checked, require_times_alone, without_states


class Flow(NamedTuple):
    """dy/dt = f(t, y, θ) between vectors.

    Args:
        field: f, from a time, an array of shape (d,) and one of shape (k,) to one of shape (d,).
        y0: the initial state, of shape (d,).
        theta: the parameters that are being differentiated by, of shape (k,).
        unravel: from an array of shape (d,) to the state as it was given.
    """

    field: Callable[[Any, jax.Array, jax.Array], jax.Array]
    y0: jax.Array
    theta: jax.Array
    unravel: Callable[[jax.Array], Any]


class AbstractReverse(AbstractAdjoint):
    """A strategy that solves forwards, remembers something, and pulls cotangents back by it.

    What is not being differentiated costs nothing.
    """

    @abc.abstractmethod
    def solution(self, problem: Problem, y0__args: Any) -> diffrax.Solution:
        """Solve, without gradients."""

    @abc.abstractmethod
    def remembered(self, problem: Problem, flow: Flow, args: Any) -> tuple[diffrax.Solution, Any]:
        """Solve, and give beside the solution what the way back needs, a pytree of arrays."""

    @abc.abstractmethod
    def pulled_back(
        self, problem: Problem, flow: Flow, kept: Any, ys: jax.Array, cotangents: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Go back.

        Args:
            problem: the problem.
            flow: its flow.
            kept: what was remembered.
            ys: the saved states, of shape (time, d).
            cotangents: theirs, of shape (time, d).

        Returns:
            The cotangents of y0 and θ, of shapes (d,) and (k,). They are not numbers where they
            could not be found: no wrong gradient passes for a right one.
        """

    def diffeqsolve(
        self,
        terms: Any,
        solver: diffrax.AbstractSolver,
        t0: Any,
        t1: Any,
        dt0: Any,
        y0: Any,
        args: Any = None,
        *,
        saveat: diffrax.SaveAt,
        stepsize_controller: diffrax.AbstractStepSizeController,
        max_steps: int | None = 4096,
        throw: bool = True,
    ) -> diffrax.Solution:
        """Solve, with gradients by reverse mode. See the base class for the arguments.

        Raises:
            ValueError: unless there is one `ODETerm`, and states are kept at given times.
        """
        require_times_alone(self, terms, saveat)
        problem = Problem(terms, solver, t0, t1, dt0, saveat, stepsize_controller, max_steps)
        ys, rest = _solve((y0, args), (self, problem), throw)
        return eqx.tree_at(lambda s: s.ys, rest, ys, is_leaf=lambda x: x is None)


def _flow(problem: Problem, perturbed: Any, y0__args: Any) -> tuple[Flow, Callable[..., Any]]:
    """The flow as a function of vectors, and the parameters' own form from one."""
    y0, args = y0__args
    moving, fixed = eqx.partition(args, perturbed[1])
    flat, unravel = ravel_pytree(y0)
    theta, unravel_theta = ravel_pytree(moving)
    if theta.size == 0:  # of no particular type otherwise
        theta, unravel_theta = flat[:0], lambda _: moving

    def field(t: Any, y: jax.Array, theta: jax.Array) -> jax.Array:
        args = eqx.combine(unravel_theta(theta), fixed)
        slope = problem.terms.vector_field(t, unravel(y), args)
        return ravel_pytree(slope)[0].astype(y.dtype)

    return Flow(field, flat, theta, unravel), unravel_theta


def _rows(states: Any) -> jax.Array:
    """Saved states as vectors, of shape (time, d)."""
    return jax.vmap(lambda y: ravel_pytree(y)[0])(states)


@eqx.filter_custom_vjp
def _solve(
    y0__args: Any, strategy: tuple[AbstractReverse, Problem], throw: bool
) -> tuple[Any, diffrax.Solution]:
    adjoint, problem = strategy
    return checked(*without_states(adjoint.solution(problem, y0__args)), throw)


@_solve.def_fwd
def _solve_fwd(perturbed: Any, y0__args: Any, strategy: Any, throw: bool) -> tuple[Any, Any]:
    adjoint, problem = strategy
    flow, _ = _flow(problem, perturbed, y0__args)
    solution, kept = adjoint.remembered(problem, flow, y0__args[1])
    ys, rest = without_states(solution)
    return checked(ys, rest, throw), (kept, ys)


@_solve.def_bwd
def _solve_bwd(
    residuals: Any, cotangent: Any, perturbed: Any, y0__args: Any, strategy: Any, throw: bool
) -> Any:
    del throw
    adjoint, problem = strategy
    kept, ys = residuals
    flow, unravel_theta = _flow(problem, perturbed, y0__args)
    weights = jax.tree.map(
        lambda g, y: jnp.zeros_like(y) if g is None else g,
        cotangent[0],
        ys,
        is_leaf=lambda x: x is None,
    )
    y0_bar, theta_bar = adjoint.pulled_back(problem, flow, kept, _rows(ys), _rows(weights))
    return eqx.filter(flow.unravel(y0_bar), perturbed[0]), unravel_theta(theta_bar)
