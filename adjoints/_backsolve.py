"""The continuous adjoint equation, solved backwards in time."""

import diffrax
from odecal.adjoints._base import DiffraxAdjoint


class Backsolve(DiffraxAdjoint):
    """Optimise-then-discretise: the continuous adjoint method.

    With the adjoint state a(t) = ∂L/∂y(t) it solves, backwards in time and together with y,

        da/dt = −aᵀ ∂f/∂y,   dL/dθ = −∫ aᵀ ∂f/∂θ dt from t1 back to t0,

    restarting from the saved state at every saved time. Memory is constant in the number of
    steps. It is *not* exact for the discrete solve: its error follows the tolerances, and on
    stiff or chaotic systems the backward solution can be far off. Compare before use.

    Source: Chen et al. (2018), https://arxiv.org/abs/1806.07366; Kidger (2021), chapter 5,
    https://arxiv.org/abs/2202.02435.

    Args:
        rtol: relative tolerance of the backward solve; None takes the forward one.
        atol: absolute tolerance of the backward solve; None takes the forward one.
        solver: solver of the backward solve; None takes the forward one.
    """

    adjoint: diffrax.AbstractAdjoint

    def __init__(
        self,
        rtol: float | None = None,
        atol: float | None = None,
        solver: diffrax.AbstractSolver | None = None,
    ) -> None:
        if (rtol is None) != (atol is None):
            raise ValueError(
                f"Backsolve takes both tolerances or neither. Got rtol={rtol}, atol={atol}."
            )
        settings = {}
        if rtol is not None:
            settings["stepsize_controller"] = diffrax.PIDController(rtol=rtol, atol=atol)
        if solver is not None:
            settings["solver"] = solver
        self.adjoint = diffrax.BacksolveAdjoint(**settings)

    def check(self, solver: diffrax.AbstractSolver, max_steps: int | None) -> None:
        """Refuse solvers that take several terms."""
        del max_steps
        structure = solver.term_structure
        if isinstance(structure, tuple) or getattr(structure, "__origin__", None) is (
            diffrax.MultiTerm
        ):
            raise ValueError(
                f"Backsolve cannot run {type(solver).__name__} backwards: it takes several terms. "
                "Use odecal.adjoints.Forward() or a solver of a single term, such as "
                "diffrax.Tsit5()."
            )
