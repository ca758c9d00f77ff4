"""Steps that hold forward."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import ArrayLike

from odecal.interpolation._base import AbstractInterpolation, Coefficients, Times, Value


@dataclass(frozen=True)
class Constant(AbstractInterpolation):
    """Each sample holds until the next."""

    jumps: ClassVar[bool] = True

    def __call__(self, t: ArrayLike, times: Times, coefficients: Coefficients) -> Value:
        """The value at a time; at that of a sample, the new one."""
        i = jnp.clip(jnp.searchsorted(times, t, side="right") - 1, 0, len(times) - 1)
        return coefficients[i, 0]
