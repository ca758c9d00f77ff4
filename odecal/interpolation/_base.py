"""What an interpolation is."""

import abc
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import numpy as np


@dataclass(frozen=True)
class AbstractInterpolation(abc.ABC):
    """What an input is between its samples.

    Attributes:
        jumps: whether it jumps at its samples, so that a solve stops there.
    """

    jumps: ClassVar[bool] = False

    def coefficients(self, times: np.ndarray, values: np.ndarray) -> np.ndarray:
        """What is computed once of the samples, of shape (sample, coefficient).

        Args:
            times: rising, of shape (sample,).
            values: of shape (sample,).
        """
        del times
        return values[:, None]

    def turns(
        self, individual: np.ndarray, times: np.ndarray, values: np.ndarray, rtol: float
    ) -> np.ndarray:
        """The samples that no step of a solve may pass, by number: all of them unless told better.

        None where it jumps: there a solve begins anew.

        Args:
            individual: whose each sample is, of shape (n,); not decreasing.
            times: of shape (n,); rising within an individual.
            values: of shape (n,).
            rtol: the relative tolerance of the solve.
        """
        del individual, values, rtol
        return np.arange(0 if self.jumps else len(times))

    @abc.abstractmethod
    def __call__(self, t: Any, times: jax.Array, coefficients: jax.Array) -> jax.Array:
        """The value at a time."""

    def after(self, t: Any, times: jax.Array, coefficients: jax.Array) -> jax.Array:
        """The value just after a time, which differs from that at it where it jumps there."""
        return self(t, times, coefficients)

    def needed(self, values: np.ndarray) -> np.ndarray:
        """Which samples tell it, where it jumps: by default those that differ from the one before.

        Args:
            values: of one individual, of shape (sample,).
        """
        return np.append(True, np.diff(values) != 0)
