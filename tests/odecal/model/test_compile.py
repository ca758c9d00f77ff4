import warnings

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import scipy.stats
from numpyro.infer import MCMC, NUTS, Predictive, init_to_value
from numpyro.infer.util import log_density

import odecal
from odecal import (
    Constant,
    DeclarationError,
    Derived,
    Observable,
    ObservationError,
    Parameter,
    Solve,
    State,
    System,
)

LABELS = {"place": ["lung", "liver", "brain"]}
TIMES = np.array([0.5, 1.0, 2.0, 4.0])
SEEN = np.array([0.7, 0.5, 0.25, 0.05])


class Decay(System):
    t0 = 0.0

    x = State(initial=dist.LogNormal(0.0, 0.3), unit="mg")
    k = Parameter(dist.LogNormal(0.0, 1.0))
    sigma = Parameter(dist.HalfNormal(0.5))

    def vector_field(self, t, y, p):
        return {"x": -p.k * y.x}

    seen = Observable(lambda t, y, p: odecal.noise.Normal(y.x, p.sigma))
    half_life = Derived(lambda p: jnp.log(2.0) / p.k)


class Compartments(System):
    """Every kind of support: positive, bounded, real, a simplex; scalars and vectors."""

    coords = LABELS
    t0 = 0.0

    x = State(initial=dist.Uniform(0.5, 1.5), dims="place")
    k = Parameter(dist.Gamma(2.0, 3.0), dims="place")
    shift = Parameter(dist.Normal(0.0, 1.0))
    share = Parameter(dist.Dirichlet(jnp.ones(3)), dims="place")
    bounded = Parameter(dist.TruncatedNormal(0.1, 0.7, low=0.0, high=0.9))

    def vector_field(self, t, y, p):
        return {"x": p.share - p.k * y.x}

    seen = Observable(lambda t, y, p: odecal.noise.Normal(y.x + p.shift, 0.3), dims="place")
    total = Observable(lambda t, y, p: odecal.noise.LogNormal(y.x.sum(), p.bounded + 0.1))


def table(**columns):
    return pd.DataFrame({"time": TIMES, "seen": SEEN, **columns})


def compartment_table():
    return pd.DataFrame(
        {
            "time": [0.5, 1.0, 3.0],
            "seen[lung]": [1.0, np.nan, 0.4],
            "seen[liver]": [0.9, 0.6, 0.2],
            "seen[brain]": [1.2, 0.8, np.nan],
            "total": [3.0, np.nan, 1.1],
        }
    )


@pytest.fixture(scope="module")
def decay():
    return odecal.compile(Decay(), table(), solve=Solve(rtol=1e-8, atol=1e-10))


@pytest.fixture(scope="module")
def compartments():
    return odecal.compile(Compartments(), compartment_table())


# What is taken.


def test_takes_a_class_for_its_instance():
    assert isinstance(odecal.compile(Decay, table()).system, Decay)


@pytest.mark.parametrize("system", [None, "Decay", int, {}])
def test_refuses_what_is_no_system(system):
    with pytest.raises(DeclarationError, match=r"A system is expected, such as .*Got"):
        odecal.compile(system, table())


@pytest.mark.parametrize("own", [None, Solve(rtol=1e-3)])
def test_settings_are_the_system_s_unless_given(own):
    expected = own or Decay.solve
    assert odecal.compile(Decay(), table(), solve=own).solve is expected


# Values outside of the support of a noise model.


def with_law(law, **parts):
    return type("Small", (Decay,), {"seen": Observable(law), **parts})()


@pytest.mark.parametrize(
    ("law", "value", "expected"),
    [
        (lambda t, y, p: odecal.noise.LogNormal(y.x, p.sigma), 0.0, "a positive number"),
        (lambda t, y, p: odecal.noise.LogNormal(y.x, p.sigma), -1.0, "a positive number"),
        (lambda t, y, p: odecal.noise.Poisson(y.x), 1.5, "a whole number of at least 0"),
        (lambda t, y, p: odecal.noise.Poisson(y.x), -1.0, "a whole number of at least 0"),
        (
            lambda t, y, p: odecal.noise.NegativeBinomial(y.x, concentration=2.0),
            0.5,
            "a whole number of at least 0",
        ),
        (lambda t, y, p: dist.Bernoulli(probs=y.x), 2.0, "0 or 1"),
        (lambda t, y, p: dist.Beta(y.x, 1.0), 1.5, "a number between 0 and 1"),
    ],
)
def test_value_outside_of_the_support(law, value, expected):
    data = pd.DataFrame({"time": [1.0, 2.0], "seen": [1.0, value]})
    if expected == "a number between 0 and 1":
        data.loc[0, "seen"] = 0.5
    with pytest.raises(ObservationError) as caught:
        odecal.compile(with_law(law), data)
    message = str(caught.value)
    assert f"The column `seen` holds {value} at time 2. Expected {expected}" in message
    assert "1 of 2 rows are like that. Correct them" in message


