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


def student_t(location, scale, df):
    return noise.StudentT(location, scale, df=df)


def of_concentration(mean, concentration):
    return noise.NegativeBinomial(mean, concentration=concentration)


def of_overdispersion(mean, overdispersion):
    return noise.NegativeBinomial(mean, overdispersion=overdispersion)


def binomial(p, trials):
    return dist.Binomial(trials, p)


def binomial_logits(logit, trials):
    return dist.Binomial(trials, logits=logit)


# The law, its parameters, those that are kept fixed, the same in SciPy, and bounds.
CASES = {
    "Normal": (
        noise.Normal,
        (1.2, 0.4),
        (),
        lambda m, s: scipy_s(scipy.stats.norm(m, s)),
        [*both_tails(-14.8, -6.8, 1.0, 1.2, 1.9, 17.2), (-14.8, -14.0), (0.5, 1.3), (9.0, 17.2)],
    ),
    "AdditiveProportional": (
        noise.AdditiveProportional,
        (1.2, 0.4, 0.3),
        (),
        lambda m, a, p: scipy_s(scipy.stats.norm(m, np.hypot(a, p * m))),
        [*both_tails(-14.8, 1.0, 17.2), (0.5, 1.3)],
    ),
    "LogNormal": (
        noise.LogNormal,
        (1.2, 0.4),
        (),
        lambda m, s: scipy_s(scipy.stats.lognorm(s=s, scale=m)),
        [*both_tails(1e-6, 0.4, 1.2, 2.0, 1e6), (0.1, 0.2), (0.5, 1.3), (50.0, 80.0)],
    ),
    "StudentT": (
        student_t,
        (1.2, 0.4, 2.5),
        (),
        lambda m, s, df: scipy_s(scipy.stats.t(df, m, s)),
        [*both_tails(-5.0, 1.0, 1.2, 1.9, 12.0), (0.5, 1.3), (3.0, 4.0)],
    ),
    "StudentT far out": (
        student_t,
        (1.2, 0.4),
        (2.0,),
        student_t_of_2,
        [(-INF, -1e7), (-INF, 0.5), (3.0, INF), (1e7, INF), (-1e7, -1e6), (-INF, 1.9)],
    ),
    "Gamma": (
        dist.Gamma,
        (2.5, 0.7),
        (),
        lambda a, r: scipy_s(scipy.stats.gamma(a, scale=1 / r)),
        [*both_tails(1e-9, 0.5, 3.0, 20.0, 300.0), (0.5, 1.3), (30.0, 40.0)],
    ),
    "Exponential": (
        dist.Exponential,
        (0.7,),
        (),
        lambda r: from_tails(lambda x: np.log(-np.expm1(-r * x)), lambda x: -r * x),
        [*both_tails(1e-9, 0.5, 3.0, 2000.0), (0.5, 1.3), (1500.0, 1600.0)],
    ),
    "Poisson": (
        noise.Poisson,
        (3.7,),
        (),
        lambda m: by_summation(scipy.stats.poisson(m).logpmf),
        [*both_tails(1, 3, 3.5, 4, 40, 400), (2, 6), (3, 5), (-1, 1), (200, 300)],
    ),
    "Poisson of many": (
        noise.Poisson,
        (4000.0,),
        (),
        lambda m: by_summation(scipy.stats.poisson(m).logpmf),
        [*both_tails(5, 3000, 4000, 4010, 9000), (20, 25), (3990, 4000), (8000, 9000)],
    ),
    "NegativeBinomial concentration": (
        of_concentration,
        (3.7, 4.0),
        (),
        lambda m, c: by_summation(nbinom(m, c).logpmf),
        [*both_tails(1, 3, 4, 40, 2000), (2, 6), (3, 5), (1000, 1200)],
    ),
    "NegativeBinomial overdispersion": (
        of_overdispersion,
        (300.0, 0.03),
        (),
        lambda m, o: by_summation(nbinom(m, 1 / o).logpmf),
        [*both_tails(1, 3, 299, 300, 1000, 6000), (290, 300), (3, 5)],
    ),
    "GammaPoisson": (
        dist.GammaPoisson,
        (0.3, 0.2),
        (),
        lambda a, r: by_summation(scipy.stats.nbinom(a, r / (1 + r)).logpmf),
        [*both_tails(1, 3, 40), (2, 6)],
    ),
    "Binomial": (
        binomial,
        (0.3,),
        (500,),
        lambda p: by_summation(scipy.stats.binom(500, p).logpmf, 501),
        [*both_tails(1, 100, 150, 499), (0, 2), (140, 160), (498, 501)],
    ),
    "Binomial logits": (
        binomial_logits,
        (-1.3,),
        (50,),
        lambda logit: by_summation(scipy.stats.binom(50, scipy.special.expit(logit)).logpmf, 51),
        [*both_tails(1, 11, 49), (5, 12)],
    ),
}
every_case = pytest.mark.parametrize("case", CASES)


