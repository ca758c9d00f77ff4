"""Running functions that a user wrote."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax

from odecal._errors import DeclarationError, OdecalError

_NEEDS_VALUES = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


@contextmanager
def user_code(where: str) -> Iterator[None]:
    """Run a function that a user wrote, and say where it failed if it does.

    Args:
        where: what is being run, for the message.

    Raises:
        DeclarationError: if it raises.
    """
    try:
        yield
    except OdecalError:
        raise
    except _NEEDS_VALUES as error:
        raise DeclarationError(
            f"{where} decides by the value of a state, a parameter or time (`if`, `while`, "
            "`float()`, a NumPy function). Expected only operations that JAX can trace. Use "
            "jnp.where(condition, a, b) and jax.numpy."
        ) from error
    except Exception as error:
        # JAX appends advice on its own tracebacks, after a line of dashes.
        message = str(error).split("\n-----")[0].strip()
        raise DeclarationError(f"{where} failed: {message}") from error
