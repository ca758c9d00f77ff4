"""Forward-mode sensitivities through the solve alone, seen from outside as reverse mode."""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from odecal.adjoints._base import AbstractAdjoint


class Forward(AbstractAdjoint):
    """Forward mode through the solver, wrapped for reverse mode outside.

    The solve is a function of the initial state and the parameters that are being
    differentiated, k numbers together. Its Jacobian is carried along with the solution by k
    tangents (`jax.jvp`, one batch), and contracted with the cotangent in the reverse pass. Exact
    for the discrete solve. Time O(k) solves, less what the tangents share; memory O(k) times the
    saved states, whatever the number of steps. The fastest for small systems (up to some tens of
    k); for more, take [`RecursiveCheckpoint`][odecal.adjoints.RecursiveCheckpoint].

    What is not being differentiated (constants, fixed parameters) costs no tangent.
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
                "odecal.adjoints.Forward differentiates the saved states, and cannot serve "
                "SaveAt(dense=True). Save at the times that are needed, SaveAt(ts=...)."
            )
        problem = (terms, solver, t0, t1, dt0, saveat, stepsize_controller, max_steps)
        ys, rest = _solve((y0, args), problem, throw)
        return eqx.tree_at(lambda s: s.ys, rest, ys, is_leaf=lambda x: x is None)


def _primal(y0__args: Any, problem: Any) -> tuple[Any, diffrax.Solution]:
    """Solve once; the saved states apart from everything that carries no gradient."""
    terms, solver, t0, t1, dt0, saveat, stepsize_controller, max_steps = problem
    y0, args = y0__args
    solution = diffrax.diffeqsolve(
        terms,
        solver,
        t0,
        t1,
        dt0,
        y0,
        args,
        saveat=saveat,
        stepsize_controller=stepsize_controller,
        adjoint=diffrax.ForwardMode(),
        max_steps=max_steps,
        throw=False,
    )
    return solution.ys, eqx.tree_at(lambda s: s.ys, solution, None)


def _checked(ys: Any, rest: diffrax.Solution, throw: bool) -> tuple[Any, diffrax.Solution]:
    """Raise at run time if the solve failed. Only for what is not being differentiated."""
    if not throw:
        return ys, rest
    return rest.result.error_if((ys, rest), rest.result != diffrax.RESULTS.successful)


@eqx.filter_custom_vjp
def _solve(y0__args: Any, problem: Any, throw: bool) -> tuple[Any, diffrax.Solution]:
    return _checked(*_primal(y0__args, problem), throw)


@_solve.def_fwd
def _solve_fwd(perturbed: Any, y0__args: Any, problem: Any, throw: bool) -> tuple[Any, Any]:
    """Solve with one tangent a perturbed number; keep the Jacobian for the reverse pass."""
    moving, fixed = eqx.partition(y0__args, perturbed)
    x, unravel = ravel_pytree(moving)

    def ys_of(x: jax.Array) -> tuple[Any, Any]:
        return _primal(eqx.combine(unravel(x), fixed), problem)

    def tangent(direction: jax.Array) -> Any:
        return eqx.filter_jvp(ys_of, (x,), (direction,))

    (ys, rest), (jacobian, _) = eqx.filter_vmap(tangent, out_axes=(None, eqx.if_array(0)))(
        jnp.eye(x.size, dtype=x.dtype)
    )
    return _checked(ys, rest, throw), jacobian


@_solve.def_bwd
def _solve_bwd(
    jacobian: Any, cotangent: Any, perturbed: Any, y0__args: Any, problem: Any, throw: bool
) -> Any:
    """Contract the kept Jacobian with the cotangent of the saved states."""
    del problem, throw
    moving, _ = eqx.partition(y0__args, perturbed)
    x, unravel = ravel_pytree(moving)
    ys_cotangent, _ = cotangent

    def contracted(weights: Any, rows: jax.Array) -> Any:
        return None if weights is None else jnp.tensordot(rows, weights, axes=weights.ndim)

    parts = jax.tree.map(contracted, ys_cotangent, jacobian, is_leaf=lambda x: x is None)
    return unravel(sum(jax.tree.leaves(parts), jnp.zeros_like(x)))
