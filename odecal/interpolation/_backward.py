"""Steps that hold backward."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Bool, Float

from odecal.interpolation._base import AbstractInterpolation, Coefficients, Times, Value


@dataclass(frozen=True)
class Backward(AbstractInterpolation):
    """Each sample holds back to the one before: the next observation carried backward.

    So does NONMEM, whose integration to a record goes by the values in that record.
    """

    jumps: ClassVar[bool] = True

    def needed(self, values: Float[np.ndarray, " sample"]) -> Bool[np.ndarray, " sample"]:
        """Those that differ from the one after."""
        return np.append(np.diff(values) != 0, True)

    def __call__(self, t: ArrayLike, times: Times, coefficients: Coefficients) -> Value:
        """The value at a time; at that of a sample, this one."""
        i = jnp.clip(jnp.searchsorted(times, t, side="left"), 0, len(times) - 1)
        return coefficients[i, 0]

    def after(self, t: ArrayLike, times: Times, coefficients: Coefficients) -> Value:
        """The value just after a time; after that of a sample, the next one."""
        i = jnp.clip(jnp.searchsorted(times, t, side="right"), 0, len(times) - 1)
        return coefficients[i, 0]