@functools.cache
def program(law):
    def total(parameters, lower, upper):
        log_prob = interval_log_prob(law(*parameters), lower, upper)
        return log_prob.sum(), log_prob

    return jax.jit(jax.value_and_grad(total, has_aux=True))


def evaluated(law, parameters, lower, upper, precision=np.float64):
    """Log probabilities, and their slopes along each parameter: 32 rows, by one program a law."""
    rows = [np.ravel(x) for x in np.broadcast_arrays(lower, upper, *parameters)]
    lower, upper, *parameters = [np.resize(x, 32).astype(precision) for x in rows]
    with jax.enable_x64(precision == np.float64):
        (_, value), slopes = program(law)(parameters, lower, upper)
    assert value.dtype == precision
    return np.array(value)[: len(rows[0])], np.array(slopes)[:, : len(rows[0])]


def evaluated_case(case, precision):
    law, parameters, fixed, _, bounds = CASES[case]
    value, slopes = evaluated(law, parameters + fixed, *np.transpose(bounds), precision)
    return value, slopes[: len(parameters)]


@every_case
def test_log_probability_and_gradient_are_scipy_s(case):
    _, parameters, _, reference, bounds = CASES[case]
    value, slopes = evaluated_case(case, np.float64)
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
        np.testing.assert_allclose(slopes[i], difference, rtol=1e-6, atol=1e-9)


@every_case
def test_single_precision(case):
    value, slopes = evaluated_case(case, np.float32)
    expected, expected_slopes = evaluated_case(case, np.float64)
    # What is closer to certain than a float32 can tell is certain.
    np.testing.assert_allclose(value, expected, rtol=3e-4, atol=1e-30)
    np.testing.assert_allclose(slopes, expected_slopes, rtol=5e-3, atol=1e-4)


@pytest.mark.parametrize("precision", [np.float32, np.float64])
@every_case
def test_what_is_not_censored_has_no_gradient(case, precision):
    """Beside what is, so that a caller may select by `jnp.where`."""
    law, parameters, fixed, _, _ = CASES[case]
    lower, upper = [1.0, -INF, 3.0, np.nan, 3.0], [1.0, 3.0, INF, np.nan, 1.0]
    value, slopes = evaluated(law, parameters + fixed, lower, upper, precision)
    slopes = slopes[: len(parameters)]
    assert np.isfinite(value).all()
    assert np.isfinite(slopes).all()
    np.testing.assert_array_equal(value[[0, 3, 4]], 0.0)
    np.testing.assert_array_equal(slopes[:, [0, 3, 4]], 0.0)


def test_outliers_that_are_not_censored_do_no_harm_in_single_precision():
    y = [1e20, -1e20, 3.0]
    for law, parameters in [(noise.Normal, (1e6, 1e-3)), (student_t, (1e6, 1e-3, 4.0))]:
        value, slopes = evaluated(law, parameters, y, y, np.float32)
        np.testing.assert_array_equal(value, 0.0)
        np.testing.assert_array_equal(slopes, 0.0)


def test_gamma_of_whole_shape_counts_poisson_events():
    bounds = [*both_tails(1e-3, 2.0, 30.0, 3000.0), (1500.0, 1501.0)]
    found, _ = evaluated(dist.Gamma, (30.0, 0.9), *np.transpose(bounds))
    expected = [gamma_of_whole_shape(30, 0.9)(*each) for each in bounds]
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_normal_gradient_far_out_is_mills_ratio_s(side):
    z = np.array([15.0, 19.99, 20.0, 20.01, 40.0, 1e3, 1e8])
    bounds = (-INF, -z) if side < 0 else (z, INF)
    # φ(z) / Φ(−z) as a continued fraction.
    hazard = z
    for n in range(60, 0, -1):
        hazard = z + n / hazard
    _, slopes = evaluated(noise.Normal, (0.0, 1.0), *bounds)
    np.testing.assert_allclose(slopes, (side * hazard, z * hazard), rtol=1e-11)


