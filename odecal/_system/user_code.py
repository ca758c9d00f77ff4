"""Running functions that a user wrote."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp

from odecal._errors import DeclarationError, OdecalError

_NEEDS_VALUES = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


@contextmanager
def user_code(where: str) -> Iterator[None]:
    """Run a function that a user wrote, and say where it failed if it does.

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
        kind = "" if message else type(error).__name__
        raise DeclarationError(
            f"{where} failed: {message or kind}{'' if message.endswith('.') else '.'} Expected a "
            "function that runs on values that JAX traces. Correct it."
        ) from error


def real(where: str, value: Any, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """What a function that a user wrote returned, as real numbers of a shape.

    Raises:
        DeclarationError: if it is neither one number nor of the shape, or complex.
    """
    with user_code(where):
        array = jnp.asarray(value)
    if jnp.iscomplexobj(array) or array.shape not in ((), shape):
        got = "complex numbers" if jnp.iscomplexobj(array) else f"the shape {array.shape}"
        some = f"a single one or the shape {shape}" if shape else "a single one"
        raise DeclarationError(
            f"{where} is none: it has {got}. Expected real numbers, {some}. Correct the function."
        )
    return jnp.broadcast_to(array.astype(dtype), shape)
