"""Log densities, of counts against their probabilities in sixty digits."""

import decimal
import math
from decimal import Decimal

import jax
import numpy as np
import pytest
import scipy.stats

from odecal import noise

decimal.getcontext().prec = 60
STIRLING = ((1, 12), (-1, 360), (1, 1260), (-1, 1680), (1, 1188), (-691, 360360), (1, 156))
HALF_LOG_TWO_PI = Decimal("0.91893853320467274178032973640561763986139747363778341281715")

MEANS = [1e-8, 1e-3, 0.9, 3.7, 5e2, 1e5, 1e8]
SPREADS = [0.0, 1e-9, 1e-7, 1e-4, 0.03, 0.25, 2.0, 1e3]
COUNTS = [0, 1, 3, 40, 1000, 99_999, 100_000_000]


def log_gamma(z):
    """By Stirling's formula forty further on."""
    shift = math.prod(z + j for j in range(40)).ln()
    z = z + 40
    series = sum(Decimal(a) / b / z ** (2 * n + 1) for n, (a, b) in enumerate(STIRLING))
    return (z - Decimal("0.5")) * z.ln() - z + HALF_LOG_TWO_PI + series - shift


def exact(k, mean, a):
    if a == 0:
        return k * mean.ln() - mean - log_gamma(k + 1)
    n = 1 / a
    more = log_gamma(k + n) - log_gamma(n) - log_gamma(k + 1)
    return more + k * (a * mean).ln() - (k + n) * (1 + a * mean).ln()


def reference(*row):
    return exact(*(Decimal(float(x)) for x in row))


def grid(dtype):
    found = np.array([(k, m, a) for k in COUNTS for m in MEANS for a in SPREADS])
    return found.astype(dtype)


def of_grid(of, rows):
    return np.array([float(of(k, m, a)) for k, m, a in rows])


def density(k, mean, a):
    return noise.NegativeBinomial(mean, overdispersion=a).log_prob(k)


@pytest.mark.parametrize(("x64", "eps"), [(True, 1e-13), (False, 2e-5)])
def test_negative_binomial_over_sixteen_orders_of_magnitude(x64, eps):
    with jax.enable_x64(x64):
        rows = grid(np.float64 if x64 else np.float32)
        found = jax.jit(density)(*rows.T)
    expected = of_grid(reference, rows)
    np.testing.assert_allclose(found, expected, rtol=eps, atol=eps)


@pytest.mark.parametrize(("x64", "eps"), [(True, 1e-10), (False, 1e-4)])
def test_slopes_of_a_negative_binomial(x64, eps):
    with jax.enable_x64(x64):
        rows = grid(np.float64 if x64 else np.float32)
        rows = rows[rows[:, 0] <= 1e5]
        slopes = jax.jit(jax.vmap(jax.grad(density, argnums=(1, 2))))(*rows.T)

    def difference(of, row):
        row = [Decimal(float(x)) for x in row]
        step = row[of] * Decimal("1e-15") or Decimal("1e-22")
        up = list(row)
        up[of] += step
        return float((exact(*up) - exact(*row)) / step)

    for of, name in [(1, "mean"), (2, "overdispersion")]:
        expected, found = [difference(of, row) for row in rows], slopes[of - 1]
        assert np.all(np.isfinite(found)), name
        np.testing.assert_allclose(found, expected, rtol=eps, atol=eps, err_msg=name)


@pytest.mark.parametrize(("x64", "eps"), [(True, 1e-14), (False, 1e-6)])
def test_poisson_over_sixteen_orders_of_magnitude(x64, eps):
    rows = np.array([(k, m, 0.0) for k in COUNTS for m in MEANS])
    with jax.enable_x64(x64):
        found = jax.jit(lambda k, m: noise.Poisson(m).log_prob(k))(*rows[:, :2].T)
        rows = rows.astype(found.dtype)
    np.testing.assert_allclose(found, of_grid(reference, rows), rtol=eps, atol=eps)


@pytest.mark.parametrize(("x64", "eps"), [(True, 1e-12), (False, 5e-6)])
def test_student_s_t_of_any_degrees_of_freedom(x64, eps):
    z, df = np.array([0.0, 0.1, 3.0, 40.0, 1e5]), np.array([[0.3, 1, 4, 30, 1e3, 1e6, 1e9]]).T
    with jax.enable_x64(x64):
        found = jax.jit(lambda df, x: noise.StudentT(0.0, 2.0, df).log_prob(x))(df, 2.0 * z)
    np.testing.assert_allclose(found, scipy.stats.t(df, 0, 2).logpdf(2 * z), rtol=eps, atol=eps)


def test_combined_noise_of_any_scale_in_single_precision():
    scale = np.array([1e-14, 1e-6, 1e6, 1e14], np.float32)

    @jax.jit
    def log_prob(scale):
        return noise.AdditiveProportional(2.0 * scale, 0.1 * scale, 0.2).log_prob(1.5 * scale)

    with jax.enable_x64(False):
        found = log_prob(scale)
    expected = scipy.stats.norm(2 * scale, np.hypot(0.1, 0.4) * scale).logpdf(1.5 * scale)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-4)


def test_draws_without_overdispersion_are_poisson_s():
    law = noise.NegativeBinomial(1e6, overdispersion=0.0)
    draws = np.asarray(law.sample(jax.random.key(0), (4000,)), float)
    assert draws.var() == pytest.approx(1e6, rel=5 * np.sqrt(2 / 4000))
