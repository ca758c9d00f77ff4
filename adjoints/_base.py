"""The seam: what every gradient strategy owes, and how any of them is called."""

import abc
from typing import Any, ClassVar

import diffrax
import equinox as eqx
from odecal.adjoints._problem import Problem
from odecal.adjoints._properties import Properties
from odecal.adjoints._segments import by_stretches
from odecal.adjoints._step_limits import uniform


class AbstractAdjoint(eqx.Module):
    """A strategy for differentiating a Diffrax solve.

    A subclass gives [`diffeqsolve`][odecal.adjoints.AbstractAdjoint.diffeqsolve]: the arguments
    and the result are those of `diffrax.diffeqsolve`, and reverse-mode differentiation of
    `solution.ys` with respect to `y0` and `args` works by the strategy.

    Attributes:
        properties: what the strategy is and what it serves; None where that is not known.
        together: whether many solves that are mapped go faster than one after another also on a
            CPU. Where they do not, a mapped loop waits for its slowest member, and copies much.
        default_max_steps: the largest number of steps where none is asked for.
    """

    properties: ClassVar[Properties | None] = None
    together: ClassVar[bool] = False
    default_max_steps: ClassVar[int] = 4096

    @abc.abstractmethod
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
        """Solve the initial value problem dy/dt = f(t, y, args), y(t0) = y0.

        Args:
            terms: the terms of the equation, usually one `diffrax.ODETerm`.
            solver: the Diffrax solver.
            t0: the initial time.
            t1: the final time.
            dt0: the first step, or None to let the controller choose.
            y0: the initial state, a pytree of arrays.
            args: whatever the vector field needs, a pytree. Gradients reach only what comes
                through `args` and `y0`, never what the vector field closes over.
            saveat: where the solution is kept.
            stepsize_controller: the step-size controller.
            max_steps: the largest number of steps.
            throw: whether a failed solve raises. If False, `solution.result` tells.

        Returns:
            The solution, as Diffrax gives it.
        """

    def solve_with_jumps(self, problem: Problem, y0: Any, args: Any) -> diffrax.Solution:
        """Solve an initial value problem whose state changes on the way.

        Each stretch between two changes is a solve of its own by
        [`diffeqsolve`][odecal.adjoints.AbstractAdjoint.diffeqsolve]. A strategy that can do better
        overrides this.

        Args:
            problem: the problem, with its `jumps`; it keeps states at given times, and its vector
                field is given `(args, between)` for `args`.
            y0: the initial state, a pytree of arrays.
            args: whatever the vector field and the jumps need, a pytree.

        Returns:
            The solution: the states kept, the number of steps, and whether it succeeded.

        Raises:
            ValueError: if the strategy cannot serve changes where a condition falls below zero.
        """
        assert problem.jumps is not None

        def solve(problem: Problem, y0: Any, args: Any) -> diffrax.Solution:
            return self.diffeqsolve(
                problem.terms,
                problem.solver,
                problem.t0,
                problem.t1,
                problem.dt0,
                y0,
                args,
                saveat=problem.saveat,
                stepsize_controller=problem.stepsize_controller,
                max_steps=problem.max_steps,
                throw=False,
            )

        return by_stretches(solve, problem, problem.jumps, y0, args)

    def check(self, solver: diffrax.AbstractSolver, max_steps: int | None) -> None:
        """Refuse a combination that cannot be right.

        Args:
            solver: the solver that the strategy would differentiate.
            max_steps: the largest number of steps of a solve.

        Raises:
            ValueError: if the strategy cannot serve that combination, with the remedy.
        """
        del solver, max_steps


class DiffraxAdjoint(AbstractAdjoint):
    """Any `diffrax.AbstractAdjoint`, used as it is.

    Args:
        adjoint: the Diffrax adjoint, for example `diffrax.RecursiveCheckpointAdjoint()`. With
            `diffrax.ForwardMode()` gradients are taken by `jax.jacfwd`, not `jax.grad`.
    """

    adjoint: diffrax.AbstractAdjoint

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
        """Solve by `diffrax.diffeqsolve(..., adjoint=self.adjoint)`."""
        if isinstance(self.adjoint, diffrax.BacksolveAdjoint):  # of the state and its cotangents
            stepsize_controller = uniform(stepsize_controller)
        return diffrax.diffeqsolve(
            terms,
            solver,
            t0,
            t1,
            dt0,
            y0,
            args,
            saveat=saveat,
            stepsize_controller=stepsize_controller,
            adjoint=self.adjoint,
            max_steps=max_steps,
            throw=throw,
        )

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
        The strategy behind the seam.

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
