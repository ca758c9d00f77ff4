"""Guesses of the covariance around a mode."""

import numpy as np
import pytest

from odecal._curvature import bounded, correlated, log_det, probed, solved

SCALES = np.geomspace(1e-3, 1.0, 300)


def test_probes_find_the_scales_of_independent_dimensions():
    """Within 4.5 standard errors of the spread of 12 steps: a sound one fails 2 in 1000 times."""
    random = np.random.default_rng(0)
    found = probed(lambda x: -x / SCALES**2, np.zeros(300), 12, random)
    np.testing.assert_allclose(np.log(found), np.log(SCALES**2), atol=4.5 / np.sqrt(2 * 12))


def test_probes_of_dependent_dimensions_are_not_too_wide():
    """The solution of v_i Σ_j P_ij² v_j = 1, which is at most 1/P_ii: the others being given."""
    random = np.random.default_rng(1)
    factor = random.standard_normal((40, 3)) / 3
    precision = np.linalg.inv(np.eye(40) / 4 + factor @ factor.T)
    found = probed(lambda x: -x @ precision, np.ones(40), 4000, random)
    assert (found < 1.05 / np.diag(precision)).all()
    np.testing.assert_allclose(found * (precision**2 @ found), 1.0, atol=0.1)


def test_probes_take_no_notice_of_failed_solves():
    def gradients(x):
        failed = np.arange(len(x)) % 3 == 0
        return np.where(failed[:, None], np.nan, -x / SCALES**2)

    found = probed(gradients, np.zeros(300), 60, np.random.default_rng(2))
    np.testing.assert_allclose(np.log(found), np.log(SCALES**2), atol=1.0)
    nothing = probed(lambda x: np.full_like(x, np.nan), np.zeros(5), 4, np.random.default_rng(3))
    np.testing.assert_array_equal(nothing, 1.0)


def test_a_guess_is_a_covariance():
    found = bounded(np.array([[4.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 0.5]]))
    np.testing.assert_allclose(np.diag(found), [1.0, 1e-10, 0.5])


@pytest.mark.parametrize("function", [solved, correlated])
def test_a_diagonal_is_the_matrix_that_it_stands_for(function):
    variances, x = np.array([0.1, 0.5, 0.9]), np.array([1.0, -2.0, 3.0])
    np.testing.assert_allclose(function(variances, x), function(np.diag(variances), x))
    assert log_det(variances) == pytest.approx(log_det(np.diag(variances)))
