"""Solves that fail silently, so that one failure does not end a whole program."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_UNSET: Any = object()


@contextmanager
def no_runtime_errors() -> Iterator[None]:
    """Trace without Equinox's run-time errors: what fails gives a value that is not finite.

    `throw=False` keeps a Diffrax solve from raising, but not its derivative: the linear solves in
    the derivative of an implicit step raise unconditionally where the Jacobian has overflowed,
    and one bad draw of a sampler would end the run. Equinox reads what to do with an error while
    it traces, from the setting that the environment variable `EQX_ON_ERROR` gives; this sets it to
    "off" for the traces made inside, and puts it back. Programs made so also carry no host
    callbacks.
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
