import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.special
import scipy.stats

from odecal import noise
from odecal._errors import ObservationError
from odecal._model.censoring import interval_log_prob

INF = np.inf


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def log_difference(more, less):
    return more + np.log(-np.expm1(less - more))


def from_tails(logcdf, logsf):
    """The reference of a continuous law, with the difference taken in the smaller tail."""

    def reference(lower, upper):
        if lower == -INF:
            return logcdf(upper)
        if upper == INF:
            return logsf(lower)
        if logcdf(upper) < logsf(lower):
            return log_difference(logcdf(upper), logcdf(lower))
        return log_difference(logsf(lower), logsf(upper))

    return reference


def scipy_s(law):
    return from_tails(law.logcdf, law.logsf)


def by_summation(logpmf, most=20_000):
    """The reference of a count: the sum over every count strictly between the bounds."""

    def reference(lower, upper):
        k = np.arange(most)
        between = (k > lower) & (k < upper)
        log_p = scipy.special.logsumexp(logpmf(k[between]))
        # What is almost certain is told by the rest.
        rest = logpmf(k[~between])
        return log_p if log_p < -0.1 else np.log1p(-np.exp(scipy.special.logsumexp(rest)))

    return reference


def gamma_of_whole_shape(n, rate):
    """P(X > x) is the probability of fewer than n events of a Poisson process in time x."""

    def logsf(x):
        return by_summation(scipy.stats.poisson(rate * x).logpmf)(-INF, n)

    def logcdf(x):
        return by_summation(scipy.stats.poisson(rate * x).logpmf)(n - 1, INF)

    return from_tails(logcdf, logsf)


def student_t_of_2(location, scale):
    def logcdf(x):
        z = (x - location) / scale
        root = np.sqrt(2.0 + z * z)
        return -np.log(root * (root - z)) if z < 0 else np.log1p(-1.0 / (root * (root + z)))

    return from_tails(logcdf, lambda x: logcdf(2.0 * location - x))


def nbinom(mean, concentration):
    return scipy.stats.nbinom(concentration, concentration / (concentration + mean))


def both_tails(*points):
    return [(-INF, x) for x in points] + [(x, INF) for x in points]


