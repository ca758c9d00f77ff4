"""Reverse or forward mode straight through the solver's bounded loops."""

from typing import Any, ClassVar

import diffrax
import equinox as eqx
from odecal.adjoints._base import AbstractAdjoint
from odecal.adjoints._problem import Problem, solve_by_diffrax
from odecal.adjoints._properties import Mode, Properties


class Direct(AbstractAdjoint):
    """Discretise-then-optimise through nested bounded scans.

    Exact for the discrete solve; serves reverse mode, forward mode and second derivatives. The
    loops are nested and checkpointed, so time and memory grow with the logarithm of `max_steps`;
    it is several times slower than other exact strategies, and the slowest to compile.

    The steps of an explicit solver are chosen for the state alone: on a stiff system, at the edge
    of its stability, this gradient may be off by any factor. There take an implicit solver, or
    [`ExplicitReverse`][odecal.adjoints.ExplicitReverse].
    """

    properties: ClassVar[Properties | None] = Properties(
        mode=Mode.REVERSE,
        exact=True,
        time="O(n d log N + n k log N)",
        memory="O(d log N + k)",
        stiff=True,
        chaotic=True,
        hessian=True,
    )

    adjoint: diffrax.AbstractAdjoint = eqx.field(init=False, default_factory=diffrax.DirectAdjoint)

    def solve(self, problem: Problem, y0: Any, args: Any) -> diffrax.Solution:
        """Solve by `diffrax.diffeqsolve`."""
        return solve_by_diffrax(problem, y0, args, self.adjoint)

    def check(self, solver: diffrax.AbstractSolver, max_steps: int | None) -> None:
        """Refuse an unbounded solve."""
        del solver
        if max_steps is None:
            raise ValueError(
                "Direct differentiates a loop of bounded length, and got max_steps=None. "
                "Give max_steps, or use odecal.adjoints.Forward()."
            )
