"""Forward sensitivities of a solve, used by reverse mode outside."""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float
from odecal.adjoints._base import AbstractAdjoint
from odecal.adjoints._problem import Problem, join_states, primal_states


class AbstractSensitivities(AbstractAdjoint):
    """A strategy that carries the Jacobian of the solution along with it.

    The solve is a function of the initial state and the parameters that are being
    differentiated, k numbers together. Its Jacobian is found with the solution, and contracted
    with the cotangent in the reverse pass. What is not being differentiated costs nothing.
    """

    @abc.abstractmethod
    def primal(self, problem: Problem, y0: Any, args: Any) -> diffrax.Solution:
        """Solve, without gradients."""

    @abc.abstractmethod
    def jacobian(
        self, problem: Problem, diff: Any, nondiff: Any
    ) -> tuple[Any, Any, diffrax.Solution]:
        """Solve, with the Jacobian.

        Args:
            problem: the problem.
            diff: what is being differentiated of `(y0, args)`.
            nondiff: the rest of it.

        Returns:
            The saved states; their derivatives, with a leading axis of k; and the solution
            without its states.
        """

    def solve(self, problem: Problem, y0: Any, args: Any) -> diffrax.Solution:
        """Solve, with gradients by forward mode. See the base class for the arguments.

        Raises:
            ValueError: for `SaveAt(dense=True)`, whose interpolation would lose its gradient.
        """
        if problem.saveat.dense:
            raise ValueError(
                f"odecal.adjoints.{type(self).__name__} differentiates the saved states, and "
                "cannot serve SaveAt(dense=True). Save at the times that are needed, "
                "SaveAt(ts=...)."
            )
        return join_states(*_solve((y0, args), (self, problem)))


_solve = eqx.filter_custom_vjp(primal_states)


@_solve.def_fwd
def _solve_forward(perturbed: Any, y0__args: Any, strategy: Any) -> tuple[Any, Any]:
    adjoint, problem = strategy
    diff, nondiff = eqx.partition(y0__args, perturbed)
    diff = jax.tree.map(jnp.asarray, diff)  # JAX gives a Python number as it is
    ys, jacobian, rest = adjoint.jacobian(problem, diff, nondiff)
    return (ys, rest), jacobian


@_solve.def_bwd
def _solve_backward(
    jacobian: Any, cotangent: Any, perturbed: Any, y0__args: Any, strategy: Any
) -> Any:
    """Contract the Jacobian with the cotangent of the saved states."""
    del strategy
    diff, _ = eqx.partition(y0__args, perturbed)
    x, unravel = ravel_pytree(diff)
    ys_cotangent, _ = cotangent

    def contracted(weights: Any, rows: jax.Array) -> Any:
        return None if weights is None else jnp.tensordot(rows, weights, axes=weights.ndim)

    parts = jax.tree.map(contracted, ys_cotangent, jacobian, is_leaf=lambda x: x is None)
    return unravel(sum(jax.tree.leaves(parts), jnp.zeros_like(x)))


class Seeds(NamedTuple):
    """The initial values of k sensitivities.

    Args:
        flat: the initial state as a vector, which `unravel` gives back its form.
        inexact: the parameters that are floating-point arrays.
        rest: all that they hold beside those.
        args_tangents: of `inexact`, with a leading axis of k.
    """

    flat: Float[Array, " element"]
    unravel: Callable[[jax.Array], Any]
    inexact: Any
    rest: Any
    y0_tangents: Float[Array, "k element"]
    args_tangents: Any


def seeds(diff: Any, nondiff: Any) -> Seeds:
    """The initial values of one sensitivity for each number that is differentiated by."""
    x, unravel_x = ravel_pytree(diff)
    y0, args = eqx.combine(diff, nondiff)
    flat, unravel = ravel_pytree(y0)
    inexact, rest = eqx.partition(args, eqx.is_inexact_array)

    def inputs(x: jax.Array) -> tuple[jax.Array, Any]:
        y0, args = eqx.combine(unravel_x(x), nondiff)
        return ravel_pytree(y0)[0], eqx.filter(args, eqx.is_inexact_array)

    def tangents(unit: jax.Array) -> Any:
        return jax.jvp(inputs, (x,), (unit,))[1]

    found = jax.vmap(tangents)(jnp.eye(x.size, dtype=x.dtype))
    return Seeds(flat, unravel, inexact, rest, *found)
