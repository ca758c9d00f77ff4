"""Estimators of the inverse mass matrix from the draws of a window of warm-up."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from odecal.samplers._base import Covariance, as_diagonal, as_matrix

# The part of the variances of before that estimates are drawn towards: Stan's, where these are 1.
_SMALL = 1e-3
# To no less than this part of them all variances fall in a window.
_LEAST = 1e-4


class Estimator(NamedTuple):
    """The pure functions that estimate an inverse mass matrix from the draws of a window.

    Args:
        init: `init(covariance) -> state`, from a first guess. A state has an `inverse_mass_matrix`,
            in a form that BlackJAX's samplers take.
        update: `update(state, position, gradient) -> state` takes one draw in.
        final: `final(state) -> state` makes the estimate and empties the window.
    """

    init: Callable[[jax.Array], Any]
    update: Callable[[Any, jax.Array, jax.Array], Any]
    final: Callable[[Any], Any]


def running_covariance(dim: int, diagonal: bool, made: Callable[..., jax.Array]) -> Estimator:
    """BlackJAX's running estimate of a covariance, or of variances alone if it is diagonal.

    The metric is `made(n, covariance, before)`, from n draws' covariance and the metric before.
    """
    from odecal.samplers import _blackjax as blackjax

    begin, update, end = blackjax.mass_matrix_adaptation(is_diagonal_matrix=diagonal)

    def init(covariance: Covariance) -> Any:
        guess = as_diagonal(covariance) if diagonal else as_matrix(covariance)
        return with_definite_types(begin(dim, guess))

    def final(state: Any) -> Any:
        n, m2 = state.wc_state.sample_size, state.wc_state.m2
        matrix = made(n, m2 / jnp.maximum(n - 1, 1), state.inverse_mass_matrix)
        return end(state)._replace(inverse_mass_matrix=matrix)

    return without_collapse(Estimator(init, update, final))


def drawn_to_small(n: jax.Array, covariance: Covariance, before: Covariance) -> Covariance:
    """Variances, or a covariance, drawn a little towards small variances, as Stan does."""
    small = _SMALL * as_diagonal(before)
    part = 5 / (n + 5)
    return (1 - part) * covariance + part * (small if before.ndim == 1 else jnp.diag(small))


def shrunk(
    n: jax.Array, covariance: Float[Array, "dim dim"], before: Float[Array, "dim dim"]
) -> Float[Array, "dim dim"]:
    """A covariance with its correlations shrunk towards none, by as much as draws are few."""
    # What does not move at all has a variance nonetheless: a small part of that before.
    least = _LEAST * jnp.diag(before)
    p = len(covariance)
    scale = jnp.sqrt(jnp.maximum(jnp.diag(covariance), least))
    one = jnp.eye(p, dtype=covariance.dtype)
    correlation = jnp.where(one > 0, one, covariance / scale[:, None] / scale)
    square = jnp.sum(correlation**2)
    excess = jnp.maximum(square - p, 1e-12)
    rho = jnp.clip(((1 - 2 / p) * square + p**2) / ((n + 1 - 2 / p) * excess), 0.0, 1.0)
    return ((1 - rho) * correlation + rho * one) * scale[:, None] * scale


def low_rank(dim: int, max_rank: int, longest: int) -> Estimator:
    """BlackJAX's estimate of a diagonal and a few directions, of windows up to the longest."""
    from odecal.samplers import _blackjax as blackjax

    recipe = replace(blackjax.METRIC_RECIPES["fisher_low_rank"], max_rank=min(max_rank, dim))
    # It must hold a window: draws that do not fit would still be counted in the means.
    core = recipe.build_core(buffer_size=max(longest, 1))

    # It bounds what it divides by: very small and large coordinates are given it in others.
    def init(covariance: jax.Array) -> _Scaled:
        state = core.init(dim)
        scale = jnp.sqrt(as_diagonal(covariance))
        counters = ("buffer_idx", "background_split", "recompute_counter")
        begun: dict[str, Any] = dict.fromkeys(counters, jnp.asarray(0))
        usual = (scale > 1e-3) & (scale < 1e3)
        unit = jnp.where(usual, 1.0, scale)
        matrix = with_definite_types(state.inverse_mass_matrix._replace(sigma=scale))
        begun["inverse_mass_matrix"] = matrix._replace(sigma=scale / unit)
        return _Scaled(matrix, with_definite_types(state._replace(**begun)), unit)

    def update(state: _Scaled, position: jax.Array, gradient: jax.Array) -> _Scaled:
        scale = state.scale
        return state._replace(inner=core.update(state.inner, position / scale, gradient * scale))

    def final(state: _Scaled) -> _Scaled:
        new = core.final(state.inner)
        inner = jax.tree.map(lambda old, x: jnp.asarray(x, old.dtype), state.inner, new)
        matrix = inner.inverse_mass_matrix
        matrix = matrix._replace(sigma=matrix.sigma * state.scale)
        return _Scaled(matrix, inner, state.scale)

    return without_collapse(Estimator(init, update, final))