def test_poisson_gradient_far_out_is_that_of_its_largest_term():
    _, [[few, many]] = evaluated(noise.Poisson, ([1e5, 1e-3],), [-INF, 9], [1, INF])
    # P(X < 1) = exp(−m); P(X > k) is that of k + 1, (m / k)^2 aside.
    np.testing.assert_allclose(few, -1.0, rtol=1e-12)
    np.testing.assert_allclose(many, 10 / 1e-3 - 1 + 1 / 11, rtol=1e-6)


@pytest.mark.parametrize(
    ("law", "of"),
    [(of_concentration, lambda c: (3.0, c)), (dist.Gamma, lambda c: (c, 2.0))],
    ids=["NegativeBinomial", "Gamma"],
)
def test_gradient_goes_on_where_a_continued_fraction_ends(law, of):
    # At a whole concentration the numerators reach zero while their slopes do not.
    whole = np.add.outer([1.0, 2.0, 7.0], [-1e-4, 0.0, 1e-4])
    _, slopes = evaluated(law, of(whole), -INF, 6)
    before, at, after = slopes[0 if law is dist.Gamma else 1].reshape(3, 3).T
    np.testing.assert_allclose(at, 0.5 * (before + after), rtol=1e-7)


def test_student_t_at_its_centre():
    df = np.array([0.5, 1.0, 4.0, 30.0])
    value, slopes = evaluated(student_t, (1.2, 0.4, df), -INF, 1.2)
    np.testing.assert_allclose(value, np.log(0.5), rtol=1e-12)
    np.testing.assert_allclose(slopes[0], -2.0 * scipy.stats.t(df, 1.2, 0.4).pdf(1.2), rtol=1e-9)


def test_poisson_is_the_limit_of_the_negative_binomial():
    mean, lower, upper = [3.0, 3.0, 500.0, 50.0], [-INF, 50, -INF, 40], [2, INF, 510, 60]
    found, _ = evaluated(of_overdispersion, (mean, 0.0), lower, upper)
    expected, _ = evaluated(noise.Poisson, (mean,), lower, upper)
    np.testing.assert_allclose(found, expected, rtol=2e-5)


def test_narrow_interval_is_density_times_width():
    z = np.array([[-8.0], [-1.0], [0.3], [8.0]])
    upper = z + np.array([1e-12, 1e-9, 1e-6, 1e-5, 3e-5, 1e-4])
    value, slopes = evaluated(noise.Normal, (0.0, 1.0), z, upper)
    middle, width = (0.5 * (z + upper)).ravel(), (upper - z).ravel()
    np.testing.assert_allclose(value, scipy.stats.norm.logpdf(middle) + np.log(width), rtol=1e-8)
    np.testing.assert_allclose(slopes[0], middle, rtol=1e-5)


def test_one_count_is_its_mass():
    k = 3e9
    found, _ = evaluated(noise.Poisson, (k,), k - 1, k + 1)
    np.testing.assert_allclose(found, noise.Poisson(k).log_prob(k), rtol=1e-9)


@pytest.mark.parametrize(
    ("law", "parameters", "bounds", "expected"),
    [
        (noise.Poisson, (3.7,), [(-INF, 0), (3, 4)], -INF),
        (noise.Poisson, (3.7,), [(-1, INF), (-INF, INF)], 0.0),
        (binomial, (0.3, 5), [(5, INF), (7, 9)], -INF),
        (binomial, (0.3, 5), [(-INF, 6)], 0.0),
        (noise.LogNormal, (1.2, 0.4), [(-INF, 0.0), (-2.0, -1.0)], -INF),
        (noise.LogNormal, (1.2, 0.4), [(0.0, INF)], 0.0),
        (noise.Normal, (1.2, 0.4), [(-INF, INF)], 0.0),
    ],
)
def test_what_cannot_happen_and_what_is_certain(law, parameters, bounds, expected):
    found, _ = evaluated(law, parameters, *np.transpose(bounds))
    np.testing.assert_array_equal(found, expected)


def test_lower_bound_of_a_positive_law_counts_from_zero():
    found, _ = evaluated(noise.LogNormal, (1.2, 0.4), [-INF, -3.0, 0.0], 0.8)
    np.testing.assert_array_equal(found, found[0])


