"""How a system is solved."""

from copy import copy
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, ClassVar

import diffrax
import jax.numpy as jnp
import numpy as np

from odecal._errors import SettingsError
from odecal.adjoints import AbstractAdjoint, ExplicitForward, Forward, Limited, as_adjoint


@dataclass(frozen=True, eq=False)
class Solve:
    """The settings of a solve. The defaults suit a non-stiff system in double precision.

    Args:
        solver: an adaptive Diffrax solver of a single term. For a stiff system, an implicit one,
            such as `diffrax.Kvaerno5()`.
        rtol: relative tolerance of a step.
        atol: absolute tolerance of a step, in the unit of the states; well below the smallest
            value of a state that matters. None takes 1e-8, and of states that are smaller than
            0.01 less: 1e-8 of their magnitude, as initial values, doses and data tell it.
        max_steps: the largest number of steps; a solve that needs more has failed. None takes the
            strategy's `default_max_steps`: 65,536 by `ExplicitForward`, and 4096 by all others; and
            one more for each turn of an input, at which a step must end.
        adjoint: the gradient strategy: one of `odecal.adjoints`, or any `diffrax.AbstractAdjoint`.
            None leaves the choice to [`calibrate`][odecal.calibrate]; elsewhere it is
            `ExplicitForward` where that serves the solver, and `Forward` where it does not.
        dtype: `jnp.float64` or `jnp.float32`.

    Raises:
        SettingsError: if a setting cannot work, or the solver cannot serve the adjoint.
    """

    solver: diffrax.AbstractSolver = field(default_factory=diffrax.Tsit5)
    rtol: float = 1e-6
    atol: float | None = None
    max_steps: int | None = None
    adjoint: AbstractAdjoint | diffrax.AbstractAdjoint | None = None
    dtype: Any = jnp.float64

    # What both tolerances are multiplied by, which may be traced.
    loosened: ClassVar[Any] = 1.0

    @property
    def relative_tolerance(self) -> Any:
        """The relative tolerance in force."""
        return self.rtol * self.loosened

    @property
    def strategy(self) -> AbstractAdjoint:
        """The gradient strategy in force."""
        if self.adjoint is not None:
            return as_adjoint(self.adjoint)
        return ExplicitForward() if ExplicitForward.serves(self.solver) else Forward()

    @property
    def max_steps_or_default(self) -> int:
        """The largest number of steps, as asked for or as the strategy has it."""
        return self.strategy.default_max_steps if self.max_steps is None else self.max_steps

    def within(self, atol: Any) -> "Solve":
        """The same with an absolute tolerance, or one for each element, which is not checked."""
        other = copy(self)
        object.__setattr__(other, "atol", atol)
        return other

    def controller(self, limits: Any = None) -> Any:
        """What chooses the steps, where the absolute tolerance is known.

        The limits, of shape (n,), are times that no step passes, rising, infinity for none.
        """
        controller = diffrax.PIDController(rtol=self.relative_tolerance, atol=self.atol)
        return controller if limits is None or not len(limits) else Limited(controller, limits)

    def max_steps_past(self, limits: Any) -> int:
        """The largest number of steps, with one more for each of some limits unless asked for."""
        more = 0 if limits is None or self.max_steps is not None else limits.shape[-1]
        return self.max_steps_or_default + more

    @property
    def forward_mode(self) -> bool:
        """Whether gradients are to be taken by forward mode, outside as well as inside a solve."""
        return isinstance(getattr(self.adjoint, "adjoint", None), diffrax.ForwardMode)

    def scaled(self, factor: Any) -> "Solve":
        """The same with both tolerances times a factor, which may be traced: it is not checked."""
        other = copy(self)
        object.__setattr__(other, "loosened", self.loosened * factor)
        return other

    def __post_init__(self) -> None:
        _check_solver(self.solver)
        for name in ("rtol", "atol"):
            value = getattr(self, name)
            if name == "atol" and value is None:
                continue
            number = isinstance(value, Real) and not isinstance(value, bool)
            if not number or not 0 < value < float("inf"):
                raise SettingsError(
                    f"Solve({name}=...) expects a positive, finite number. Got {value!r}."
                )
            object.__setattr__(self, name, float(value))
        if self.max_steps is not None:
            object.__setattr__(self, "max_steps", _whole(self.max_steps))
        dtype = _dtype(self.dtype)
        if dtype is None:
            raise SettingsError(
                "Solve(dtype=...) expects jax.numpy.float64 or jax.numpy.float32. "
                f"Got {self.dtype!r}."
            )
        object.__setattr__(self, "dtype", dtype)
        try:
            if self.adjoint is not None:
                object.__setattr__(self, "adjoint", as_adjoint(self.adjoint))
            self.strategy.check(self.solver, self.max_steps_or_default)
        except (TypeError, ValueError) as error:
            raise SettingsError(
                f"Solve(solver={type(self.solver).__name__}(), adjoint=...) cannot work. {error}"
            ) from None


def _whole(steps: Any) -> int:
    """A number of steps."""
    if isinstance(steps, bool) or not isinstance(steps, Integral) or int(steps) < 1:
        raise SettingsError(
            f"Solve(max_steps=...) expects a whole number of at least 1. Got {steps!r}."
        )
    return int(steps)


def _dtype(given: Any) -> np.dtype | None:
    """One of the two floating types, or None for anything else."""
    for known in ("float64", "float32"):
        if given is not None and given in (np.dtype(known), known, getattr(jnp, known)):
            return np.dtype(known)
    return None


def _check_solver(solver: Any) -> None:
    """Refuse what cannot integrate one ordinary differential equation adaptively."""
    if not isinstance(solver, diffrax.AbstractSolver):
        raise SettingsError(
            f"Solve(solver=...) expects a Diffrax solver object, such as diffrax.Tsit5(). "
            f"Got {solver!r}."
        )
    name = type(solver).__name__
    if not isinstance(solver, diffrax.AbstractAdaptiveSolver):
        raise SettingsError(
            f"Solve(solver={name}()) expects a solver with an error estimate, since steps are "
            "adapted. Use diffrax.Tsit5() or, for a stiff system, diffrax.Kvaerno5()."
        )
    if solver.term_structure is not diffrax.AbstractTerm and not _takes_one_term(solver):
        raise SettingsError(
            f"Solve(solver={name}()) expects a solver of a single term, and {name} splits the "
            "equation into several. Use diffrax.Tsit5() or, for a stiff system, diffrax.Kvaerno5()."
        )


def _takes_one_term(solver: diffrax.AbstractSolver) -> bool:
    origin = getattr(solver.term_structure, "__origin__", solver.term_structure)
    return origin in (diffrax.ODETerm, diffrax.AbstractTerm)
