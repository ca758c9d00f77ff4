"""A solve as a value, and what may be asked of it."""

from typing import Any, NamedTuple

import diffrax
import equinox as eqx
from odecal.adjoints._jumps import Jumps


class Problem(NamedTuple):
    """What a solve is of, but for the initial state and the parameters."""

    terms: Any
    solver: diffrax.AbstractSolver
    t0: Any
    t1: Any
    dt0: Any
    saveat: diffrax.SaveAt
    stepsize_controller: diffrax.AbstractStepSizeController
    max_steps: int | None
    jumps: Jumps | None = None


def solve(problem: Problem, y0: Any, args: Any, adjoint: Any, dense: bool = False) -> Any:
    """Solve by `diffrax.diffeqsolve`, without raising."""
    saveat = problem.saveat
    if dense:
        saveat = diffrax.SaveAt(ts=saveat.subs.ts, dense=True)
    return diffrax.diffeqsolve(
        problem.terms,
        problem.solver,
        problem.t0,
        problem.t1,
        problem.dt0,
        y0,
        args,
        saveat=saveat,
        stepsize_controller=problem.stepsize_controller,
        adjoint=adjoint,
        max_steps=problem.max_steps,
        throw=False,
    )


def without_states(solution: diffrax.Solution) -> tuple[Any, diffrax.Solution]:
    """The saved states apart from what carries no gradient; an interpolation is let go."""
    rest = eqx.tree_at(
        lambda s: (s.ys, s.interpolation), solution, (None, None), is_leaf=lambda x: x is None
    )
    return solution.ys, rest


def checked(ys: Any, rest: diffrax.Solution, throw: bool) -> tuple[Any, diffrax.Solution]:
    """Raise at run time if the solve failed. Only for what is not being differentiated."""
    if not throw:
        return ys, rest
    return rest.result.error_if((ys, rest), rest.result != diffrax.RESULTS.successful)


def require_times_alone(adjoint: Any, terms: Any, saveat: diffrax.SaveAt) -> None:
    """Refuse anything but one ordinary differential equation, kept at given times.

    Raises:
        ValueError: for other terms, and other things to be kept.
    """
    if not keeps_times_alone(terms, saveat):
        raise ValueError(
            f"{type(adjoint).__name__} solves one diffrax.ODETerm and keeps states at given "
            f"times, SaveAt(ts=...). Got {type(terms).__name__} and {saveat}. Use "
            "odecal.adjoints.Forward()."
        )


def keeps_times_alone(terms: Any, saveat: diffrax.SaveAt) -> bool:
    """Whether there is one ordinary differential equation, kept at given times."""
    if not isinstance(terms, diffrax.ODETerm):
        return False
    sub = saveat.subs
    plain = isinstance(sub, diffrax.SubSaveAt) and sub.ts is not None
    if saveat.dense or not plain or sub.t0 or sub.t1 or sub.steps:
        return False
    return sub.fn is diffrax.SubSaveAt(ts=sub.ts).fn
