"""Metrics of Hamiltonian samplers: how the inverse mass matrix is estimated in warm-up."""

import abc
from typing import ClassVar

import equinox as eqx

from odecal._errors import SettingsError
from odecal.samplers._estimators import (
    Estimator,
    drawn_to_small,
    low_rank,
    running_covariance,
    shrunk,
)

# The largest dimension for which a matrix is estimated by default.
_MOST_SHRUNK = 500


class AbstractMetric(eqx.Module):
    """How the inverse mass matrix of a Hamiltonian sampler is estimated.

    Attributes:
        settling: transitions before the first window; Stan's, as that of the window.
        first_window: transitions of the first window, each of the next being twice as long.
    """

    settling: ClassVar[int] = 75
    first_window: ClassVar[int] = 25

    @abc.abstractmethod
    def estimator(self, dim: int, longest: int) -> Estimator:
        """Build the estimator.

        Args:
            dim: the number of dimensions.
            longest: transitions of the longest window.

        Returns:
            Its functions.
        """


class DiagonalMetric(AbstractMetric):
    """The variances of a window, drawn a little towards small ones, as Stan does.

    For n draws, n/(n + 5) of the variance and 5/(n + 5) of 0.001 times that of before, at first the
    guess: Stan takes 0.001, whatever the unit.
    """

    def estimator(self, dim: int, longest: int) -> Estimator:
        """Build the estimator. See the base class."""
        del longest
        return running_covariance(dim, True, drawn_to_small)


class DenseMetric(AbstractMetric):
    """The covariance of a window, drawn a little towards small variances, as Stan does.

    For n draws, n/(n + 5) of the covariance and 5/(n + 5) of 0.001 times the variances of before,
    at first the guess: Stan takes 0.001, whatever the unit.
    """

    def estimator(self, dim: int, longest: int) -> Estimator:
        """Build the estimator. See the base class."""
        del longest
        return running_covariance(dim, False, drawn_to_small)


class ShrunkMetric(AbstractMetric):
    """The covariance of a window, its correlations shrunk by as much as the draws are few.

    The correlation matrix R of n draws becomes (1 − ρ) R + ρ I, with the ρ of oracle approximating
    shrinkage: with p dimensions, ρ = ((1 − 2/p) tr R² + p²) / ((n + 1 − 2/p) (tr R² − p)), at most
    1. So few draws give nearly a diagonal, many a dense metric.

    Source: Chen, Wiesel, Eldar and Hero (2010), https://doi.org/10.1109/TSP.2010.2053029.
    """

    def estimator(self, dim: int, longest: int) -> Estimator:
        """Build the estimator. See the base class."""
        del longest
        return running_covariance(dim, False, shrunk)


class LowRankMetric(AbstractMetric):
    """A diagonal and a few directions, from the positions and gradients of a window.

    It costs O(dim × rank) a step where a dense metric costs O(dim²), and needs fewer draws than
    dimensions. The directions are those in which draws and gradients together say most.

    Source: the estimate of nutpie, https://github.com/pymc-devs/nutpie, in BlackJAX's
    implementation: the metric that minimises the Fisher divergence to a Gaussian.

    Args:
        max_rank: the largest number of directions.

    Raises:
        SettingsError: if it is not at least 1.
    """

    settling: ClassVar[int] = 5
    first_window: ClassVar[int] = 5

    max_rank: int = 10

    def __check_init__(self) -> None:
        if isinstance(self.max_rank, bool) or not isinstance(self.max_rank, int):
            raise SettingsError(
                f"LowRankMetric(max_rank=...) expects a whole number. Got {self.max_rank!r}."
            )
        if self.max_rank < 1:
            raise SettingsError(
                f"LowRankMetric(max_rank=...) expects at least 1. Got {self.max_rank}."
            )

    def estimator(self, dim: int, longest: int) -> Estimator:
        """Build the estimator. See the base class."""
        return low_rank(dim, self.max_rank, longest)


def default_metric(dim: int) -> AbstractMetric:
    """The metric that is taken where none is asked for: by measurement, see the documentation."""
    if dim > _MOST_SHRUNK:  # matrices would take longer than gradients
        return DiagonalMetric()
    return DenseMetric() if dim <= 100 else ShrunkMetric()