# The law, its parameters, the same in SciPy, and bounds.
CASES = {
    "Normal": (
        noise.Normal,
        (1.2, 0.4),
        lambda m, s: scipy_s(scipy.stats.norm(m, s)),
        [*both_tails(-14.8, -6.8, 1.0, 1.2, 1.9, 17.2), (-14.8, -14.0), (0.5, 1.3), (9.0, 17.2)],
    ),
    "AdditiveProportional": (
        noise.AdditiveProportional,
        (1.2, 0.4, 0.3),
        lambda m, a, p: scipy_s(scipy.stats.norm(m, np.hypot(a, p * m))),
        [*both_tails(-14.8, 1.0, 17.2), (0.5, 1.3)],
    ),
    "LogNormal": (
        noise.LogNormal,
        (1.2, 0.4),
        lambda m, s: scipy_s(scipy.stats.lognorm(s=s, scale=m)),
        [*both_tails(1e-6, 0.4, 1.2, 2.0, 1e6), (0.1, 0.2), (0.5, 1.3), (50.0, 80.0)],
    ),
    "StudentT": (
        lambda m, s, df: noise.StudentT(m, s, df=df),
        (1.2, 0.4, 2.5),
        lambda m, s, df: scipy_s(scipy.stats.t(df, m, s)),
        [*both_tails(-5.0, 1.0, 1.2, 1.9, 12.0), (0.5, 1.3), (3.0, 4.0)],
    ),
    "StudentT far out": (
        lambda m, s: noise.StudentT(m, s, df=2.0),
        (1.2, 0.4),
        student_t_of_2,
        [(-INF, -1e7), (-INF, 0.5), (3.0, INF), (1e7, INF), (-1e7, -1e6), (-INF, 1.9)],
    ),
    "Gamma": (
        dist.Gamma,
        (2.5, 0.7),
        lambda a, r: scipy_s(scipy.stats.gamma(a, scale=1 / r)),
        [*both_tails(1e-9, 0.5, 3.0, 20.0, 300.0), (0.5, 1.3), (30.0, 40.0)],
    ),
    "Exponential": (
        dist.Exponential,
        (0.7,),
        lambda r: from_tails(lambda x: np.log(-np.expm1(-r * x)), lambda x: -r * x),
        [*both_tails(1e-9, 0.5, 3.0, 2000.0), (0.5, 1.3), (1500.0, 1600.0)],
    ),
    "Poisson": (
        noise.Poisson,
        (3.7,),
        lambda m: by_summation(scipy.stats.poisson(m).logpmf),
        [*both_tails(1, 3, 3.5, 4, 40, 400), (2, 6), (3, 5), (-1, 1), (200, 300)],
    ),
    "Poisson of many": (
        noise.Poisson,
        (4000.0,),
        lambda m: by_summation(scipy.stats.poisson(m).logpmf),
        [*both_tails(5, 3000, 4000, 4010, 9000), (20, 25), (3990, 4000), (8000, 9000)],
    ),
    "NegativeBinomial concentration": (
        lambda m, c: noise.NegativeBinomial(m, concentration=c),
        (3.7, 4.0),
        lambda m, c: by_summation(nbinom(m, c).logpmf),
        [*both_tails(1, 3, 4, 40, 2000), (2, 6), (3, 5), (1000, 1200)],
    ),
    "NegativeBinomial overdispersion": (
        lambda m, o: noise.NegativeBinomial(m, overdispersion=o),
        (300.0, 0.03),
        lambda m, o: by_summation(nbinom(m, 1 / o).logpmf),
        [*both_tails(1, 3, 299, 300, 1000, 6000), (290, 300), (3, 5)],
    ),
    "GammaPoisson": (
        dist.GammaPoisson,
        (0.3, 0.2),
        lambda a, r: by_summation(scipy.stats.nbinom(a, r / (1 + r)).logpmf),
        [*both_tails(1, 3, 40), (2, 6)],
    ),
    "Binomial": (
        lambda p: dist.Binomial(500, p),
        (0.3,),
        lambda p: by_summation(scipy.stats.binom(500, p).logpmf, 501),
        [*both_tails(1, 100, 150, 499), (0, 2), (140, 160), (498, 501)],
    ),
    "Binomial logits": (
        lambda logit: dist.Binomial(50, logits=logit),
        (-1.3,),
        lambda logit: by_summation(scipy.stats.binom(50, scipy.special.expit(logit)).logpmf, 51),
        [*both_tails(1, 11, 49), (5, 12)],
    ),
}


@functools.cache
def evaluated(case, precision):
    """The log probabilities of a case, and their slopes."""
    law, parameters, _, bounds = CASES[case]
    lower, upper = np.array(bounds, precision).T

    def twice(parameters):
        value = interval_log_prob(law(*parameters), lower, upper)
        return value, value

    with jax.enable_x64(precision == np.float64):
        slopes, value = jax.jit(jax.jacrev(twice, has_aux=True))(np.array(parameters, precision))
    return value, slopes