def test_message_names_the_noise_model():
    system = with_law(lambda t, y, p: odecal.noise.Poisson(y.x))
    with pytest.raises(ObservationError, match=r"since its noise model is Poisson\. 4 of 4 rows"):
        odecal.compile(system, table())


def test_missing_values_are_in_every_support():
    system = with_law(lambda t, y, p: odecal.noise.LogNormal(y.x, p.sigma))
    odecal.compile(system, table(seen=[np.nan, 1.0, 2.0, np.nan]))


def binomial(trials):
    return with_law(
        lambda t, y, p: dist.Binomial(p.trials, probs=jnp.clip(y.x, 0.01, 0.99)), trials=trials
    )


def test_binomial_of_a_known_number_of_trials():
    odecal.compile(binomial(Constant(10.0)), table(seen=[0, 5, 10, 3]))
    with pytest.raises(
        ObservationError, match=r"`seen` holds 11\.0 at time 2\. .*noise model is Binomial.*1 of 4"
    ):
        odecal.compile(binomial(Constant(10.0)), table(seen=[0, 5, 11, 3]))


def uniform():
    return with_law(lambda t, y, p: dist.Uniform(0.0, p.top), top=Parameter(dist.Uniform(2.0, 4.0)))


@pytest.mark.parametrize("value", [-0.5, 5.0])
def test_support_that_depends_on_parameters_refuses_what_no_draw_allows(value):
    with pytest.raises(
        ObservationError, match=rf"`seen` holds {value} at time 2\..*noise model is Uniform"
    ):
        odecal.compile(uniform(), table(seen=[0.5, 1.0, value, 1.5]))


def test_support_that_depends_on_parameters_takes_what_some_draw_allows():
    odecal.compile(uniform(), table(seen=[0.5, 1.0, 2.5, 1.5]))


class Joint(System):
    coords = LABELS
    t0 = 0.0

    x = State(initial=1.0, dims="place")
    k = Parameter(dist.LogNormal(0.0, 1.0))

    def vector_field(self, t, y, p):
        return {"x": -p.k * y.x}

    seen = Observable(lambda t, y, p: dist.MultivariateNormal(y.x, 0.1 * jnp.eye(3)), dims="place")


def joint_table(second):
    rows = np.array([[0.6, 0.5, 0.7], second, [0.1, 0.2, 0.1]])
    columns = {f"seen[{place}]": rows[:, i] for i, place in enumerate(LABELS["place"])}
    return pd.DataFrame({"time": [0.5, 1.0, 2.0], **columns})


def test_joint_law_refuses_rows_that_are_partly_missing():
    with pytest.raises(
        ObservationError,
        match=r"`seen` has a joint distribution \(MultivariateNormal\).*Drop those rows",
    ):
        odecal.compile(Joint(), joint_table([0.3, np.nan, 0.4]))


def test_joint_law_takes_rows_that_are_missing_altogether():
    model = odecal.compile(Joint(), joint_table([np.nan, np.nan, np.nan]))
    np.testing.assert_array_equal(model.experiment.series["seen"].times, [0.5, 2.0])


def test_joint_law_refuses_values_outside_of_its_support():
    class Shares(Joint):
        seen = Observable(lambda t, y, p: dist.Dirichlet(1.0 + y.x), dims="place")

    with pytest.raises(ObservationError, match=r"`seen` holds .* at time 0\.5.*that sum to 1"):
        odecal.compile(Shares(), joint_table([0.2, 0.3, 0.5]))


# The density.


def test_density_is_the_closed_form(decay):
    x0, k, sigma = 1.1, 0.8, 0.2
    expected = (
        scipy.stats.lognorm(s=0.3).logpdf(x0)
        + scipy.stats.lognorm(s=1.0).logpdf(k)
        + scipy.stats.halfnorm(scale=0.5).logpdf(sigma)
        + np.log(x0 * k * sigma)  # the Jacobian of the logarithms
        + scipy.stats.norm(x0 * np.exp(-k * TIMES), sigma).logpdf(SEEN).sum()
    )
    position = {"x0": np.log(x0), "k": np.log(k), "sigma": np.log(sigma)}
    with decay.precision():
        assert jax.jit(decay.logdensity_fn)(position) == pytest.approx(expected, rel=1e-8)


@pytest.fixture(scope="module")
def evaluated(compartments):
    """At one draw from the prior: the density, NumPyro's with the Jacobians, the likelihoods."""
    model = compartments

    @jax.jit
    def evaluate(key):
        position = model.init_position(key)
        values = model.constrain(position)
        joint, _ = log_density(model, (), {}, values)
        jacobian = sum(
            jnp.sum(transform.log_abs_det_jacobian(position[name], values[name]))
            for name, transform in model.transforms.items()
        )
        likelihoods = model.log_likelihood(model.predict(values))
        return model.logdensity_fn(position), joint + jacobian, likelihoods

    with model.precision():
        return jax.tree.map(np.asarray, evaluate(jax.random.key(3)))


def test_density_is_numpyro_s_with_the_jacobians(evaluated):
    density, expected, _ = evaluated
    assert np.isfinite(density)
    np.testing.assert_allclose(density, expected, rtol=1e-10)


