"""Metrics of warm-up: no window in which little moved spoils them, and every scale is learnt."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from odecal.samplers import DenseMetric, DiagonalMetric, LowRankMetric, ShrunkMetric
from odecal.samplers._base import as_diagonal

METRICS = [DenseMetric(), DiagonalMetric(), ShrunkMetric(), LowRankMetric()]
DIM = 4
every_metric = pytest.mark.parametrize("metric", METRICS, ids=lambda m: type(m).__name__)


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def variances(matrix):
    return np.asarray(matrix.sigma**2 if hasattr(matrix, "sigma") else as_diagonal(matrix))


def windows(metric, guess, *draws):
    """The variances that a metric has after windows, each of draws of shape (n, dim)."""
    estimator = metric.estimator(DIM, max(len(x) for x, _ in draws))
    found = []
    state = estimator.init(guess)
    update, final = jax.jit(estimator.update), jax.jit(estimator.final)
    for positions, gradients in draws:
        for position, gradient in zip(positions, gradients, strict=True):
            state = update(state, position, gradient)
        state = final(state)
        found.append(variances(state.inverse_mass_matrix))
    return found


def gaussian(scale, n, seed=0):
    z = np.random.default_rng(seed).normal(size=(n, DIM))
    return jnp.asarray(scale * z), jnp.asarray(-z / scale)


@every_metric
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_a_window_without_moves_leaves_the_metric(metric, scale):
    """Also one in which a draw or two moved, and one whose moves are far below the scales."""
    positions, gradients = gaussian(scale, 80)
    still = jnp.repeat(positions[-1:], 40, 0), jnp.repeat(gradients[-1:], 40, 0)
    twice = still[0].at[20:].set(0.4 * scale).at[30:].set(0.1 * scale), still[1]
    crept = 0.1 * scale + scale * gaussian(1e-6, 40)[0], gaussian(scale, 40)[1]
    before, *after = windows(
        metric, scale**2 * jnp.eye(DIM), (positions, gradients), still, twice, crept
    )
    assert (before > 0.1 * scale**2).all()
    np.testing.assert_allclose(after[0], before)
    assert (after[1] > 0.3 * before).all()
    assert (after[2] > 0.9e-4 * after[1]).all()


@every_metric
def test_every_scale_is_learnt(metric):
    scale = np.array([1e-12, 1e-3, 1.0, 1e9])
    draws = [gaussian(scale, 60 * 2**i, i) for i in range(3)]
    guess = jnp.diag(jnp.asarray(scale**2 * np.array([30.0, 0.1, 10.0, 0.03])))
    last = windows(metric, guess, *draws)[-1]
    assert (last / scale**2 > 0.3).all()
    assert (last / scale**2 < 3.0).all()


@every_metric
def test_a_guess_too_wide_in_all_is_mended(metric):
    draws = [gaussian(1e-6, 30 * 2**i, i) for i in range(5)]
    last = windows(metric, jnp.eye(DIM), *draws)[-1]
    np.testing.assert_array_less(last, 1e-9)


def test_what_does_not_move_at_all_leaves_a_metric():
    """One coordinate of several, as where numbers are too large for its steps."""
    positions, gradients = gaussian(1.0, 100)
    last = windows(ShrunkMetric(), jnp.eye(DIM), (positions.at[:, 2].set(0.7), gradients))[-1]
    assert np.isfinite(last).all()
    assert (last > 0).all()
