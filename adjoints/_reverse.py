"""Reverse mode by rules of our own: what such strategies share."""

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
from odecal.adjoints._problem import (
    Problem,
    join_states,
    primal_states,
    require_saved_times,
    split_states,
)

# The saved states, or their cotangents; and the cotangents of the initial state and parameters.
States = Float[Array, "time d"]
Gradient = tuple[Float[Array, " d"], Float[Array, " k"]]


class FlatProblem(NamedTuple):
    """dy/dt = f(t, y, θ) between vectors: of d elements of the state and k parameters.

    θ are the parameters that are being differentiated by; `unravel` gives a state its form back.
    """

    problem: Problem
    field: Callable[[Any, jax.Array, jax.Array], jax.Array]
    y0: Float[Array, " d"]
    theta: Float[Array, " k"]
    unravel: Callable[[jax.Array], Any]

    def field_vjp(self, t: Any, y: Float[Array, " d"], lam: Float[Array, " d"]) -> Gradient:
        """(∂f/∂y)ᵀ λ and (∂f/∂θ)ᵀ λ."""
        _, vjp = jax.vjp(lambda y, theta: self.field(t, y, theta), y, self.theta)
        return vjp(lam)


class AbstractReverse(AbstractAdjoint):
    """A strategy that solves forwards, keeps residuals, and pulls cotangents back by them.

    What is not being differentiated costs nothing.
    """

    @abc.abstractmethod
    def primal(self, problem: Problem, y0: Any, args: Any) -> diffrax.Solution:
        """Solve, without gradients."""

    @abc.abstractmethod
    def forward(self, flat: FlatProblem, args: Any) -> tuple[diffrax.Solution, Any]:
        """Solve, and give beside the solution the residuals, a pytree of arrays."""

    @abc.abstractmethod
    def backward(
        self, flat: FlatProblem, residuals: Any, ys: States, cotangents: States
    ) -> Gradient:
        """Pull the cotangents of the saved states back.

        Args:
            flat: the problem between vectors.
            residuals: what `forward` has kept.
            ys: the saved states.
            cotangents: theirs.

        Returns:
            The cotangents of y0 and θ. They are NaN where they could not be found: no wrong
            gradient passes for a right one.
        """

    def solve(self, problem: Problem, y0: Any, args: Any) -> diffrax.Solution:
        """Solve, with gradients by reverse mode. See the base class for the arguments.

        Raises:
            ValueError: unless there is one `ODETerm`, and states are saved at given times.
        """
        require_saved_times(self, problem)
        return join_states(*_solve((y0, args), (self, problem)))


def _flat(
    problem: Problem, perturbed: Any, y0__args: Any
) -> tuple[FlatProblem, Callable[..., Any]]:
    """The problem between vectors, and the parameters as they were given from one."""
    y0, args = y0__args
    diff, nondiff = eqx.partition(args, perturbed[1])
    flat, unravel = ravel_pytree(y0)
    theta, unravel_theta = ravel_pytree(diff)
    if theta.size == 0:  # of no particular type otherwise
        theta, unravel_theta = flat[:0], lambda _: diff

    def field(t: Any, y: jax.Array, theta: jax.Array) -> jax.Array:
        args = eqx.combine(unravel_theta(theta), nondiff)
        slope = problem.terms.vector_field(t, unravel(y), args)
        return ravel_pytree(slope)[0].astype(y.dtype)

    return FlatProblem(problem, field, flat, theta, unravel), unravel_theta


def _rows(states: Any) -> States:
    """Saved states as vectors."""
    return jax.vmap(lambda y: ravel_pytree(y)[0])(states)


_solve = eqx.filter_custom_vjp(primal_states)


@_solve.def_fwd
def _solve_forward(perturbed: Any, y0__args: Any, strategy: Any) -> tuple[Any, Any]:
    adjoint, problem = strategy
    flat, _ = _flat(problem, perturbed, y0__args)
    solution, residuals = adjoint.forward(flat, y0__args[1])
    ys, rest = split_states(solution)
    return (ys, rest), (residuals, ys)


@_solve.def_bwd
def _solve_backward(
    residuals__ys: Any, cotangent: Any, perturbed: Any, y0__args: Any, strategy: Any
) -> Any:
    adjoint, problem = strategy
    residuals, ys = residuals__ys
    flat, unravel_theta = _flat(problem, perturbed, y0__args)
    cotangents = jax.tree.map(
        lambda g, y: jnp.zeros_like(y) if g is None else g,
        cotangent[0],
        ys,
        is_leaf=lambda x: x is None,
    )
    y0_bar, theta_bar = adjoint.backward(flat, residuals, _rows(ys), _rows(cotangents))
    return eqx.filter(flat.unravel(y0_bar), perturbed[0]), unravel_theta(theta_bar)
