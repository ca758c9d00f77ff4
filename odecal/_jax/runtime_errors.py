"""Solves that fail silently, so that one failure does not end a whole program."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_UNSET: Any = object()


@contextmanager
def no_runtime_errors() -> Iterator[None]:
    """Compile without Equinox's run-time errors: what fails gives a value that is not finite.

    `throw=False` keeps a Diffrax solve from raising, but not its derivative: the linear solves in
    the derivative of an implicit step raise unconditionally where the Jacobian has overflowed,
    perhaps in a step that is rejected anyway, and one bad draw would end the run. Equinox reads
    what to do with an error when a program is made, from a setting that it takes from the
    environment (`EQX_ON_ERROR`) when imported; this sets it to "off" for the programs made inside,
    and puts it back. Such programs also carry no host callbacks.
    """
    import equinox._errors as errors

    before = getattr(errors, "EQX_ON_ERROR", _UNSET)
    if before is not _UNSET:
        errors.EQX_ON_ERROR = "off"
    try:
        yield
    finally:
        if before is not _UNSET:
            errors.EQX_ON_ERROR = before
