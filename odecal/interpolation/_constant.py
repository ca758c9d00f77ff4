"""Steps that hold forward."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from odecal.interpolation._base import AbstractInterpolation


@dataclass(frozen=True)
class Constant(AbstractInterpolation):
    """Each sample holds until the next."""

    jumps: ClassVar[bool] = True

    def __call__(self, t: Any, times: jax.Array, coefficients: jax.Array) -> jax.Array:
        """The value at a time; at that of a sample, the new one."""
        i = jnp.clip(jnp.searchsorted(times, t, side="right") - 1, 0, len(times) - 1)
        return coefficients[i, 0]
