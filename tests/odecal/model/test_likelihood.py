import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats

from odecal._model.likelihood import ObservationDistribution
from odecal._system.values import Values

T = np.array([0.0, 0.5, 2.0, 3.0])
Y = np.array([1.0, 0.7, 0.2, 0.4])
Z = np.arange(12.0).reshape(4, 3) / 10
SIGMA = np.array([0.1, 0.2, 0.3])
COVARIANCE = np.array([[1.0, 0.3, 0.0], [0.3, 2.0, 0.1], [0.0, 0.1, 0.5]])
P = 2.0


def normal(t, y, p):
    return dist.Normal(y * p, 1.0 + t)


def vector(t, y, p):
    return dist.Normal(y * p, SIGMA * (1.0 + t))


def joint(t, y, p):
    return dist.MultivariateNormal(y * p, COVARIANCE * (1.0 + t))


REFERENCE = {
    normal: lambda t, y: scipy.stats.norm(y * P, 1.0 + t),
    vector: lambda t, y: scipy.stats.norm(y * P, SIGMA * (1.0 + t)),
    joint: lambda t, y: scipy.stats.multivariate_normal(y * P, COVARIANCE * (1.0 + t)),
}
KINDS = pytest.mark.parametrize(
    ("law", "y"), [(normal, Y), (vector, Z), (joint, Z)], ids=["scalar", "vector", "joint"]
)


def at_times(law, y, p=P):
    return ObservationDistribution(
        law, (jnp.asarray(T), jnp.asarray(y), jnp.asarray(p)), (0, 0, None), len(T)
    )


def log_density(law, y, value, present=None):
    """The log density by AtTimes, in double precision."""

    @jax.jit
    def density(value):
        distribution = at_times(law, y)
        masked = distribution if present is None else distribution.mask(jnp.asarray(present))
        return masked.log_prob(value)

    with jax.enable_x64(True):
        return np.asarray(density(jnp.asarray(value)))


def loop(law, y, value):
    """The log density by scipy, in a loop over times."""
    laws = [REFERENCE[law](t, y_t) for t, y_t in zip(T, y, strict=True)]
    return np.stack([one.logpdf(v) for one, v in zip(laws, value, strict=True)])


@pytest.mark.parametrize(
    ("law", "y", "batch", "event"),
    [(normal, Y, (4,), ()), (vector, Z, (4, 3), ()), (joint, Z, (4,), (3,))],
)
def test_shape_is_that_of_one_value_after_the_times(law, y, batch, event):
    distribution = jax.eval_shape(lambda: at_times(law, y))
    assert distribution.batch_shape == batch
    assert distribution.event_shape == event


@KINDS
def test_log_density_is_that_of_a_loop(law, y):
    value = y + 0.3
    np.testing.assert_allclose(log_density(law, y, value), loop(law, y, value), rtol=1e-10)


@KINDS
def test_log_density_of_several_sets_of_values(law, y):
    values = np.random.default_rng(0).normal(size=(2, 5, *y.shape))
    density = log_density(law, y, values)
    for where in np.ndindex(2, 5):
        np.testing.assert_allclose(density[where], loop(law, y, values[where]), rtol=1e-10)


@pytest.mark.parametrize("shape", [(), (2, 5)], ids=str)
@KINDS
def test_samples_have_times_after_the_sample_shape(law, y, shape):
    draws = jax.jit(lambda key: at_times(law, y).sample(key, shape))(jax.random.key(0))
    assert draws.shape == (*shape, *y.shape)


@pytest.fixture(scope="module")
def draws():
    draw = jax.jit(lambda key: at_times(normal, Y).sample(key, (4000,)))
    return np.asarray(draw(jax.random.key(1)), float)


@pytest.mark.parametrize("i", range(4))
def test_samples_at_each_time_are_of_that_time_s_law(draws, i):
    cdf = scipy.stats.norm(P * Y[i], 1.0 + T[i]).cdf
    assert scipy.stats.kstest(draws[:, i], cdf).pvalue > 1e-3


def test_samples_at_different_times_are_independent(draws):
    correlation = np.corrcoef(draws.T)
    assert np.abs(correlation - np.eye(4)).max() < 4 / np.sqrt(len(draws))


def test_vector_elements_are_independent_in_samples():
    draw = jax.jit(lambda key: at_times(vector, Z).sample(key, (4000,)))
    draws = np.asarray(draw(jax.random.key(2)), float).reshape(4000, -1)
    correlation = np.corrcoef(draws.T)
    assert np.abs(correlation - np.eye(12)).max() < 5 / np.sqrt(4000)


@pytest.mark.parametrize(("law", "y"), [(normal, Y), (vector, Z)], ids=["scalar", "vector"])
def test_mean_and_variance_are_those_of_a_loop(law, y):
    one = [REFERENCE[law](t, y_t) for t, y_t in zip(T, y, strict=True)]
    mean, variance = jax.jit(lambda: (at_times(law, y).mean, at_times(law, y).variance))()
    np.testing.assert_allclose(mean, [law.mean() for law in one], rtol=1e-6)
    np.testing.assert_allclose(variance, [law.var() for law in one], rtol=1e-6)


