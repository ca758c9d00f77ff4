"""Mistakes in doses and events, found when the class is made."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from odecal._errors import DeclarationError, listed, suggestion
from odecal._system.declaration import Declaration
from odecal._system.inputs import Dosing, Event
from odecal._system.user_code import user_code
from odecal._system.values import Values


def check_dosing(where: str, dosing: Dosing, p: Values) -> None:
    """Refuse a lag, a bioavailability, a rate or a duration that is no number.

    Args:
        where: the state, for messages.
        dosing: how doses reach it.
        p: the parameters, traced.

    Raises:
        DeclarationError: for the first that is none.
    """
    for name in ("lag", "bioavailability", "rate", "duration"):
        function = getattr(dosing, name)
        if callable(function):
            with user_code(f"The {name} of doses into {where}"):
                value = jnp.asarray(function(p))
            check_real(where, f"{name} of doses", value)
            check_shape(where, f"{name} of doses", value.shape, ())


def check_event(declaration: Declaration, name: str, event: Event, inside: Any) -> None:
    """Refuse an event whose condition is no number, or that changes what is no state.

    Args:
        declaration: the system.
        name: of the event.
        event: it.
        inside: what its functions are given, traced.

    Raises:
        DeclarationError: if something does not fit.
    """
    where = f"{declaration.name}.{name}"
    with user_code(f"The condition of {where}"):
        condition = jnp.asarray(event.condition(*inside))
    check_real(where, "condition", condition)
    check_shape(where, "condition", condition.shape, ())
    with user_code(f"The change of {where}"):
        change = event.change(*inside)
    if not isinstance(change, Mapping):
        raise DeclarationError(
            f"The change of {where} returns a {type(change).__name__}. Expected a dict with the "
            f"new value of each state that changes, some of: {listed(declaration.states)}."
        )
    for state, value in change.items():
        if state not in declaration.states:
            raise DeclarationError(
                f"The change of {where} gives a value to `{state}`, which is no state. Expected "
                f"some of: {listed(declaration.states)}." + suggestion(state, declaration.states)
            )
        with user_code(f"The change of {where}"):
            new = jnp.asarray(value)
        check_real(where, f"new value of `{state}`", new)
        check_shape(where, f"new value of `{state}`", new.shape, declaration.shape(state))


def check_real(where: str, what: str, value: Any) -> None:
    """Refuse complex numbers, whose imaginary part would be lost.

    Raises:
        DeclarationError: for these.
    """
    if jnp.iscomplexobj(value):
        raise DeclarationError(
            f"The {what} of {where} is complex. Expected real numbers. Take what is meant: its "
            "real part, jnp.real(...), or its modulus, jnp.abs(...)."
        )


def check_shape(where: str, what: str, got: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Refuse a result of another shape than was declared.

    Raises:
        DeclarationError: for that.
    """
    if got != expected:
        raise DeclarationError(
            f"The {what} of {where} has the wrong shape. Expected {expected}, as declared by its "
            f"dims. Got {got}."
        )
