import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from odecal import noise

Y = np.array([0.02, 0.5, 1.3, 7.0])
COUNTS = np.array([0, 1, 3, 40])


def combined(mean, additive, proportional):
    return np.sqrt(additive**2 + (proportional * mean) ** 2)


def nbinom(mean, overdispersion):
    n = 1.0 / overdispersion
    return scipy.stats.nbinom(n, n / (n + mean))


CASES = {
    "Normal": (lambda: noise.Normal(1.2, 0.4), scipy.stats.norm(1.2, 0.4).logpdf, Y),
    "LogNormal": (
        lambda: noise.LogNormal(1.2, 0.4),
        scipy.stats.lognorm(s=0.4, scale=1.2).logpdf,
        Y,
    ),
    "StudentT": (
        lambda: noise.StudentT(1.2, 0.4),
        scipy.stats.t(4.0, 1.2, 0.4).logpdf,
        Y,
    ),
    "StudentT df": (
        lambda: noise.StudentT(1.2, 0.4, df=2.5),
        scipy.stats.t(2.5, 1.2, 0.4).logpdf,
        Y,
    ),
    "AdditiveProportional": (
        lambda: noise.AdditiveProportional(1.2, 0.4, 0.3),
        scipy.stats.norm(1.2, combined(1.2, 0.4, 0.3)).logpdf,
        Y,
    ),
    "AdditiveProportional additive only": (
        lambda: noise.AdditiveProportional(1.2, 0.4, 0.0),
        scipy.stats.norm(1.2, 0.4).logpdf,
        Y,
    ),
    "AdditiveProportional proportional only": (
        lambda: noise.AdditiveProportional(1.2, 0.0, 0.3),
        scipy.stats.norm(1.2, 0.36).logpdf,
        Y,
    ),
    "Poisson": (lambda: noise.Poisson(3.7), scipy.stats.poisson(3.7).logpmf, COUNTS),
    "NegativeBinomial overdispersion": (
        lambda: noise.NegativeBinomial(3.7, overdispersion=0.25),
        nbinom(3.7, 0.25).logpmf,
        COUNTS,
    ),
    "NegativeBinomial concentration": (
        lambda: noise.NegativeBinomial(3.7, concentration=4.0),
        nbinom(3.7, 0.25).logpmf,
        COUNTS,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_log_density_is_scipy_s(case):
    law, reference, values = CASES[case]
    with jax.enable_x64(True):
        density = law().log_prob(jnp.asarray(values))
    # JAX's log-gamma gives a negative binomial no more than this.
    np.testing.assert_allclose(density, reference(values), rtol=1e-9)


@pytest.mark.parametrize(
    ("law", "reference"),
    [
        (lambda m: noise.Normal(m, 0.4), lambda m: scipy.stats.norm(m, 0.4).logpdf(3.0)),
        (
            lambda m: noise.LogNormal(m, 0.4),
            lambda m: scipy.stats.lognorm(s=0.4, scale=m).logpdf(3.0),
        ),
        (lambda m: noise.StudentT(m, 0.4), lambda m: scipy.stats.t(4.0, m, 0.4).logpdf(3.0)),
        (
            lambda m: noise.AdditiveProportional(m, 0.4, 0.3),
            lambda m: scipy.stats.norm(m, combined(m, 0.4, 0.3)).logpdf(3.0),
        ),
        (noise.Poisson, lambda m: scipy.stats.poisson(m).logpmf(3)),
        (
            lambda m: noise.NegativeBinomial(m, overdispersion=0.25),
            lambda m: nbinom(m, 0.25).logpmf(3),
        ),
    ],
    ids=["Normal", "LogNormal", "StudentT", "AdditiveProportional", "Poisson", "NegativeBinomial"],
)
def test_gradient_in_the_prediction_is_that_of_scipy_s(law, reference):
    step = 1e-6
    with jax.enable_x64(True):
        gradient = jax.grad(lambda m: law(m).log_prob(3.0))(1.2)
    difference = (reference(1.2 + step) - reference(1.2 - step)) / (2 * step)
    assert gradient == pytest.approx(difference, rel=1e-6)


def test_negative_binomial_has_the_documented_moments():
    law = noise.NegativeBinomial(5.0, overdispersion=0.3)
    assert law.mean == pytest.approx(5.0, rel=1e-6)
    assert law.variance == pytest.approx(5.0 + 25.0 * 0.3, rel=1e-6)


def test_negative_binomial_without_overdispersion_is_poisson_s():
    with jax.enable_x64(True):
        density = noise.NegativeBinomial(3.7, overdispersion=0.0).log_prob(jnp.asarray(COUNTS))
    np.testing.assert_allclose(density, scipy.stats.poisson(3.7).logpmf(COUNTS), atol=1e-4)


@pytest.mark.parametrize("spreads", [{}, {"overdispersion": 0.2, "concentration": 5.0}])
def test_negative_binomial_takes_exactly_one_spread(spreads):
    with pytest.raises(TypeError, match="exactly one of overdispersion= and concentration="):
        noise.NegativeBinomial(3.0, **spreads)


SURVIVORS = {
    "Normal": lambda m: noise.Normal(m, 0.4).log_prob(0.1),
    "LogNormal": lambda m: noise.LogNormal(m, 0.4).log_prob(0.1),
    "StudentT": lambda m: noise.StudentT(m, 0.4).log_prob(0.1),
    "AdditiveProportional": lambda m: noise.AdditiveProportional(m, 0.4, 0.3).log_prob(0.1),
    "AdditiveProportional proportional only": (
        lambda m: noise.AdditiveProportional(m, 0.0, 0.3).log_prob(0.0)
    ),
    "Poisson at 0": lambda m: noise.Poisson(m).log_prob(0),
    "Poisson at 2": lambda m: noise.Poisson(m).log_prob(2),
    "NegativeBinomial at 0": lambda m: noise.NegativeBinomial(m, overdispersion=0.2).log_prob(0),
    "NegativeBinomial at 2": lambda m: noise.NegativeBinomial(m, overdispersion=0.2).log_prob(2),
}


@pytest.mark.parametrize("x64", [True, False], ids=["double", "single"])
@pytest.mark.parametrize("prediction", [-1e-9, 0.0, 1e-300])
@pytest.mark.parametrize("law", SURVIVORS)
def test_survives_a_prediction_that_is_not_quite_positive(law, prediction, x64):
    with jax.enable_x64(x64):
        density, gradient = jax.value_and_grad(SURVIVORS[law])(jnp.asarray(prediction))
        assert jnp.isfinite(density)
        assert jnp.isfinite(gradient)


@pytest.mark.parametrize("law", ["LogNormal", "Poisson at 2", "NegativeBinomial at 2"])
def test_prediction_below_the_floor_counts_as_the_floor(law):
    with jax.enable_x64(True):
        density, gradient = jax.value_and_grad(SURVIVORS[law])(-0.1)
        assert density == SURVIVORS[law](0.0)
        assert gradient == 0.0
        assert density < SURVIVORS[law](1e-3)


@pytest.mark.parametrize(
    "law",
    [
        lambda m: noise.LogNormal(m, 0.4).log_prob(0.5),
        lambda m: noise.Poisson(m).log_prob(2),
        lambda m: noise.NegativeBinomial(m, overdispersion=0.2).log_prob(2),
        lambda m: noise.AdditiveProportional(m, 0, 1).log_prob(0.5),
    ],
    ids=["LogNormal", "Poisson", "NegativeBinomial", "AdditiveProportional"],
)
def test_whole_number_predictions_are_numbers_too(law):
    whole, floating = np.array([0, 1, 5]), np.array([0.0, 1.0, 5.0])
    with jax.enable_x64(True):
        np.testing.assert_allclose(law(whole), law(floating), rtol=1e-12)


def test_overdispersion_at_zero_has_a_finite_gradient():
    def density(overdispersion):
        return noise.NegativeBinomial(3.7, overdispersion=overdispersion).log_prob(2)

    with jax.enable_x64(True):
        assert jnp.isfinite(jax.grad(density)(0.0))


@pytest.mark.parametrize(
    ("law", "mean"),
    [
        (lambda: noise.LogNormal(2.0, 0.3), 2.0 * np.exp(0.045)),
        (lambda: noise.AdditiveProportional(2.0, 0.3, 0.4), 2.0),
    ],
    ids=["LogNormal", "AdditiveProportional"],
)
def test_draws_scatter_around_the_mean(law, mean):
    draws = np.asarray(law().sample(jax.random.key(0), (4000,)), float)
    error = draws.std() / np.sqrt(draws.size)
    assert abs(draws.mean() - mean) < 4 * error


def test_shape_is_that_of_the_prediction():
    prediction = jnp.ones((2, 3))
    for law in (noise.Normal(prediction, 0.1), noise.NegativeBinomial(prediction, concentration=2)):
        assert law.shape() == (2, 3)
