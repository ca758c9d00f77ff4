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

# The part of the variances of before that estimates are drawn towards: Stan's, where these are 1.
_SMALL = 1e-3
# To no less than this part of them all variances fall in a window.
_LEAST = 1e-4
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
    """The variances of a window, drawn a little towards small ones, as Stan does.

    For n draws, n/(n + 5) of the variance and 5/(n + 5) of 0.001 times that of before, at first the
    guess: Stan takes 0.001, whatever the unit.
    """

    def estimator(self, dim: int, longest: int) -> Estimator:
        """Build the estimator. See the base class."""
        del longest
        return _welford(dim, diagonal=True)


class DenseMetric(AbstractMetric):
    """The covariance of a window, drawn a little towards small variances, as Stan does.

    For n draws, n/(n + 5) of the covariance and 5/(n + 5) of 0.001 times the variances of before,
    at first the guess: Stan takes 0.001, whatever the unit.
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
        dense = _running(dim, diagonal=False)

        def shrunk(n: jax.Array, covariance: jax.Array, before: jax.Array) -> jax.Array:
            # What does not move at all has a variance nonetheless: a small part of that before.
            least = _LEAST * jnp.diag(before)
            return _shrink(covariance, n, least)

        return held(_welford_of(dense, shrunk))


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
        from odecal.samplers import _blackjax as blackjax

        recipe = replace(
            blackjax.METRIC_RECIPES["fisher_low_rank"], max_rank=min(self.max_rank, dim)
        )
        # It must hold a window: draws that do not fit would still be counted in the means.
        core = recipe.build_core(buffer_size=max(longest, 1))

        # It bounds what it divides by: very small and large coordinates are given it in others.
        def init(covariance: jax.Array) -> _Rounded:
            state = core.init(dim)
            scale = jnp.sqrt(as_diagonal(covariance))
            zero = jnp.asarray(0)
            begun: dict[str, Any] = {
                "buffer_idx": zero,
                "background_split": zero,
                "recompute_counter": zero,
            }
            usual = (scale > 1e-3) & (scale < 1e3)
            unit = jnp.where(usual, 1.0, scale)
            matrix = with_definite_types(state.inverse_mass_matrix._replace(sigma=scale))
            begun["inverse_mass_matrix"] = matrix._replace(sigma=scale / unit)
            return _Rounded(matrix, with_definite_types(state._replace(**begun)), unit)

        def update(state: _Rounded, position: jax.Array, gradient: jax.Array) -> _Rounded:
            scale = state.scale
            return state._replace(
                inner=core.update(state.inner, position / scale, gradient * scale)
            )

        def final(state: _Rounded) -> _Rounded:
            new = core.final(state.inner)
            inner = jax.tree.map(lambda old, x: jnp.asarray(x, old.dtype), state.inner, new)
            matrix = inner.inverse_mass_matrix
            matrix = matrix._replace(sigma=matrix.sigma * state.scale)
            return _Rounded(matrix, inner, state.scale)

        return held(Estimator(init, update, final))


class _Rounded(NamedTuple):
    """An estimate in other units, and its metric in the chain's."""

    inverse_mass_matrix: Any
    inner: Any
    scale: jax.Array


def default_metric(dim: int) -> AbstractMetric:
    """The metric that is taken where none is asked for: by measurement, see the documentation."""
    if dim > _MOST_SHRUNK:  # matrices would take longer than gradients
        return DiagonalMetric()
    return DenseMetric() if dim <= 100 else ShrunkMetric()


def _welford(dim: int, diagonal: bool) -> Estimator:
    """BlackJAX's running estimate, diagonal or dense, drawn a little towards small variances."""

    def drawn(n: jax.Array, covariance: jax.Array, before: jax.Array) -> jax.Array:
        small = _SMALL * as_diagonal(before)
        part = 5 / (n + 5)
        return (1 - part) * covariance + part * (small if diagonal else jnp.diag(small))

    return held(_welford_of(_running(dim, diagonal), drawn))


def _running(dim: int, diagonal: bool) -> Estimator:
    """BlackJAX's running estimate."""
    from odecal.samplers import _blackjax as blackjax

    init, update, final = blackjax.mass_matrix_adaptation(is_diagonal_matrix=diagonal)

    def from_guess(covariance: jax.Array) -> Any:
        guess = as_diagonal(covariance) if diagonal else as_matrix(covariance)
        return with_definite_types(init(dim, guess))

    return Estimator(from_guess, update, final)