@pytest.mark.parametrize("case", CASES)
def test_log_probability_and_gradient_are_scipy_s(case):
    _, parameters, reference, bounds = CASES[case]
    value, slopes = evaluated(case, np.float64)
    parameters = np.array(parameters)
    expected = [reference(*parameters)(*each) for each in bounds]
    np.testing.assert_allclose(value, expected, rtol=1e-8)
    for i, value in enumerate(parameters):
        step = np.zeros_like(parameters)
        step[i] = 1e-4 * value

        def at(n, step=step):
            moved = reference(*(parameters + n * step))
            return np.array([moved(*each) for each in bounds])

        difference = (8.0 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12.0 * step[i])
        np.testing.assert_allclose(slopes[:, i], difference, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_single_precision(case):
    value, slopes = evaluated(case, np.float32)
    expected, expected_slopes = evaluated(case, np.float64)
    assert value.dtype == np.float32
    # What is closer to certain than a float32 can tell is certain.
    np.testing.assert_allclose(value, expected, rtol=3e-4, atol=1e-30)
    np.testing.assert_allclose(slopes, expected_slopes, rtol=5e-3, atol=1e-4)


@pytest.mark.parametrize("bounds", [*both_tails(1e-3, 2.0, 30.0, 3000.0), (1500.0, 1501.0)])
def test_gamma_of_whole_shape_counts_poisson_events(bounds):
    found = interval_log_prob(dist.Gamma(30.0, 0.9), *bounds)
    np.testing.assert_allclose(found, gamma_of_whole_shape(30, 0.9)(*bounds), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_normal_gradient_far_out_is_mills_ratio_s(side):
    z = np.array([15.0, 19.99, 20.0, 20.01, 40.0, 1e3, 1e8])
    bounds = (-INF, -z) if side < 0 else (z, INF)

    def log_prob(parameters):
        return interval_log_prob(noise.Normal(*parameters), *bounds)

    # φ(z) / Φ(−z) as a continued fraction.
    hazard = z
    for n in range(60, 0, -1):
        hazard = z + n / hazard
    slopes = jax.jit(jax.jacrev(log_prob))(np.array([0.0, 1.0]))
    np.testing.assert_allclose(slopes.T, (side * hazard, z * hazard), rtol=1e-11)


def test_poisson_gradient_far_out_is_that_of_its_largest_term():
    def gradient(mean, *bounds):
        return jax.jit(jax.grad(lambda m: interval_log_prob(noise.Poisson(m), *bounds)))(mean)

    # P(X < 1) = exp(−m); P(X > k) is that of k + 1, (m / k)^2 aside.
    np.testing.assert_allclose(gradient(1e5, -INF, 1), -1.0, rtol=1e-12)
    np.testing.assert_allclose(gradient(1e-3, 9, INF), 10 / 1e-3 - 1 + 1 / 11, rtol=1e-6)


def test_gradient_goes_on_where_a_continued_fraction_ends():
    # At a whole concentration the numerators reach zero while their slopes do not.
    laws = (
        lambda c: noise.NegativeBinomial(3.0, concentration=c),
        lambda c: dist.Gamma(c, 2.0),
    )
    whole = np.array([1.0, 2.0, 7.0])
    for of in laws:
        slope = jax.jit(jax.grad(lambda c, of=of: interval_log_prob(of(c), -INF, 6).sum()))
        beside = 0.5 * (slope(whole - 1e-4) + slope(whole + 1e-4))
        np.testing.assert_allclose(slope(whole), beside, rtol=1e-7)


def test_student_t_at_its_centre():
    df = np.array([0.5, 1.0, 4.0, 30.0])

    def log_prob(location, upper):
        return interval_log_prob(noise.StudentT(location, 0.4, df=df), -INF, upper)

    value, slope = jax.jit(lambda m: (log_prob(m, 1.2), jax.jacrev(log_prob)(m, 1.2)))(1.2)
    np.testing.assert_allclose(value, np.log(0.5), rtol=1e-12)
    np.testing.assert_allclose(slope, -2.0 * scipy.stats.t(df, 1.2, 0.4).pdf(1.2), rtol=1e-9)


def test_poisson_is_the_limit_of_the_negative_binomial():
    for mean, bounds in [
        (3.0, (-INF, 2)),
        (3.0, (50, INF)),
        (500.0, (-INF, 510)),
        (50.0, (40, 60)),
    ]:
        found = interval_log_prob(noise.NegativeBinomial(mean, overdispersion=0.0), *bounds)
        expected = interval_log_prob(noise.Poisson(mean), *bounds)
        np.testing.assert_allclose(found, expected, rtol=2e-5)


@pytest.mark.parametrize("width", [1e-12, 1e-9, 1e-6, 1e-5, 3e-5, 1e-4])
@pytest.mark.parametrize("z", [-8.0, -1.0, 0.3, 8.0])
def test_narrow_interval_is_density_times_width(width, z):
    upper = z + width
    exact = upper - z

    def log_prob(mean):
        return interval_log_prob(noise.Normal(mean, 1.0), z, upper)

    value, slope = jax.value_and_grad(log_prob)(0.0)
    middle = z + 0.5 * exact
    np.testing.assert_allclose(value, scipy.stats.norm.logpdf(middle) + np.log(exact), rtol=1e-8)
    np.testing.assert_allclose(slope, middle, rtol=1e-5)


def test_one_count_is_its_mass():
    law, k = noise.Poisson(3e9), 3e9
    np.testing.assert_allclose(interval_log_prob(law, k - 1, k + 1), law.log_prob(k), rtol=1e-9)


def test_what_cannot_happen_and_what_is_certain():
    count = noise.Poisson(3.7)
    trials = dist.Binomial(5, 0.3)
    size = noise.LogNormal(1.2, 0.4)
    laws_and_bounds = [
        (count, -INF, 0, -INF),
        (count, 3, 4, -INF),
        (count, -1, INF, 0.0),
        (count, -INF, INF, 0.0),
        (trials, 5, INF, -INF),
        (trials, 7, 9, -INF),
        (trials, -INF, 6, 0.0),
        (size, -INF, 0.0, -INF),
        (size, -2.0, -1.0, -INF),
        (size, 0.0, INF, 0.0),
        (noise.Normal(1.2, 0.4), -INF, INF, 0.0),
    ]
    for law, lower, upper, expected in laws_and_bounds:
        assert interval_log_prob(law, lower, upper) == expected


def test_lower_bound_of_a_positive_law_counts_from_zero():
    law = noise.LogNormal(1.2, 0.4)
    expected = interval_log_prob(law, -INF, 0.8)
    for lower in (-3.0, 0.0):
        assert interval_log_prob(law, lower, 0.8) == expected


@pytest.mark.parametrize(
    ("case", "precision"),
    [
        *[(case, np.float32) for case in CASES],
        *[(case, np.float64) for case in ("Normal", "LogNormal", "StudentT", "Poisson")],
    ],
)
def test_gradient_is_finite_where_nothing_is_censored(case, precision):
    law, parameters, _, _ = CASES[case]
    with jax.enable_x64(precision == np.float64):
        values = jnp.array([1.0, 3.0, 3.0, np.nan], precision)
        lower = jnp.array([1.0, -INF, 3.0, np.nan], precision)
        upper = jnp.array([1.0, 3.0, INF, np.nan], precision)

        def total(parameters):
            of = law(*parameters)
            exact = of.log_prob(jnp.where(jnp.isnan(values), 1.0, values))
            censored = interval_log_prob(of, lower, upper)
            return jnp.sum(jnp.where(lower < upper, censored, exact)), censored

        evaluate = jax.jit(jax.value_and_grad(total, has_aux=True))
        (value, censored), slopes = evaluate(jnp.array(parameters, precision))
    assert value.dtype == precision
    assert np.isfinite(value)
    np.testing.assert_array_equal(np.asarray(censored)[[0, 3]], 0.0)
    np.testing.assert_array_equal(np.isfinite(slopes), True)


def test_outliers_that_are_not_censored_do_no_harm_in_single_precision():
    with jax.enable_x64(False):
        y = jnp.array([1e20, -1e20, 3.0])
        for of in (noise.Normal, noise.StudentT):
            slope = jax.grad(lambda m, of=of: interval_log_prob(of(m, 1e-3), y, y).sum())
            assert jax.jit(slope)(1e6) == 0.0


def test_law_and_bounds_broadcast():
    mean = jnp.array([[1.0], [2.0]])
    lower, upper = jnp.array([-INF, 0.5, 1.0]), jnp.array([0.7, INF, 2.5])
    found = interval_log_prob(noise.Normal(mean, 0.4), lower, upper)
    assert found.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            one = interval_log_prob(noise.Normal(mean[i, 0], 0.4), lower[j], upper[j])
            np.testing.assert_allclose(found[i, j], one, rtol=1e-14)
    assert interval_log_prob(noise.Poisson(jnp.ones(4)), -INF, 3).shape == (4,)
    expanded = dist.Normal(1.0, 0.4).expand([2, 3])
    np.testing.assert_allclose(interval_log_prob(expanded, lower, upper)[1], found[0], rtol=1e-14)


def test_under_vmap_jit_and_scan():
    means = jnp.array([0.5, 3.0, 40.0])
    lower, upper = jnp.array([-INF, 2.0, 5.0]), jnp.array([3.0, INF, 60.0])

    def log_prob(scale, mean, lower, upper):
        law = noise.NegativeBinomial(scale * mean, concentration=scale)
        return interval_log_prob(law, lower, upper)

    def mapped(scale):
        return jax.vmap(log_prob, (None, 0, 0, 0))(scale, means, lower, upper).sum()

    def scanned(scale):
        def step(total, row):
            return total + log_prob(scale, *row), None

        return jax.lax.scan(step, jnp.zeros(()), (means, lower, upper))[0]

    whole = jax.value_and_grad(lambda scale: log_prob(scale, means, lower, upper).sum())
    expected = jax.jit(whole)(4.0)
    for function in (mapped, scanned):
        found = jax.jit(jax.value_and_grad(function))(4.0)
        np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_second_derivatives_by_forward_over_reverse():
    def log_prob(parameters):
        mean, concentration = parameters
        law = noise.NegativeBinomial(mean, concentration=concentration)
        return interval_log_prob(law, jnp.array([-INF, 6.0, 1.0]), jnp.array([3.0, INF, 5.0])).sum()

    at, step = jnp.array([3.7, 2.3]), 1e-5
    found, slope = jax.jit(jax.hessian(log_prob))(at), jax.jit(jax.jacfwd(log_prob))
    for i in range(2):
        change = step * np.eye(2)[i]
        expected = (slope(at + change) - slope(at - change)) / (2 * step)
        np.testing.assert_allclose(found[i], expected, rtol=1e-6)


def test_any_law_with_a_distribution_function():
    for law, reference in [
        (dist.Logistic(1.2, 0.4), scipy.stats.logistic(1.2, 0.4)),
        (dist.Weibull(1.2, 1.7), scipy.stats.weibull_min(1.7, scale=1.2)),
        (dist.TruncatedNormal(1.2, 0.4, low=0.0), scipy.stats.truncnorm(-3.0, INF, 1.2, 0.4)),
        (dist.Beta(2.0, 7.5), scipy.stats.beta(2.0, 7.5)),
        (dist.Uniform(0.0, 3.0), scipy.stats.uniform(0.0, 3.0)),
    ]:
        for bounds in [(-INF, 0.4), (0.3, INF), (0.2, 0.9), (-1.0, 0.4)]:
            expected = scipy_s(reference)(*bounds)
            np.testing.assert_allclose(interval_log_prob(law, *bounds), expected, rtol=1e-12)
    faces = interval_log_prob(dist.DiscreteUniform(1, 6), 2, 5)
    np.testing.assert_allclose(faces, np.log(2 / 6), rtol=1e-12)


@pytest.mark.parametrize(
    "law", [dist.BetaBinomial(2.0, 3.0, 10), dist.VonMises(0.0, 1.0), dist.Bernoulli(0.3)]
)
def test_law_without_a_distribution_function_is_refused(law):
    with pytest.raises(ObservationError, match=r"cannot be censored\. Expected one with") as caught:
        interval_log_prob(law, -INF, 2.0)
    assert type(law).__name__ in str(caught.value)