@pytest.mark.parametrize(("law", "y"), [(normal, Y), (vector, Z)], ids=["scalar", "vector"])
def test_mask_gives_zero_where_a_value_is_missing(law, y):
    present = np.ones(y.shape, bool)
    present.flat[[0, -1]] = False
    expected = np.where(present, loop(law, y, y), 0.0)
    np.testing.assert_allclose(log_density(law, y, y, present), expected, rtol=1e-10)


def test_mask_of_a_joint_law_is_by_time():
    present = np.array([True, False, True, True])
    expected = np.where(present, loop(joint, Z, Z), 0.0)
    np.testing.assert_allclose(log_density(joint, Z, Z, present), expected, rtol=1e-10)


def test_gradient_is_that_of_the_closed_form():
    def density(p):
        return at_times(normal, Y, p).log_prob(jnp.asarray(Y)).sum()

    with jax.enable_x64(True):
        gradient = jax.jit(jax.grad(density))(P)
    # d/dp of −(y − p·y)²/(2s²) is (y − p·y)·y/s².
    expected = np.sum((Y - P * Y) * Y / (1.0 + T) ** 2)
    assert gradient == pytest.approx(expected, rel=1e-10)


def test_arguments_may_be_records():
    def law(t, y, p):
        return dist.Normal(y.a + y.b.sum(), p.sigma)

    y = Values({"a": jnp.asarray(Y), "b": jnp.asarray(Z)})
    p = Values({"sigma": jnp.asarray(0.5)})
    density = ObservationDistribution(law, (jnp.asarray(T), y, p), (0, 0, None), 4).log_prob(
        jnp.zeros(4)
    )
    expected = scipy.stats.norm(Y + Z.sum(axis=1), 0.5).logpdf(0.0)
    np.testing.assert_allclose(density, expected, rtol=1e-5)


def test_is_a_pytree_that_keeps_the_law():
    leaves, structure = jax.tree.flatten(at_times(normal, Y))
    back = jax.tree.unflatten(structure, leaves)
    np.testing.assert_allclose(back.log_prob(jnp.asarray(Y)), loop(normal, Y, Y), rtol=1e-5)


def test_batch_of_parameters_by_vmap():
    def density(p):
        return at_times(normal, Y, p).log_prob(jnp.asarray(Y))

    ps = np.array([0.5, 1.0, 2.0])
    expected = [scipy.stats.norm(p * Y, 1.0 + T).logpdf(Y) for p in ps]
    np.testing.assert_allclose(jax.jit(jax.vmap(density))(ps), expected, rtol=1e-5)


def test_counts_have_the_support_of_one_count_and_are_whole():
    law = at_times(lambda t, y, p: dist.Bernoulli(probs=y), Y)
    assert law.support is dist.constraints.boolean
    assert jnp.issubdtype(law.sample(jax.random.key(0), (3,)).dtype, jnp.integer)


def test_single_time():
    law = ObservationDistribution(normal, (jnp.zeros(1), jnp.ones(1), P), (0, 0, None), 1)
    expected = scipy.stats.norm(P, 1.0).logpdf(0.5)
    np.testing.assert_allclose(law.log_prob(jnp.array([0.5])), [expected], rtol=1e-5)


# Traced, as in a model: NumPyro checks the arguments of a distribution only where it can see them.


@pytest.mark.parametrize("value", [-1e-9, -0.2, float("nan"), 0.0, 1.0 + 1e-9])
def test_a_binomial_of_a_prevalence_out_of_bounds_can_be_drawn(value):
    """NumPyro's own sampler never ends where a batch holds a negative probability."""

    @jax.jit
    def draw(probs):
        law = ObservationDistribution(lambda p: dist.Binomial(10, p), (probs,), (0,), 2)
        return law.sample(jax.random.key(0))

    assert draw(jnp.array([0.5, value]))[1] == (10 if value > 1 else 0)


@pytest.mark.parametrize(
    "law", [lambda p: dist.Binomial(10, p), dist.Poisson], ids=["Binomial", "Poisson"]
)
def test_slightly_negative_rates_have_the_density_of_zero(law):
    @jax.jit
    def density(rate, count):
        return ObservationDistribution(law, (rate[None],), (0,), 1).log_prob(count[None]).sum()

    rate = jnp.array(-1e-9)
    np.testing.assert_allclose(density(rate, jnp.array(0)), 0.0, atol=1e-6)
    assert np.isfinite(density(rate, jnp.array(1)))
    assert np.isfinite(jax.grad(density)(rate, jnp.array(1)))


def test_rates_far_out_of_bounds_have_no_density():
    @jax.jit
    def density(rate):
        return (
            ObservationDistribution(dist.Poisson, (rate[None],), (0,), 1)
            .log_prob(jnp.array([3]))
            .sum()
        )

    assert np.isnan(density(jnp.array(-0.2)))
