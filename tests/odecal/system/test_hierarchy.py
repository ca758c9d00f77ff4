"""What varies between groups: sites, values, densities, and the coordinates they are sampled in."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import scipy.stats
from numpyro.infer.util import potential_energy

import odecal
from odecal import Correlation, Covariate, DeclarationError, Observable, Parameter, State, System
from odecal.centring import Centred, Informed, NonCentred, Partial
from odecal.links import Identity, Log, Logit


def still(**parts):
    """A system whose state does not move, with some parts."""

    def vector_field(self, t, y, p):
        return {"x": 0.0 * y.x}

    about = {
        "individual": "subject",
        "x": State(initial=lambda p: p.level),
        "sigma": Parameter(dist.HalfNormal(1.0)),
        "vector_field": vector_field,
        "seen": Observable(lambda t, y, p: odecal.noise.Normal(y.x, p.sigma)),
    }
    return type("Still", (System,), about | parts)


def varying(**arguments):
    about = {"location": dist.Normal(0.5, 2.0), "scale": dist.HalfNormal(1.5)}
    return Parameter.varying("subject", **(about | arguments))


TABLE = pd.DataFrame(
    {
        "subject": ["a", "a", "b", "b", "c", "c"],
        "time": [0.0, 1.0] * 3,
        "seen": [1.0, 1.2, 0.4, 0.1, 2.5, 2.2],
        "size": [1.0, 1.0, 2.0, 2.0, 4.0, 4.0],
        "site": ["n", "n", "n", "n", "s", "s"],
    }
)
PLAIN = TABLE[["subject", "time", "seen"]]


def values_of(model, seed=0):
    with model.precision():
        return model.sample_prior(jax.random.key(seed))


def test_a_varying_parameter_has_a_location_a_scale_and_a_value_for_each_group():
    model = odecal.compile(still(level=varying(link="log"))(), PLAIN)
    assert list(model.sites) == ["sigma", "level_location", "level_scale", "level_raw"]
    with model.precision():
        values = {
            "sigma": jnp.asarray(0.3),
            "level_location": jnp.asarray(0.2),
            "level_scale": jnp.asarray(0.7),
            "level_raw": jnp.array([-1.0, 0.0, 2.0]),
        }
        prediction = model.predict(values)
        expected = np.exp(0.2 + 0.7 * np.array([-1.0, 0.0, 2.0]))
        np.testing.assert_allclose(prediction.site_values.own["level"], expected)
        np.testing.assert_allclose(prediction.laws["seen"].mean, np.repeat(expected, 2), rtol=1e-6)


@pytest.mark.parametrize(
    "centring",
    [NonCentred(), Centred(), Partial(0.3), Partial([0.1, 0.5, 1.0], [0.0, 0.4, 0.9], 0.6)],
    ids=["non-centred", "centred", "partial", "by group"],
)
def test_the_density_is_the_same_in_all_coordinates(centring):
    """Of the natural values, with the Jacobian of the coordinates: checked against SciPy."""
    model = odecal.compile(still(level=varying(centring=centring))(), PLAIN)
    location, scale, sigma, level = 0.3, 0.8, 0.4, np.array([1.1, 0.2, 2.0])
    a, b, unit = (np.asarray(x) for x in centring.weights())
    mixed = (1 - b) * scale + b * unit
    with model.precision():
        position = model.unconstrain(
            {
                "level_location": location,
                "level_scale": scale,
                "sigma": sigma,
                "level_raw": a * location / unit + (level - location) / mixed,
            }
        )
        natural = model.site_values(model.constrain(position)).own["level"]
        np.testing.assert_allclose(natural, level, rtol=1e-12)
        density = model.logdensity_fn(position)
        np.testing.assert_allclose(density, -potential_energy(model, (), {}, position), rtol=1e-12)
    expected = (
        scipy.stats.norm(0.5, 2.0).logpdf(location)
        + scipy.stats.halfnorm(scale=1.5).logpdf(scale)
        + scipy.stats.halfnorm(scale=1.0).logpdf(sigma)
        + np.log(scale)
        + np.log(sigma)  # of their logarithms
        + scipy.stats.norm(location, scale).logpdf(level).sum()
        + np.log(np.broadcast_to(mixed, 3)).sum()  # of the coordinates of the groups
        + scipy.stats.norm(np.repeat(level, 2), sigma).logpdf(PLAIN.seen).sum()
    )
    np.testing.assert_allclose(density, expected, rtol=1e-6)


@pytest.mark.parametrize("centring", [NonCentred(), Centred(), Partial(0.4, 0.7, 0.5)])
def test_correlated_effects_have_their_joint_density(centring):
    parts = {
        "level": varying(centring=centring),
        "slope": varying(centring=centring, location=dist.Normal(0.0, 1.0)),
        "both": Correlation("level", "slope", concentration=2.0),
        "vector_field": lambda self, t, y, p: {"x": p.slope + 0.0 * y.x},
    }
    model = odecal.compile(still(**parts)(), PLAIN)
    with model.precision():
        values = values_of(model, 3)
        site_values = model.site_values(values)
        matrix = site_values.correlations["both"]
        position = model.unconstrain(values)
        density = model.logprior_fn(position)
        scales = np.array([values["level_scale"], values["slope_scale"]])
        location = np.array([values["level_location"], values["slope_location"]])
        effects = np.stack([site_values.own["level"], site_values.own["slope"]], axis=-1)
        factor = np.diag(scales) @ np.asarray(values["both_cholesky"])
        b, unit = np.asarray(centring.weights().scale), centring.weights().unit
        mixed = (1 - b) * factor + b * unit * np.eye(2)
        expected = scipy.stats.multivariate_normal(location, factor @ factor.T).logpdf(effects)
        expected = expected.sum() + 3 * np.linalg.slogdet(mixed)[1]
        rest = {k: v for k, v in values.items() if k != "both_raw"}
        for name, value in rest.items():
            site = model.sites[name]
            expected += jnp.sum(site.prior.log_prob(value))
            transform = model.transforms[name]
            expected += jnp.sum(transform.log_abs_det_jacobian(position[name], value))
    assert np.allclose(np.diag(matrix), 1.0)
    np.testing.assert_allclose(density, expected, rtol=1e-10)


def test_correlations_of_prior_draws_have_the_declared_law():
    """R ~ LKJ(η) of two: (r + 1)/2 ~ Beta(η, η). One test in 10,000 would fail by chance."""
    parts = {
        "level": varying(),
        "slope": varying(),
        "both": Correlation("level", "slope", concentration=3.0),
        "vector_field": lambda self, t, y, p: {"x": p.slope + 0.0 * y.x},
    }
    model = odecal.compile(still(**parts)(), PLAIN)

    def correlation(key):
        return model.site_values(model.sample_prior(key)).correlations["both"][0, 1]

    with model.precision():
        keys = jax.random.split(jax.random.key(0), 2000)
        drawn = np.asarray(jax.jit(jax.vmap(correlation))(keys))
    assert scipy.stats.kstest((drawn + 1) / 2, scipy.stats.beta(3.0, 3.0).cdf).pvalue > 1e-4


def test_locations_may_use_covariates_and_coarser_groups():
    parts = {
        "size": Covariate(),
        "slope": Parameter(dist.Normal(0.0, 1.0)),
        "base": Parameter.varying(
            "site", location=dist.Normal(0.0, 1.0), scale=dist.HalfNormal(1.0)
        ),
        "level": varying(location=lambda p: p.base + p.slope * jnp.log(p.size)),
    }
    model = odecal.compile(still(**parts)(), TABLE)
    assert model.experiment.individuals.groups[("site",)].index.tolist() == [0, 0, 1]
    with model.precision():
        values = values_of(model)
        site_values = model.site_values(values)
        base = np.asarray(site_values.own["base"])[[0, 0, 1]]
        location = base + values["slope"] * np.log([1.0, 2.0, 4.0])
        expected = location + values["level_scale"] * values["level_raw"]
        np.testing.assert_allclose(site_values.own["level"], expected, rtol=1e-12)


def test_pooling_differs_by_one_word():
    arguments = {"location": dist.Normal(0.5, 2.0), "scale": dist.HalfNormal(1.5), "link": "log"}
    sites = {}
    for make in (Parameter.varying, Parameter.pooled, Parameter.unpooled):
        model = odecal.compile(still(level=make("subject", **arguments))(), PLAIN)
        with model.precision():
            found = model.site_values(values_of(model)).own["level"]
        assert found.shape == (3,)
        sites[make.__name__] = list(model.sites)[1:]
    assert sites == {
        "varying": ["level_location", "level_scale", "level_raw"],
        "pooled": ["level_location"],
        "unpooled": ["level_raw"],
    }


def test_unpooled_groups_have_the_prior_of_the_location():
    level = Parameter.unpooled(
        "subject", location=dist.TruncatedNormal(1.0, 0.5, low=0.0), scale=1.0
    )
    model = odecal.compile(still(level=level)(), PLAIN)
    with model.precision():
        values = values_of(model)
        position = model.unconstrain(values)
        np.testing.assert_allclose(model.site_values(values).own["level"], values["level_raw"])
        got = jax.jit(model.logprior_fn)(position)

        @jax.jit
        def want(position, values):
            likelihood = model.log_likelihood(model.predict(values)).values()
            joint = -potential_energy(model, (), {}, position)
            return joint - sum(jnp.sum(x) for x in likelihood)

        want = want(position, values)
    np.testing.assert_allclose(got, want, rtol=1e-10)


def own_and_first(model, state):
    """The initial values of individuals, and where their trajectories begin."""

    @jax.jit
    def both(values):
        prediction = model.predict(values)
        return prediction.site_values.own[f"{state}0"], prediction.trajectory.y[state][:, 0]

    values = values_of(model)
    with model.precision():
        return both(values)


def test_initial_values_vary():
    parts = {"x": State(initial=varying(link="log"))}
    model = odecal.compile(still(**parts)(), PLAIN)
    assert "x0_location" in model.sites
    own, first = own_and_first(model, "x")
    np.testing.assert_allclose(first, own)


def test_initial_value_that_varies_is_described_like_its_state():
    initial = varying(link="log")
    states = {
        "x": State(initial=initial, unit="mg", description="in the blood"),
        "y": State(initial=initial, unit="mg", dims="place"),
        "z": State(initial=Parameter.varying("site", location=0.0, scale=1.0, unit="g"), unit="mg"),
        "coords": {"place": ["left", "right"]},
        "vector_field": lambda self, t, y, p: {name: 0.0 * y[name] for name in y},
    }
    model = odecal.compile(still(**states)(), TABLE.drop(columns="size"))
    quantities = model.hierarchy.quantities
    assert {name: quantities[name].unit for name in ("x0", "y0", "z0")} == {
        "x0": "mg",
        "y0": "mg",
        "z0": "g",
    }
    assert quantities["x0"].description == "in the blood"
    assert model.dims["y0"] == ["subject", "place"]
    own, first = own_and_first(model, "y")
    assert own.shape == (3, 2)
    np.testing.assert_allclose(first, own)


def test_redeclared_parameter_may_use_varying_ones_that_stand_before_it():
    class Nested(still(level=Parameter(dist.LogNormal(0.0, 1.0)))):
        gain = Parameter(dist.HalfNormal(1.0))
        typical = Parameter.varying("site", location=dist.Normal(0.0, 1.0), scale=0.5)
        offset = varying(location=lambda p: p.typical)
        level = varying(location=lambda p: p.typical + p.offset)

    order = ["x", "sigma", "seen", "typical", "offset", "level", "gain"]
    assert list(Nested().declaration.components) == order
    assert list(Nested().declaration.varying) == ["typical", "offset", "level"]


def test_instances_pool_and_fix():
    system = still(level=varying(link="log"))
    assert "level_raw" not in odecal.compile(system(level=1.5), PLAIN).sites
    assert odecal.compile(system(level=dist.LogNormal(0.0, 1.0)), PLAIN).sites["level"].shape == ()


@pytest.mark.parametrize("link", [Identity(), Log(), Logit(), Logit(-2.0, 5.0)])
def test_links_have_inverses(link):
    with jax.enable_x64(True):
        linked = np.linspace(-3.0, 3.0, 7)
        np.testing.assert_allclose(link(link.inverse(linked)), linked, atol=1e-12)


def test_derived_quantities_of_individuals_have_their_dimension():
    parts = {
        "level": varying(),
        "twice": odecal.Derived(lambda p: 2 * p.level),
        "noise": odecal.Derived(lambda p: p.sigma**2),
    }
    model = odecal.compile(still(**parts)(), PLAIN)
    assert model.dims["twice"] == ["subject"]
    assert model.dims["noise"] == []


@pytest.fixture(scope="module")
def posterior():
    """Many values with little noise say all of a group; one with much noise says nothing."""
    rng = np.random.default_rng(0)
    level = dict(zip("abcdefgh", rng.normal(1.0, 1.0, 8), strict=True))
    rows = [(i, k, x + 0.05 * rng.normal()) for i, x in level.items() for k in range(40)]
    rows = [row for row in rows if row[0] < "e" or row[1] == 0]
    table = pd.DataFrame(rows, columns=["subject", "time", "seen"])
    table["known"] = (table.subject < "e").astype(float)
    parts = {
        "level": varying(centring=Informed()),
        "slope": varying(link="log"),
        "both": Correlation("level", "slope"),
        "sigma": odecal.Constant(1.0),
        "seen": Observable(
            lambda t, y, p: odecal.noise.Normal(y.x, jnp.where(p.known > 0, 0.05, 20.0))
        ),
        "known": Covariate(),
        "vector_field": lambda self, t, y, p: {"x": 0.0 * p.slope * y.x},
    }
    run = {"num_chains": 2, "num_warmup": 50, "num_samples": 20, "progress": False}
    return odecal.calibrate(still(**parts)(), table, **run)


def test_the_posterior_holds_natural_quantities(posterior):
    group = posterior["posterior"].to_dataset()
    assert group["level"].dims == group["slope"].dims == ("chain", "draw", "subject")
    assert group["subject"].values.tolist() == list("abcdefgh")
    assert group["both"].dims[2:] == ("both_row", "both_column")
    assert not [name for name in group if "raw" in str(name) or "cholesky" in str(name)]
    predictive = posterior["posterior_predictive"]["seen"]
    assert predictive.dims == ("chain", "draw", "observation")
    assert predictive["subject"].values.tolist() == [*np.repeat(list("abcd"), 40), *"efgh"]
    assert posterior["trajectories"]["x"].dims == ("chain", "draw", "subject", "time")
    assert posterior["population_predictive"]["seen"].shape == predictive.shape


def test_informed_centring_follows_how_much_the_data_say(posterior):
    weights = posterior["centring"]["level_location"].values
    # The variances of 400 dependent draws: over five seeds the means are 0.54 to 0.93 and 0.02 to
    # 0.13; that of the group furthest from the others, 0.30 to 0.89, hangs most on the scale.
    assert weights[:4].mean() > 0.5
    assert weights[4:].mean() < 0.25
    assert weights[:4].min() > weights[4:].max()


# Mistakes.


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"level": lambda: Parameter.varying("subject", location="x", scale=1.0)}, "location"),
        ({"level": lambda: Parameter.varying("subject", location=0.0, scale=-1.0)}, "positive"),
        ({"level": lambda: varying(link="exp")}, '"log", "logit", "identity"'),
        ({"level": lambda: varying(centring="centred")}, "odecal.centring"),
        ({"level": lambda: Parameter.varying((), location=0.0, scale=1.0)}, "name of a column"),
        (
            {"level": varying, "both": lambda: Correlation("level", "levle")},
            "no varying parameter.*Did you mean `level`",
        ),
        ({"level": lambda: varying(location=lambda p: p.nothing)}, "no parameter `nothing`"),
        ({"level": lambda: varying(location=dist.Poisson(1.0))}, "discrete"),
        (
            {
                "level": lambda: Parameter.unpooled(
                    "subject", location=lambda p: 0.0, scale=dist.HalfNormal(1.0)
                )
            },
            "share nothing",
        ),
    ],
)
def test_mistakes_are_found_when_the_class_is_made(parts, message):
    with pytest.raises(DeclarationError, match=message):
        still(**{name: make() for name, make in parts.items()})


def test_weights_for_other_groups_are_refused():
    system = still(level=varying(centring=Partial([0.1, 0.2])))
    with pytest.raises(DeclarationError, match="one for each of its 3 groups"):
        odecal.compile(system(), PLAIN)


def test_a_location_cannot_use_a_covariate_that_differs_within_its_group():
    parts = {
        "size": Covariate(),
        "base": Parameter.varying(
            "site", location=lambda p: jnp.log(p.size), scale=dist.HalfNormal(1.0)
        ),
        "level": varying(location=lambda p: p.base),
    }
    with pytest.raises(odecal.ObservationError, match=r"`size`.*site n.*1.*2"):
        odecal.compile(still(**parts)(), TABLE)
