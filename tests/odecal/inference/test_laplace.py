"""The Gaussian around a mode, measured."""

import numpy as np
import pytest

from odecal._inference.laplace import Gaussian, measure_curvature, measure_scales

SCALES = np.geomspace(1e-6, 1e6, 300)
ONES = np.ones(300)


def gaussian(precision, centre=0.0):
    """Log densities and gradients of a Gaussian."""

    def evaluate(x):
        pulled = (x - centre) @ precision
        return -0.5 * np.sum(pulled * (x - centre), axis=1), -pulled

    return evaluate


def independent(x):
    return -0.5 * np.sum((x / SCALES) ** 2, axis=1), -x / SCALES**2


def test_probes_find_the_scales_of_independent_dimensions():
    """Within 4.5 standard errors of the spread of 12 steps: a sound one fails 2 in 1000 times."""
    guess = Gaussian(10 * SCALES, ONES)
    found = measure_scales(independent, np.zeros(300), guess, 12, np.random.default_rng(0))
    variance = found.covariance
    np.testing.assert_allclose(np.log(variance), np.log(SCALES**2), atol=4.5 / np.sqrt(2 * 12))


def test_probes_of_dependent_dimensions_are_not_too_wide():
    """The solution of v_i Σ_j P_ij² v_j = 1, which is at most 1/P_ii: the others being given."""
    random = np.random.default_rng(1)
    factor = random.standard_normal((40, 3)) / 3
    precision = np.linalg.inv(np.eye(40) / 4 + factor @ factor.T)
    shape = Gaussian(np.ones(40), np.ones(40))
    found = measure_scales(gaussian(precision), np.ones(40), shape, 4000, random).covariance
    assert (found < 1.05 / np.diag(precision)).all()
    np.testing.assert_allclose(found * (precision**2 @ found), 1.0, atol=0.1)


def test_probes_take_no_notice_of_failed_solves():
    def sometimes(x):
        failed = np.arange(len(x)) % 3 == 0
        density, gradient = independent(x)
        return density, np.where(failed[:, None], np.nan, gradient)

    shape = Gaussian(SCALES, ONES)
    found = measure_scales(sometimes, np.zeros(300), shape, 60, np.random.default_rng(2)).covariance
    np.testing.assert_allclose(np.log(found), np.log(SCALES**2), atol=1.0)
    never = measure_scales(
        lambda x: (x[:, 0], np.full_like(x, np.nan)),
        np.zeros(300),
        shape,
        4,
        np.random.default_rng(3),
    )
    np.testing.assert_array_equal(never.covariance, SCALES**2)


@pytest.mark.parametrize("correlation", [0.0, 0.9999])
@pytest.mark.parametrize("scales", [(1.0, 1.0), (1e-9, 1e9), (60.0, 1e-6)])
@pytest.mark.parametrize("wrong", [1e-3, 0.1, 1.0, 1e3])
def test_the_covariance_is_measured_from_any_guess(correlation, scales, wrong):
    """Scales of the prior are three times those of the posterior, and the first guess is wrong."""
    covariance = np.array([[1.0, correlation], [correlation, 1.0]]) * np.outer(scales, scales)
    unit = np.linalg.inv(np.array([[1.0, correlation], [correlation, 1.0]]))
    precision = unit / np.outer(scales, scales)
    centre = 300.0 * np.array(scales)
    guess = Gaussian(3 * np.array(scales), wrong * np.eye(2)).with_factor(wrong * np.eye(2))
    found = measure_curvature(gaussian(precision, centre), centre, guess)
    np.testing.assert_allclose(found.gaussian.covariance, covariance, rtol=1e-5)
    assert found.gaussian.log_det == pytest.approx(
        np.log(1 - correlation**2) + 2 * np.log(scales).sum(), abs=1e-5
    )
    assert found.concave


def test_a_narrow_peak_on_a_wide_hill_is_measured_as_narrow():
    """A guess of the hill's width does not see the peak by its gradients: the density tells."""

    def evaluate(x):
        hill, peak = -12 - 0.5 * (x**2).sum(1), -0.5 * (x**2).sum(1) / 1e-6
        share = 1 / (1 + np.exp(np.clip(hill - peak, -700, 700)))
        return np.logaddexp(hill, peak), -x * (share[:, None] / 1e-6 + 1 - share[:, None])

    found = measure_curvature(evaluate, np.zeros(3), Gaussian(np.ones(3), np.eye(3)))
    np.testing.assert_allclose(np.diag(found.gaussian.covariance), 1e-6, rtol=0.01)


def test_a_wall_beside_the_mode_is_not_stepped_through():
    def evaluate(x):
        inside = np.abs(x) < 1e-3
        density = np.where(inside.all(1), -0.5 * (x**2).sum(1) / 1e-8, -np.inf)
        return density, np.where(inside, -x / 1e-8, 0.0)

    found = measure_curvature(evaluate, np.zeros(2), Gaussian(np.ones(2), np.eye(2)))
    np.testing.assert_allclose(found.gaussian.covariance, 1e-8 * np.eye(2), atol=1e-13)


def test_a_density_is_not_concave_at_a_saddle_or_on_a_slope():
    saddle = measure_curvature(
        gaussian(np.diag([1.0, -1.0])), np.zeros(2), Gaussian(np.ones(2), np.eye(2))
    )
    assert not saddle.concave
    slope = measure_curvature(
        lambda x: (x[:, 0], np.ones_like(x)), np.zeros(1), Gaussian(ONES[:1], np.eye(1))
    )
    assert not slope.concave
    np.testing.assert_allclose(slope.gaussian.covariance, 1.0)


def test_newtons_step_leads_to_the_mode():
    precision, centre = np.array([[2.0, 0.5], [0.5, 3.0]]) * 1e12, np.array([3e-6, -1e-6])
    shape = Gaussian(np.full(2, 1e-6), np.eye(2))
    found = measure_curvature(gaussian(precision, centre), np.zeros(2), shape)
    np.testing.assert_allclose(found.gaussian.steps(found.newton_step[None])[0], centre, rtol=1e-6)


def test_a_guess_is_a_covariance_no_wider_than_the_prior():
    scale = np.array([10.0, 1.0, 0.1])
    found = Gaussian.guess(scale, np.array([[4.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 0.5]]))
    np.testing.assert_allclose(np.diag(found.covariance), [100.0, 1e-24, 0.005])


def test_a_diagonal_is_the_matrix_that_it_stands_for():
    scale, factor = np.array([0.1, 0.5, 0.9]), np.array([2.0, 3.0, 4.0])
    x = np.array([[1.0, -2.0, 3.0]])
    one, other = Gaussian(scale, factor), Gaussian(scale, np.diag(factor))
    np.testing.assert_allclose(one.steps(x), other.steps(x))
    np.testing.assert_allclose(one.whitened(x), other.whitened(x))
    assert one.squared_length(x[0]) == pytest.approx(other.squared_length(x[0]))
    assert one.log_det == pytest.approx(other.log_det)
    np.testing.assert_allclose(np.diag(one.covariance), other.covariance)
