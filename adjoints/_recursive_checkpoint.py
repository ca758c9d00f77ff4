"""Reverse mode through the solver, with recursive checkpoints."""

from typing import Any, ClassVar

import diffrax
from odecal.adjoints._base import AbstractAdjoint
from odecal.adjoints._problem import Problem, solve_by_diffrax
from odecal.adjoints._properties import Mode, Properties


class RecursiveCheckpoint(AbstractAdjoint):
    """Discretise-then-optimise by reverse mode, with binomial checkpointing.

    Exact for the discrete solve. Time O(n log n) and memory O(log n) in the number of steps n
    (with the default number of checkpoints), whatever the number of parameters: the choice for
    many parameters or states. No forward mode, hence no Hessian by `jax.hessian` of itself.

    The steps of an explicit solver are chosen for the state alone: on a stiff system, at the edge
    of its stability, this gradient may be off by any factor. There take an implicit solver, or
    [`ExplicitReverse`][odecal.adjoints.ExplicitReverse].

    Source: Stumm and Walther (2010), https://doi.org/10.1137/080718036.

    Args:
        checkpoints: how many states to keep; None takes about the square root of `max_steps`.
    """

    properties: ClassVar[Properties | None] = Properties(
        mode=Mode.REVERSE,
        exact=True,
        time="O(n d + n k)",
        memory="O(d √N + k)",
        stiff=True,
        chaotic=True,
        hessian=False,
    )

    adjoint: diffrax.AbstractAdjoint

    def __init__(self, checkpoints: int | None = None) -> None:
        self.adjoint = diffrax.RecursiveCheckpointAdjoint(checkpoints=checkpoints)

    def solve(self, problem: Problem, y0: Any, args: Any) -> diffrax.Solution:
        """Solve by `diffrax.diffeqsolve`."""
        return solve_by_diffrax(problem, y0, args, self.adjoint)

    def check(self, solver: diffrax.AbstractSolver, max_steps: int | None) -> None:
        """Refuse an unbounded solve where the number of checkpoints cannot be known."""
        del solver
        if max_steps is None and self.adjoint.checkpoints is None:
            raise ValueError(
                "RecursiveCheckpoint needs to know how much to store, and got max_steps=None. "
                "Give max_steps, or RecursiveCheckpoint(checkpoints=...)."
            )