class _Scaled(NamedTuple):
    """An estimate in other units, and its metric in the chain's."""

    inverse_mass_matrix: Any
    inner: Any
    scale: Float[Array, " dim"]


class _Window(NamedTuple):
    """An estimate, and how many of the window's draws moved."""

    inner: Any
    last: Float[Array, " dim"]  # the position before; not numbers at first
    drawn: Int[Array, ""]
    moves: Int[Array, ""]

    @property
    def inverse_mass_matrix(self) -> Any:
        """The metric."""
        return self.inner.inverse_mass_matrix


def without_collapse(estimator: Estimator) -> Estimator:
    """An estimator whose metric does not collapse in a window in which little moved.

    With fewer than a quarter of the draws moved, the metric before has its part, all of it where
    none moved. And all variances together never fall to less than a ten-thousandth in a window:
    where scales are smaller, the next windows find them.
    """

    def init(covariance: jax.Array) -> _Window:
        none = jnp.zeros((), jnp.int32)
        last = jnp.full(covariance.shape[:1], jnp.nan, covariance.dtype)
        return _Window(estimator.init(covariance), last, none, none)

    def update(state: _Window, position: jax.Array, gradient: jax.Array) -> _Window:
        moved = jnp.any(position != state.last) & jnp.all(jnp.isfinite(state.last))
        inner = estimator.update(state.inner, position, gradient)
        moves = state.moves + moved.astype(jnp.int32)
        return _Window(inner, position, state.drawn + 1, moves)

    def final(state: _Window) -> _Window:
        before = state.inverse_mass_matrix
        inner = estimator.final(state.inner)
        part = jnp.minimum(1.0, 4 * state.moves / jnp.maximum(state.drawn, 1))
        matrix = _mixed(before, inner.inverse_mass_matrix, part)
        none = jnp.zeros_like(state.drawn)
        inner = inner._replace(inverse_mass_matrix=matrix)
        return _Window(inner, state.last, none, none)

    return Estimator(init, update, final)


def _mixed(before: Any, new: Any, part: jax.Array) -> Any:
    """A metric with so much of a new one, which is not to be far smaller altogether."""
    if hasattr(new, "_fields"):  # of low rank: a scale and directions
        ratio = jnp.max(new.sigma / before.sigma) ** 2
        sigma = jnp.where(ratio < _LEAST, new.sigma + _LEAST**0.5 * before.sigma, new.sigma)
        good = (part >= 1) & jnp.all(jnp.isfinite(sigma)) & jnp.all(sigma > 0)
        new = new._replace(sigma=sigma)
        return jax.tree.map(lambda a, b: jnp.where(good, b, a), before, new)
    ratio = jnp.max(as_diagonal(new) / as_diagonal(before))
    part = part.astype(new.dtype)
    mixed = part * new + (1 - part + jnp.where(ratio < _LEAST, _LEAST, 0.0)) * before
    return jnp.where((part == 0) | ~jnp.all(jnp.isfinite(mixed)), before, mixed)


def with_definite_types(state: Any) -> Any:
    """The same state with every leaf an array of a definite type, as loops need."""
    return jax.tree.map(lambda x: jax.lax.convert_element_type(x, jnp.asarray(x).dtype), state)
