"""Forward sensitivities of a solve, seen from outside as reverse mode."""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from odecal.adjoints._base import AbstractAdjoint
from odecal.adjoints._problem import Problem, checked, without_states


class AbstractSensitivities(AbstractAdjoint):
    """A strategy that carries the Jacobian of the solution along with it.

    The solve is a function of the initial state and the parameters that are being
    differentiated, k numbers together. Its Jacobian is found with the solution, and contracted
    with the cotangent in the reverse pass. What is not being differentiated costs nothing.
    """

    @abc.abstractmethod
    def solution(self, problem: Problem, y0__args: Any) -> diffrax.Solution:
        """Solve, without gradients."""

    @abc.abstractmethod
    def jacobian(
        self, problem: Problem, moving: Any, fixed: Any
    ) -> tuple[Any, Any, diffrax.Solution]:
        """Solve, with the Jacobian.

        Args:
            problem: the problem.
            moving: what is being differentiated of the initial state and parameters.
            fixed: the rest of them.

        Returns:
            The saved states; their derivatives, with a leading axis of k; and the solution
            without its states.
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
        """Solve, with gradients by forward mode. See the base class for the arguments.

        Raises:
            ValueError: for `SaveAt(dense=True)`, whose interpolation would lose its gradient.
        """
        if saveat.dense:
            raise ValueError(
                f"odecal.adjoints.{type(self).__name__} differentiates the saved states, and "
                "cannot serve SaveAt(dense=True). Save at the times that are needed, "
                "SaveAt(ts=...)."
            )
        problem = Problem(terms, solver, t0, t1, dt0, saveat, stepsize_controller, max_steps)
        ys, rest = _solve((y0, args), (self, problem), throw)
        return eqx.tree_at(lambda s: s.ys, rest, ys, is_leaf=lambda x: x is None)

    def solve_with_jumps(self, problem: Problem, y0: Any, args: Any) -> diffrax.Solution:
        """Solve, with the Jacobian of all that happens on the way. See the base class."""
        ys, rest = _solve((y0, args), (self, problem), False)
        return eqx.tree_at(lambda s: s.ys, rest, ys, is_leaf=lambda x: x is None)


class Seeds(NamedTuple):
    """Where sensitivities start, and what they are of.

    Args:
        y0: the initial state as it was given.
        args: the parameters as they were given.
        flat: the initial state as a vector, of shape (d,).
        unravel: from such a vector to the state as it was given.
        inexact: the parameters that are floating-point arrays.
        rest: all that they hold beside those.
        y0_tangents: of the initial state, of shape (k, d).
        args_tangents: of `inexact`, with a leading axis of k.
    """

    y0: Any
    args: Any
    flat: jax.Array
    unravel: Callable[[jax.Array], Any]
    inexact: Any
    rest: Any
    y0_tangents: jax.Array
    args_tangents: Any


def seeds(moving: Any, fixed: Any) -> Seeds:
    """The seeds of one sensitivity for each moving number."""
    x, unravel_x = ravel_pytree(moving)
    y0, args = eqx.combine(moving, fixed)
    flat, unravel = ravel_pytree(y0)
    inexact, rest = eqx.partition(args, eqx.is_inexact_array)

    def inputs(x: jax.Array) -> tuple[jax.Array, Any]:
        y0, args = eqx.combine(unravel_x(x), fixed)
        return ravel_pytree(y0)[0], eqx.filter(args, eqx.is_inexact_array)

    def tangents(unit: jax.Array) -> Any:
        return jax.jvp(inputs, (x,), (unit,))[1]

    found = jax.vmap(tangents)(jnp.eye(x.size, dtype=x.dtype))
    return Seeds(y0, args, flat, unravel, inexact, rest, *found)


@eqx.filter_custom_vjp
def _solve(
    y0__args: Any, strategy: tuple[AbstractSensitivities, Problem], throw: bool
) -> tuple[Any, diffrax.Solution]:
    adjoint, problem = strategy
    return checked(*without_states(adjoint.solution(problem, y0__args)), throw)


@_solve.def_fwd
def _solve_fwd(perturbed: Any, y0__args: Any, strategy: Any, throw: bool) -> tuple[Any, Any]:
    adjoint, problem = strategy
    moving, fixed = eqx.partition(y0__args, perturbed)
    ys, jacobian, rest = adjoint.jacobian(problem, moving, fixed)
    return checked(ys, rest, throw), jacobian


@_solve.def_bwd
def _solve_bwd(
    jacobian: Any, cotangent: Any, perturbed: Any, y0__args: Any, strategy: Any, throw: bool
) -> Any:
    """Contract the kept Jacobian with the cotangent of the saved states."""
    del strategy, throw
    moving, _ = eqx.partition(y0__args, perturbed)
    x, unravel = ravel_pytree(moving)
    ys_cotangent, _ = cotangent

    def contracted(weights: Any, rows: jax.Array) -> Any:
        return None if weights is None else jnp.tensordot(rows, weights, axes=weights.ndim)

    parts = jax.tree.map(contracted, ys_cotangent, jacobian, is_leaf=lambda x: x is None)
    return unravel(sum(jax.tree.leaves(parts), jnp.zeros_like(x)))
