"""Metrics of warm-up: no window in which little moved spoils them, and every scale is learnt."""

import functools

import jax
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


@functools.cache
def program(metric):
    """A window of draws, of which so many count."""
    estimator = metric.estimator(DIM, 480)

    def window(state, count, positions, gradients):
        def update(i, state):
            return estimator.update(state, positions[i], gradients[i])

        return estimator.final(jax.lax.fori_loop(0, count, update, state))

    return jax.jit(estimator.init), jax.jit(window)


def windows(metric, guess, *draws):
    """The variances that a metric has after windows, each of draws of shape (n, dim)."""
    init, window = program(metric)
    state, found = init(guess), []
    for positions, gradients in draws:
        pad = [(0, 480 - len(positions)), (0, 0)]
        state = window(state, len(positions), np.pad(positions, pad), np.pad(gradients, pad))
        found.append(variances(state.inverse_mass_matrix))
    return found


def gaussian(scale, n, seed=0):
    z = np.random.default_rng(seed).normal(size=(n, DIM))
    return scale * z, -z / scale


@every_metric
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_a_window_without_moves_leaves_the_metric(metric, scale):
    """Also one in which a draw or two moved, and one whose moves are far below the scales."""
    positions, gradients = gaussian(scale, 80)
    still = np.repeat(positions[-1:], 40, 0), np.repeat(gradients[-1:], 40, 0)
    twice = still[0].copy(), still[1]
    twice[0][20:], twice[0][30:] = 0.4 * scale, 0.1 * scale
    crept = 0.1 * scale + scale * gaussian(1e-6, 40)[0], gaussian(scale, 40)[1]
    before, *after = windows(
        metric, scale**2 * np.eye(DIM), (positions, gradients), still, twice, crept
    )
    assert (before > 0.1 * scale**2).all()
    np.testing.assert_allclose(after[0], before)
    assert (after[1] > 0.3 * before).all()
    assert (after[2] > 0.9e-4 * after[1]).all()


@every_metric
def test_every_scale_is_learnt(metric):
    scale = np.array([1e-12, 1e-3, 1.0, 1e9])
    draws = [gaussian(scale, 60 * 2**i, i) for i in range(3)]
    guess = np.diag(scale**2 * np.array([30.0, 0.1, 10.0, 0.03]))
    last = windows(metric, guess, *draws)[-1]
    assert (last / scale**2 > 0.3).all()
    assert (last / scale**2 < 3.0).all()


@every_metric
def test_a_guess_too_wide_in_all_is_mended(metric):
    draws = [gaussian(1e-6, 30 * 2**i, i) for i in range(5)]
    last = windows(metric, np.eye(DIM), *draws)[-1]
    np.testing.assert_array_less(last, 1e-9)


def test_what_does_not_move_at_all_leaves_a_metric():
    """One coordinate of several, as where numbers are too large for its steps."""
    positions, gradients = gaussian(1.0, 100)
    positions[:, 2] = 0.7
    last = windows(ShrunkMetric(), np.eye(DIM), (positions, gradients))[-1]
    assert np.isfinite(last).all()
    assert (last > 0).all()
