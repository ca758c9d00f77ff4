"""Straight lines."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float, Int

from odecal.interpolation._base import AbstractInterpolation, Coefficients, Times, Value
from odecal.interpolation._turns import pieces_of, turns


@dataclass(frozen=True)
class Linear(AbstractInterpolation):
    """A straight line from each sample to the next."""

    def turns(
        self,
        individual: Int[np.ndarray, " n"],
        times: Float[np.ndarray, " n"],
        values: Float[np.ndarray, " n"],
        rtol: float,
    ) -> Int[np.ndarray, " turn"]:
        """Those between which it is smooth."""
        return turns(pieces_of(individual, times, values, None), rtol)

    def __call__(self, t: ArrayLike, times: Times, coefficients: Coefficients) -> Value:
        """The value at a time."""
        return jnp.interp(t, times, coefficients[:, 0])
