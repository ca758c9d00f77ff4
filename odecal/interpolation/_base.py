"""What an interpolation is."""

import abc
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

# As programs have them: the times of samples, their coefficients, and values at times asked for.
Times = Float[Array, " sample"]
Coefficients = Float[Array, "sample coefficient"]
Value = Float[Array, "..."]


@dataclass(frozen=True)
class AbstractInterpolation(abc.ABC):
    """What an input is between its samples.

    Attributes:
        jumps: whether it jumps at its samples, so that a solve stops there.
    """

    jumps: ClassVar[bool] = False

    def coefficients(
        self, times: Float[np.ndarray, " sample"], values: Float[np.ndarray, " sample"]
    ) -> Float[np.ndarray, "sample coefficient"]:
        """What is computed once of the samples.

        Args:
            times: of the samples, rising.
            values: of the samples.
        """
        del times
        return values[:, None]

    def turns(
        self,
        individual: Int[np.ndarray, " n"],
        times: Float[np.ndarray, " n"],
        values: Float[np.ndarray, " n"],
        rtol: float,
    ) -> Int[np.ndarray, " turn"]:
        """The samples that no step of a solve may pass, by number: all of them unless told better.

        None where it jumps: there a solve begins anew.

        Args:
            individual: whose each sample is; not decreasing.
            times: of the samples; rising within an individual.
            values: of the samples.
            rtol: the relative tolerance of the solve.
        """
        del individual, values, rtol
        return np.arange(0 if self.jumps else len(times))

    @abc.abstractmethod
    def __call__(self, t: ArrayLike, times: Times, coefficients: Coefficients) -> Value:
        """The value at a time."""

    def after(self, t: ArrayLike, times: Times, coefficients: Coefficients) -> Value:
        """The value just after a time, which differs from that at it where it jumps there."""
        return self(t, times, coefficients)

    def needed(self, values: Float[np.ndarray, " sample"]) -> Bool[np.ndarray, " sample"]:
        """Which samples tell it, where it jumps: by default those that differ from the one before.

        Args:
            values: of the samples of one individual.
        """
        return np.append(True, np.diff(values) != 0)
