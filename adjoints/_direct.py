"""Reverse or forward mode straight through the solver's bounded loops."""

from typing import ClassVar

import diffrax
from odecal.adjoints._base import DiffraxAdjoint
from odecal.adjoints._properties import Mode, Monomial, Properties, order


class Direct(DiffraxAdjoint):
    """Discretise-then-optimise through nested bounded scans.

    Exact for the discrete solve; serves reverse mode, forward mode and second derivatives. Time
    and memory grow with `max_steps`, not with the steps taken, so bound `max_steps` tightly.
    """

    properties: ClassVar[Properties | None] = Properties(
        mode=Mode.REVERSE,
        exact=True,
        time=order(Monomial(max_steps=1, states=1), Monomial(max_steps=1, parameters=1)),
        memory=order(Monomial(max_steps=1, states=1), Monomial(parameters=1)),
        stiff=True,
        chaotic=True,
        hessian=True,
    )

    adjoint: diffrax.AbstractAdjoint

    def __init__(self) -> None:
        self.adjoint = diffrax.DirectAdjoint()

    def check(self, solver: diffrax.AbstractSolver, max_steps: int | None) -> None:
        """Refuse an unbounded solve."""
        del solver
        if max_steps is None:
            raise ValueError(
                "Direct differentiates a loop of bounded length, and got max_steps=None. "
                "Give max_steps, or use odecal.adjoints.Forward()."
            )
