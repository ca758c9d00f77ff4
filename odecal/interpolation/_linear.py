"""Straight lines."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from odecal.interpolation._base import AbstractInterpolation
from odecal.interpolation._turns import pieces_of, turns


@dataclass(frozen=True)
class Linear(AbstractInterpolation):
    """A straight line from each sample to the next."""

    def turns(
        self, individual: np.ndarray, times: np.ndarray, values: np.ndarray, rtol: float
    ) -> np.ndarray:
        """Those between which it is smooth."""
        return turns(pieces_of(individual, times, values, None), rtol)

    def __call__(self, t: Any, times: jax.Array, coefficients: jax.Array) -> jax.Array:
        """The value at a time."""
        return jnp.interp(t, times, coefficients[:, 0])
