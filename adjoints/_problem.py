"""A solve as a value."""

from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax.numpy as jnp
from odecal.adjoints._jumps import Jumps


class Problem(NamedTuple):
    """A solve, but for its initial state and its parameters: arguments of `diffrax.diffeqsolve`.

    Args:
        terms: the terms of the equation, usually one `diffrax.ODETerm`.
        solver: the Diffrax solver.
        t0: the initial time.
        t1: the final time.
        dt0: the first step, or None to let the controller choose.
        saveat: where the solution is kept.
        stepsize_controller: the step-size controller.
        max_steps: the largest number of steps, or None.
        jumps: changes of the state during the solve, or None.
    """

    terms: Any
    solver: diffrax.AbstractSolver
    t0: Any
    t1: Any
    dt0: Any
    saveat: diffrax.SaveAt
    stepsize_controller: diffrax.AbstractStepSizeController
    max_steps: int | None
    jumps: Jumps | None = None


def solve_by_diffrax(
    problem: Problem,
    y0: Any,
    args: Any,
    adjoint: diffrax.AbstractAdjoint | None = None,
    dense: bool = False,
) -> diffrax.Solution:
    """Solve by `diffrax.diffeqsolve`, without jumps and without raising.

    No `adjoint` is Diffrax's forward mode; `dense` keeps the solution at all times as well.
    """
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
        adjoint=diffrax.ForwardMode() if adjoint is None else adjoint,
        max_steps=problem.max_steps,
        throw=False,
    )


def solution_at_times(
    problem: Problem, ys: Any, stats: dict[str, Any], result: diffrax.RESULTS
) -> diffrax.Solution:
    """A solution as Diffrax gives it, of states saved at given times."""
    return diffrax.Solution(
        t0=problem.t0,
        t1=problem.t1,
        ts=jnp.asarray(problem.saveat.subs.ts),
        ys=ys,
        interpolation=None,
        stats={**stats, "max_steps": problem.max_steps},
        result=result,
        solver_state=None,
        controller_state=None,
        made_jump=None,
        event_mask=None,
    )


def split_states(solution: diffrax.Solution) -> tuple[Any, diffrax.Solution]:
    """The saved states, and a solution without them or an interpolation: it has no gradient."""
    rest = eqx.tree_at(
        lambda s: (s.ys, s.interpolation), solution, (None, None), is_leaf=lambda x: x is None
    )
    return solution.ys, rest


def primal_states(y0__args: Any, strategy: Any) -> tuple[Any, diffrax.Solution]:
    """The saved states and the rest, without gradients, by an adjoint that has a problem."""
    adjoint, problem = strategy
    return split_states(adjoint.primal(problem, *y0__args))


def join_states(ys: Any, rest: diffrax.Solution) -> diffrax.Solution:
    """The inverse of `split_states`, but for the interpolation."""
    return eqx.tree_at(lambda s: s.ys, rest, ys, is_leaf=lambda x: x is None)


@eqx.filter_custom_jvp
def raise_if_failed(solution: diffrax.Solution) -> diffrax.Solution:
    """Raise at run time if a solve failed; the check has no part in derivatives."""
    return solution.result.error_if(solution, solution.result != diffrax.RESULTS.successful)


@raise_if_failed.def_jvp
def _raise_if_failed_jvp(primals: Any, tangents: Any) -> tuple[diffrax.Solution, Any]:
    return raise_if_failed(*primals), tangents[0]


def require_saved_times(adjoint: Any, problem: Problem) -> None:
    """Refuse anything but one ordinary differential equation, saved at given times."""
    if not saves_at_times(problem):
        raise ValueError(
            f"{type(adjoint).__name__} solves one diffrax.ODETerm and keeps states at given "
            f"times, SaveAt(ts=...). Got {type(problem.terms).__name__} and {problem.saveat}. Use "
            "odecal.adjoints.Forward()."
        )


def saves_at_times(problem: Problem) -> bool:
    """Whether there is one ordinary differential equation, saved at given times alone."""
    if not isinstance(problem.terms, diffrax.ODETerm):
        return False
    saveat, sub = problem.saveat, problem.saveat.subs
    plain = isinstance(sub, diffrax.SubSaveAt) and sub.ts is not None
    if saveat.dense or not plain or sub.t0 or sub.t1 or sub.steps:
        return False
    return sub.fn is diffrax.SubSaveAt(ts=sub.ts).fn