def test_missing_values_add_nothing(evaluated):
    *_, likelihoods = evaluated
    np.testing.assert_array_equal(
        likelihoods["seen"] == 0.0,
        [[False, False, False], [True, False, False], [False, False, True]],
    )
    assert likelihoods["total"].shape == (2,)


def test_positions_and_values_are_inverse(compartments):
    model = compartments
    with model.precision():
        values = model.sample_prior(jax.random.key(1))
        back = model.constrain(model.unconstrain(values))
        assert set(back) == {"k", "shift", "share", "bounded", "x0"}
        for name, value in values.items():
            np.testing.assert_allclose(back[name], value, rtol=1e-9)


def test_prior_draws_have_the_shapes_of_the_sites(compartments):
    with compartments.precision():
        values = compartments.sample_prior(jax.random.key(0))
        shapes = {name: value.shape for name, value in values.items()}
        assert {value.dtype for value in values.values()} == {np.dtype("float64")}
    assert shapes == {"k": (3,), "shift": (), "share": (3,), "bounded": (), "x0": (3,)}


# Dimensions.


def test_observables_that_share_their_times_share_a_dimension(decay):
    assert decay.dims == {"k": [], "sigma": [], "x0": [], "half_life": [], "seen": ["time"]}
    assert set(decay.coords) == {"time"}
    np.testing.assert_array_equal(decay.coords["time"], TIMES)


def test_observables_with_times_of_their_own_have_dimensions_of_their_own(compartments):
    assert compartments.dims["seen"] == ["time_seen", "place"]
    assert compartments.dims["total"] == ["time_total"]
    assert compartments.dims["x0"] == ["place"]
    np.testing.assert_array_equal(compartments.coords["time_seen"], [0.5, 1.0, 3.0])
    np.testing.assert_array_equal(compartments.coords["time_total"], [0.5, 3.0])
    np.testing.assert_array_equal(compartments.coords["place"], LABELS["place"])


# Precision.


def test_work_in_single_precision_is_warned_of(decay):
    position = {"x0": 0.0, "k": 0.0, "sigma": 0.0}
    with (
        jax.enable_x64(False),
        pytest.warns(UserWarning, match=r"single precision here.*with model\.precision\(\)"),
    ):
        jax.eval_shape(decay.logdensity_fn, position)


@pytest.mark.parametrize(("dtype", "expected"), [("float32", "float32"), ("float64", "float64")])
def test_precision_is_that_of_the_settings(dtype, expected):
    model = odecal.compile(Decay(), table(), solve=Solve(dtype=dtype))
    with warnings.catch_warnings(), model.precision():
        warnings.simplefilter("error")
        position = {name: jnp.zeros((), dtype) for name in ("x0", "k", "sigma")}
        assert jax.eval_shape(model.logdensity_fn, position).dtype == expected


def test_precision_is_put_back(decay):
    before = jax.config.jax_enable_x64
    with decay.precision():
        assert jax.config.jax_enable_x64
    assert jax.config.jax_enable_x64 == before


# NumPyro.


def test_prior_predictive(decay):
    with decay.precision():
        draws = Predictive(decay, num_samples=20)(jax.random.key(0), predict=True)
    draws = {name: np.asarray(value) for name, value in draws.items()}
    shapes = {name: value.shape for name, value in draws.items()}
    assert shapes.pop("seen") == (20, 4)
    shapes.pop("solve", None)  # the factor by which a failed solve has no density
    assert set(shapes) == {"k", "sigma", "x0", "half_life", "solver_steps", "solve_failed"}
    assert set(shapes.values()) == {(20,)}
    np.testing.assert_allclose(draws["half_life"], np.log(2.0) / draws["k"], rtol=1e-12)
    assert not draws["solve_failed"].any()
    residual = draws["seen"] - draws["x0"][:, None] * np.exp(-draws["k"][:, None] * TIMES)
    pulls = residual / draws["sigma"][:, None]
    assert scipy.stats.kstest(pulls.ravel(), "norm").pvalue > 1e-3


def test_observables_are_the_data_unless_predicted(decay):
    values = {"x0": 1.0, "k": 1.0, "sigma": 0.1}
    with decay.precision():
        draws = Predictive(decay, {name: jnp.full(2, v) for name, v in values.items()})(
            jax.random.key(0)
        )
    np.testing.assert_allclose(draws["seen"], [SEEN, SEEN], rtol=1e-12)


def test_nuts(decay):
    with decay.precision():
        kernel = NUTS(
            decay,
            max_tree_depth=3,
            init_strategy=init_to_value(values={"x0": 1.0, "k": 0.7, "sigma": 0.1}),
        )
        mcmc = MCMC(kernel, num_warmup=20, num_samples=20, progress_bar=False)
        mcmc.run(jax.random.key(0))
        draws = mcmc.get_samples()
    assert {name: value.shape for name, value in draws.items()} == dict.fromkeys(
        ["k", "sigma", "x0", "half_life", "solver_steps", "solve_failed"], (20,)
    )
    assert np.unique(draws["k"]).size > 5
    assert 0.5 < np.median(draws["k"]) < 1.0