def test_law_and_bounds_broadcast():
    mean = np.array([[1.0], [2.0]])
    lower, upper = np.array([-INF, 0.5, 1.0]), np.array([0.7, INF, 2.5])

    @jax.jit
    def log_probs(mean):
        laws = noise.Normal(mean, 0.4), dist.Normal(1.0, 0.4).expand([2, 3])
        return [interval_log_prob(law, lower, upper) for law in laws]

    found, expanded = log_probs(mean)
    expected, _ = evaluated(noise.Normal, (mean, 0.4), lower, upper)
    np.testing.assert_allclose(found, expected.reshape(2, 3), rtol=1e-14)
    np.testing.assert_allclose(expanded, [found[0]] * 2, rtol=1e-14)
    counts = jax.eval_shape(lambda m: interval_log_prob(noise.Poisson(m), -INF, 3), np.ones(4))
    assert counts.shape == (4,)


def test_under_vmap_jit_and_scan():
    lower, upper = np.array([[-INF, 2.0, 5.0]] * 2), np.array([[3.0, INF, 60.0]] * 2)
    rates = np.array([[0.5, 3.0, 0.1], [2.0, 0.3, 0.2]])

    def log_prob(shape, rate, lower, upper):
        return interval_log_prob(dist.Gamma(shape, shape * rate), lower, upper)

    def scanned(shape):
        def step(total, rows):
            return total + jax.vmap(log_prob, (None, 0, 0, 0))(shape, *rows).sum(), None

        return jax.lax.scan(step, jnp.zeros(()), (rates, lower, upper))[0]

    value, slope = jax.jit(jax.value_and_grad(scanned))(4.0)
    expected, slopes = evaluated(dist.Gamma, (4.0, 4.0 * rates), lower, upper)
    np.testing.assert_allclose(value, expected.sum(), rtol=1e-10)
    np.testing.assert_allclose(slope, np.sum(slopes[0] + rates.ravel() * slopes[1]), rtol=1e-10)


def test_second_derivatives_by_forward_over_reverse():
    lower, upper = np.array([-INF, 6.0, 1.0]), np.array([3.0, INF, 5.0])

    def log_prob(parameters):
        return interval_log_prob(of_concentration(*parameters), lower, upper).sum()

    @jax.jit
    def second(at, along):
        return jax.jvp(jax.grad(log_prob), (at,), (along,))[1]

    at, step = np.array([3.7, 2.3]), 1e-5
    for along in np.eye(2):
        ends = at[:, None] + step * along[:, None] * [-1.0, 1.0]
        _, slopes = evaluated(of_concentration, ends[..., None], lower, upper)
        before, after = slopes.reshape(2, 2, 3).sum(2).T
        np.testing.assert_allclose(second(at, along), (after - before) / (2 * step), rtol=1e-6)


def test_any_law_with_a_distribution_function():
    laws = [
        (dist.Logistic(1.2, 0.4), scipy.stats.logistic(1.2, 0.4)),
        (dist.Weibull(1.2, 1.7), scipy.stats.weibull_min(1.7, scale=1.2)),
        (dist.TruncatedNormal(1.2, 0.4, low=0.0), scipy.stats.truncnorm(-3.0, INF, 1.2, 0.4)),
        (dist.Beta(2.0, 7.5), scipy.stats.beta(2.0, 7.5)),
        (dist.Uniform(0.0, 3.0), scipy.stats.uniform(0.0, 3.0)),
    ]
    bounds = [(-INF, 0.4), (0.3, INF), (0.2, 0.9), (-1.0, 0.4)]

    @jax.jit
    def log_probs(lower, upper):
        of_dice = interval_log_prob(dist.DiscreteUniform(1, 6), 2, 5)
        return [interval_log_prob(law, lower, upper) for law, _ in laws], of_dice

    found, of_dice = log_probs(*np.transpose(bounds))
    for (_, reference), each in zip(laws, found, strict=True):
        expected = [scipy_s(reference)(*each) for each in bounds]
        np.testing.assert_allclose(each, expected, rtol=1e-12)
    np.testing.assert_allclose(of_dice, np.log(2 / 6), rtol=1e-12)


@pytest.mark.parametrize(
    "law", [dist.BetaBinomial(2.0, 3.0, 10), dist.VonMises(0.0, 1.0), dist.Bernoulli(0.3)]
)
def test_law_without_a_distribution_function_is_refused(law):
    with pytest.raises(ObservationError, match=r"cannot be censored\. Expected one with") as caught:
        interval_log_prob(law, -INF, 2.0)
    assert type(law).__name__ in str(caught.value)
