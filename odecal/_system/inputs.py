"""What drives a system from outside, and what changes its state on the way."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from odecal._errors import DeclarationError
from odecal._system.base import Component, check_column, is_number, num_positional, shown
from odecal.interpolation import AbstractInterpolation, Linear


@dataclass(frozen=True, eq=False)
class Dosing:
    """How doses reach a state. Each is a number, or a function of the parameters, `lambda p: ...`.

    An input is in `p` with its value at the time of the dose's record: what differs between doses,
    such as a formulation, is an `Input` that these functions read.

    Args:
        lag: the time from when a dose is given to when it arrives, in the system's unit of time.
        bioavailability: the part of a dose that arrives.
        rate: the rate of infusions whose record leaves it to the model (RATE −1).
        duration: the duration of infusions whose record leaves it to the model (RATE −2).

    Raises:
        DeclarationError: if one is neither a number nor such a function, or negative.
    """

    lag: Any = 0.0
    bioavailability: Any = 1.0
    rate: Any = None
    duration: Any = None

    def __post_init__(self) -> None:
        for name in ("lag", "bioavailability", "rate", "duration"):
            value = getattr(self, name)
            if value is None and name in ("rate", "duration"):
                continue
            number = is_number(value) and np.ndim(value) == 0 and value >= 0
            if not number and num_positional(value) != 1:
                raise DeclarationError(
                    f"Dosing({name}=...) expects a number of at least 0, or a function of the "
                    f"parameters, `lambda p: ...`. Got {shown(value)}."
                )


@dataclass(frozen=True, eq=False)
class Input(Component):
    """What drives the system in time, from a column of the table: a temperature, a current.

    It is `p.<name>` in the vector field and in observables: its value at their time.

    Args:
        column: the column; None takes the name of the attribute. Empty cells are times at which
            it was not sampled.
        interpolation: between samples, one of `odecal.interpolation`: `Linear()`, `Hermite()` or
            `Constant()`, which holds each until the next, or `Backward()`, which holds each back
            to the one before, as NONMEM does.
        unit: the unit.
        description: one line.

    Raises:
        DeclarationError: if the column is no name, or the interpolation none.
    """

    column: str | None = None
    interpolation: Any = None
    unit: str = ""
    dims: Any = field(default=(), init=False)
    description: str = ""

    def check(self) -> None:
        """Refuse what cannot be declared."""
        object.__setattr__(self, "interpolation", _as_interpolation(self.interpolation))
        check_column(self, self.column)


@dataclass(frozen=True, eq=False)
class Event(Component):
    """A change of the state wherever a condition falls below zero, after which the solve goes on.

        spike = Event(lambda t, y, p: p.threshold - y.v, lambda t, y, p: {"v": p.rest})

    Args:
        condition: a scalar function of (t, y, p), positive before the event.
        change: a function of (t, y, p) that gives the new value of each state that changes.
        description: one line.

    Raises:
        DeclarationError: unless both are functions of three arguments.
    """

    condition: Callable[[Any, Any, Any], Any]
    change: Callable[[Any, Any, Any], Any]
    unit: str = field(default="", init=False)
    dims: Any = field(default=(), init=False)
    description: str = ""

    def check(self) -> None:
        """Refuse what cannot be declared."""
        for name in ("condition", "change"):
            function = getattr(self, name)
            if num_positional(function) != 3:
                raise DeclarationError(
                    f"Event({name}=...) expects a function of (t, y, p). Got {shown(function)}."
                )


def _as_interpolation(interpolation: Any) -> AbstractInterpolation:
    if interpolation is None:
        return Linear()
    if isinstance(interpolation, type) and issubclass(interpolation, AbstractInterpolation):
        interpolation = interpolation()
    if not isinstance(interpolation, AbstractInterpolation):
        raise DeclarationError(
            "Input(interpolation=...) expects an object of odecal.interpolation: Linear(), "
            f"Hermite(), Constant() or Backward(). Got {shown(interpolation)}."
        )
    return interpolation
