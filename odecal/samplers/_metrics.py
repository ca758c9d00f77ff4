"""Metrics of Hamiltonian samplers: how the inverse mass matrix is estimated in warm-up."""

import abc
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from odecal._errors import SettingsError
from odecal.samplers._base import as_diagonal, as_matrix

# The largest dimension for which a matrix is estimated by default.
_MOST_SHRUNK = 500


class Estimator(NamedTuple):
    """The pure functions that estimate an inverse mass matrix from the draws of a window.

    Args:
        init: `init(covariance) -> state`, from a first guess of shape (dim, dim). A state has an
            `inverse_mass_matrix`, in a form that BlackJAX's samplers take.
        update: `update(state, position, gradient) -> state` takes one draw in.
        final: `final(state) -> state` makes the estimate and empties the window.
    """

    init: Callable[[jax.Array], Any]
    update: Callable[[Any, jax.Array, jax.Array], Any]
    final: Callable[[Any], Any]


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
    """The variances of a window, drawn a little towards a small constant, as Stan does.

    For n draws, n/(n + 5) of the variance and 5/(n + 5) of 0.001.
    """

    def estimator(self, dim: int, longest: int) -> Estimator:
        """Build the estimator. See the base class."""
        del longest
        return _welford(dim, diagonal=True)


class DenseMetric(AbstractMetric):
    """The covariance of a window, drawn a little towards a small multiple of the identity.

    For n draws, n/(n + 5) of the covariance and 5/(n + 5) of 0.001 times the identity, as Stan
    does.
    """

    def estimator(self, dim: int, longest: int) -> Estimator:
        """Build the estimator. See the base class."""
        del longest
        return _welford(dim, diagonal=False)


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
        dense = _welford(dim, diagonal=False)

        def final(state: Any) -> Any:
            n, m2 = state.wc_state.sample_size, state.wc_state.m2
            covariance = m2 / jnp.maximum(n - 1, 1)
            return dense.final(state)._replace(inverse_mass_matrix=_shrink(covariance, n))

        return Estimator(dense.init, dense.update, final)


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
        from blackjax.adaptation.metric_recipes import REGISTRY

        recipe = replace(REGISTRY["fisher_low_rank"], max_rank=min(self.max_rank, dim))
        # It must hold a window: draws that do not fit would still be counted in the means.
        core = recipe.build_core(buffer_size=max(longest, 1))

        def init(covariance: jax.Array) -> Any:
            state = core.init(dim)
            scale = jnp.sqrt(as_diagonal(covariance))
            return with_definite_types(
                state._replace(
                    inverse_mass_matrix=state.inverse_mass_matrix._replace(sigma=scale),
                    buffer_idx=jnp.asarray(0),
                    background_split=jnp.asarray(0),
                    recompute_counter=jnp.asarray(0),
                )
            )

        def final(state: Any) -> Any:
            new = core.final(state)
            return jax.tree.map(lambda old, x: jnp.asarray(x, old.dtype), state, new)

        return Estimator(init, core.update, final)


def default_metric(dim: int) -> AbstractMetric:
    """The metric that is taken where none is asked for: by measurement, see the documentation."""
    if dim > _MOST_SHRUNK:  # matrices would take longer than gradients
        return DiagonalMetric()
    return DenseMetric() if dim <= 100 else ShrunkMetric()


def _welford(dim: int, diagonal: bool) -> Estimator:
    """BlackJAX's running estimate, diagonal or dense."""
    from blackjax.adaptation.mass_matrix import mass_matrix_adaptation

    init, update, final = mass_matrix_adaptation(is_diagonal_matrix=diagonal)

    def from_guess(covariance: jax.Array) -> Any:
        guess = as_diagonal(covariance) if diagonal else as_matrix(covariance)
        return with_definite_types(init(dim, guess))

    return Estimator(from_guess, update, final)


def with_definite_types(state: Any) -> Any:
    """The same state with every leaf an array of a definite type, as loops need."""
    return jax.tree.map(lambda x: jax.lax.convert_element_type(x, jnp.asarray(x).dtype), state)


def _shrink(covariance: jax.Array, n: jax.Array) -> jax.Array:
    """A covariance with its correlations shrunk towards none."""
    p = len(covariance)
    scale = jnp.sqrt(jnp.diag(covariance)) + 1e-12
    correlation = covariance / (scale[:, None] * scale)
    square = jnp.sum(correlation**2)
    excess = jnp.maximum(square - p, 1e-12)
    rho = ((1 - 2 / p) * square + p**2) / ((n + 1 - 2 / p) * excess)
    rho = jnp.clip(rho, 0.0, 1.0)
    mixed = (1 - rho) * correlation + rho * jnp.eye(p, dtype=covariance.dtype)
    return mixed * (scale[:, None] * scale)