def _welford_of(running: Estimator, made: Callable[..., jax.Array]) -> Estimator:
    """A running estimate whose metric is made of n draws' covariance and the metric before."""

    def final(state: Any) -> Any:
        n, m2 = state.wc_state.sample_size, state.wc_state.m2
        matrix = made(n, m2 / jnp.maximum(n - 1, 1), state.inverse_mass_matrix)
        return running.final(state)._replace(inverse_mass_matrix=matrix)

    return Estimator(running.init, running.update, final)


class Held(NamedTuple):
    """An estimate, and how much of the window's draws moved.

    Args:
        inner: the estimate itself.
        last: the position before, of shape (dim,); not numbers at first.
        drawn: the draws of the window.
        moves: how many of them moved.
    """

    inner: Any
    last: jax.Array
    drawn: jax.Array
    moves: jax.Array

    @property
    def inverse_mass_matrix(self) -> Any:
        """The metric."""
        return self.inner.inverse_mass_matrix


def held(estimator: Estimator) -> Estimator:
    """An estimator whose metric does not collapse in a window in which little moved.

    With fewer than a quarter of the draws moved, the metric before has its part, all of it where
    none moved. And all variances together never fall to less than a ten-thousandth in a window:
    where scales are smaller, the next windows find them.
    """

    def init(covariance: jax.Array) -> Held:
        none = jnp.zeros((), jnp.int32)
        last = jnp.full(covariance.shape[:1], jnp.nan, covariance.dtype)
        return Held(estimator.init(covariance), last, none, none)

    def update(state: Held, position: jax.Array, gradient: jax.Array) -> Held:
        moved = jnp.any(position != state.last) & jnp.all(jnp.isfinite(state.last))
        inner = estimator.update(state.inner, position, gradient)
        moves = state.moves + moved.astype(jnp.int32)
        return Held(inner, position, state.drawn + 1, moves)

    def final(state: Held) -> Held:
        before = state.inverse_mass_matrix
        inner = estimator.final(state.inner)
        part = jnp.minimum(1.0, 4 * state.moves / jnp.maximum(state.drawn, 1))
        matrix = _mixed(before, inner.inverse_mass_matrix, part)
        none = jnp.zeros_like(state.drawn)
        inner = inner._replace(inverse_mass_matrix=matrix)
        return Held(inner, state.last, none, none)

    return Estimator(init, update, final)


def _mixed(before: Any, new: Any, part: jax.Array) -> Any:
    """A metric with so much of a new one, which is not to be far smaller altogether."""
    if hasattr(new, "_fields"):  # of low rank: a scale and directions
        ratio = jnp.max(new.sigma / before.sigma) ** 2
        sigma = jnp.where(ratio < _LEAST, new.sigma + _LEAST**0.5 * before.sigma, new.sigma)
        good = (part >= 1) & jnp.all(jnp.isfinite(sigma)) & jnp.all(sigma > 0)
        new = new._replace(sigma=sigma)
        return jax.tree.map(lambda a, b: jnp.where(good, b, a), before, new)
    variances = [x if x.ndim == 1 else jnp.diag(x) for x in (before, new)]
    ratio = jnp.max(variances[1] / variances[0])
    part = part.astype(new.dtype)
    mixed = part * new + (1 - part + jnp.where(ratio < _LEAST, _LEAST, 0.0)) * before
    return jnp.where((part == 0) | ~jnp.all(jnp.isfinite(mixed)), before, mixed)


def with_definite_types(state: Any) -> Any:
    """The same state with every leaf an array of a definite type, as loops need."""
    return jax.tree.map(lambda x: jax.lax.convert_element_type(x, jnp.asarray(x).dtype), state)


def _shrink(covariance: jax.Array, n: jax.Array, least: jax.Array) -> jax.Array:
    """A covariance with its correlations shrunk towards none, and no variance below the least."""
    p = len(covariance)
    scale = jnp.sqrt(jnp.maximum(jnp.diag(covariance), least))
    one = jnp.eye(p, dtype=covariance.dtype)
    correlation = jnp.where(one > 0, one, covariance / scale[:, None] / scale)
    square = jnp.sum(correlation**2)
    excess = jnp.maximum(square - p, 1e-12)
    rho = ((1 - 2 / p) * square + p**2) / ((n + 1 - 2 / p) * excess)
    rho = jnp.clip(rho, 0.0, 1.0)
    mixed = (1 - rho) * correlation + rho * one
    return mixed * scale[:, None] * scale
