"""The protocol: what every gradient strategy owes, and how any of them is called."""

import abc
from typing import Any, ClassVar

import diffrax
import equinox as eqx
from odecal.adjoints._problem import Problem, raise_if_failed
from odecal.adjoints._properties import Properties
from odecal.adjoints._segments import solve_segments


class AbstractAdjoint(eqx.Module):
    """A strategy for differentiating a Diffrax solve.

    To write one of your own:

    - Subclass this class in a file of its own, and give
      [`solve`][odecal.adjoints.AbstractAdjoint.solve]: a solution whose `ys` can be differentiated
      with respect to `y0` and `args`. For forward mode, subclass
      [`AbstractSensitivities`][odecal.adjoints.AbstractSensitivities] and give a Jacobian.
    - Declare its `properties`, and say in its docstring whether the gradient is exact, what it
      costs, and what it does not serve.
    - Where it cannot be right, refuse in
      [`check`][odecal.adjoints.AbstractAdjoint.check], or give NaN: never a wrong number.

    Attributes:
        properties: what the strategy is and what it serves; None where that is not known.
        batched: whether many solves that are mapped go faster than one after another also on a
            CPU. Where they do not, a mapped loop waits for its slowest member, and copies much.
        serves_jumps: whether `solve` takes a problem with jumps. Where it does not, it is called
            for each segment between two jumps.
        default_max_steps: the largest number of steps where none is asked for.
    """

    properties: ClassVar[Properties | None] = None
    batched: ClassVar[bool] = False
    serves_jumps: ClassVar[bool] = False
    default_max_steps: ClassVar[int] = 4096

    @abc.abstractmethod
    def solve(self, problem: Problem, y0: Any, args: Any) -> diffrax.Solution:
        """Solve dy/dt = f(t, y, args), y(t0) = y0, without raising where that fails.

        Args:
            problem: the problem; with jumps only where the strategy `serves_jumps`.
            y0: the initial state, a pytree of arrays.
            args: whatever the vector field needs, a pytree.

        Returns:
            The solution, whose `ys` can be differentiated with respect to `y0` and `args`, and
            whose `result` tells whether it failed.
        """

    @abc.abstractmethod
    def check(self, solver: diffrax.AbstractSolver, max_steps: int | None) -> None:
        """Refuse a combination that cannot be right.

        Args:
            solver: the solver that the strategy would differentiate.
            max_steps: the largest number of steps of a solve.

        Raises:
            ValueError: if the strategy cannot serve that combination, with the remedy.
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
        """Solve the initial value problem dy/dt = f(t, y, args), y(t0) = y0.

        The arguments and the result are those of `diffrax.diffeqsolve`.

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

        Raises:
            ValueError: if the strategy cannot serve these terms, or what is to be saved.
        """
        problem = Problem(terms, solver, t0, t1, dt0, saveat, stepsize_controller, max_steps)
        solution = self.solve(problem, y0, args)
        return raise_if_failed(solution) if throw else solution

    def solve_with_jumps(self, problem: Problem, y0: Any, args: Any) -> diffrax.Solution:
        """Solve an initial value problem whose state changes on the way, without raising.

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
        if self.serves_jumps:
            return self.solve(problem, y0, args)
        return solve_segments(self.solve, problem, y0, args)
