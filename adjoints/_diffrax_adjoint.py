"""Diffrax's own adjoints, called as ours are."""

from typing import Any

import diffrax
from odecal.adjoints._base import AbstractAdjoint
from odecal.adjoints._problem import Problem, solve_by_diffrax
from odecal.adjoints._step_limits import with_scalar_atol


class DiffraxAdjoint(AbstractAdjoint):
    """Any `diffrax.AbstractAdjoint`, used as it is.

    Args:
        adjoint: the Diffrax adjoint, for example `diffrax.RecursiveCheckpointAdjoint()`. With
            `diffrax.ForwardMode()` gradients are taken by `jax.jacfwd`, not `jax.grad`.
    """

    adjoint: diffrax.AbstractAdjoint

    def solve(self, problem: Problem, y0: Any, args: Any) -> diffrax.Solution:
        """Solve by `diffrax.diffeqsolve(..., adjoint=self.adjoint)`."""
        if isinstance(self.adjoint, diffrax.BacksolveAdjoint):  # of the state and its cotangents
            controller = with_scalar_atol(problem.stepsize_controller)
            problem = problem._replace(stepsize_controller=controller)
        return solve_by_diffrax(problem, y0, args, self.adjoint)

    def check(self, solver: diffrax.AbstractSolver, max_steps: int | None) -> None:
        """Refuse adjoints that cannot differentiate saved states at many times."""
        del solver, max_steps
        if isinstance(self.adjoint, diffrax.ImplicitAdjoint):
            raise ValueError(
                "diffrax.ImplicitAdjoint cannot differentiate a solve that keeps states at many "
                "times: it expects a single final, steady state. Use odecal.adjoints.Forward() "
                "or odecal.adjoints.RecursiveCheckpoint()."
            )


def as_adjoint(adjoint: Any) -> AbstractAdjoint:
    """Take one of ours as it is, and wrap one of Diffrax's.

    Args:
        adjoint: a strategy of either kind.

    Returns:
        The strategy.

    Raises:
        TypeError: if it is neither.
    """
    if isinstance(adjoint, AbstractAdjoint):
        return adjoint
    if isinstance(adjoint, diffrax.AbstractAdjoint):
        return DiffraxAdjoint(adjoint)
    raise TypeError(
        "An adjoint must be an odecal.adjoints.AbstractAdjoint or a diffrax.AbstractAdjoint. "
        f"Got {adjoint!r}. Pass an object, such as odecal.adjoints.Forward()."
    )
