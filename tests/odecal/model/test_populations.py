"""Populations against published fits, funnels, and simulated truths."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import scipy.optimize
import scipy.special
from odecal.systems import Theophylline

import odecal
from odecal import Correlation, Covariate, Observable, Parameter, State, System, centring


class Correlated(System):
    """Theophylline as Pinheiro and Bates fit it: correlated effects on log CL and log ka."""

    individual = "ID"
    t0 = 0.0
    data = Theophylline.data
    weight = Covariate("WT", unit="kg")
    gut = State(initial=0.0, unit="mg")
    central = State(initial=0.0, unit="mg")
    cl = Parameter.varying(
        "ID",
        location=dist.Normal(-3.0, 1.0),
        scale=dist.HalfNormal(1.0),
        link="log",
        unit="L/(h kg)",
    )
    ka = Parameter.varying(
        "ID", location=dist.Normal(0.0, 1.0), scale=dist.HalfNormal(1.0), link="log", unit="1/h"
    )
    omega = Correlation("cl", "ka")
    log_ke = Parameter(dist.Normal(-2.0, 1.0))
    sigma = Parameter(dist.HalfNormal(2.0), unit="mg/L")

    def vector_field(self, t, y, p):
        absorbed = p.ka * y.gut
        return {"gut": -absorbed, "central": absorbed - jnp.exp(p.log_ke) * y.central}

    concentration = Observable(
        lambda t, y, p: odecal.noise.Normal(
            y.central * jnp.exp(p.log_ke) / (p.cl * p.weight), p.sigma
        ),
        unit="mg/L",
    )


def cv(percent):
    """The scale of a logarithm whose coefficient of variation is so many per cent."""
    return np.sqrt(np.log1p((percent / 100) ** 2))


CORRELATION = -0.00130 / np.sqrt(0.02803 * 0.4341)
# The published maximum-likelihood fits, and −2 log L there (see the README of the problem: the
# independent one is nlmixr2's, the correlated one that of Pinheiro and Bates 1995, table 3).
FITS = {
    "independent": (
        Theophylline,
        {
            "ka_location": 0.458,
            "clearance_location": 1.012,
            "volume_location": 3.454,
            "ka_scale": cv(70.3),
            "clearance_scale": cv(27.0),
            "volume_scale": cv(13.6),
            "sigma": 0.696,
        },
        ["ka_raw", "clearance_raw", "volume_raw"],
        360.70,
    ),
    "correlated": (
        Correlated,
        {
            "cl_location": -3.2268,
            "ka_location": 0.4808,
            "log_ke": -2.4592,
            "cl_scale": np.sqrt(0.02803),
            "ka_scale": np.sqrt(0.4341),
            "omega_cholesky": np.linalg.cholesky([[1.0, CORRELATION], [CORRELATION, 1.0]]),
            "sigma": np.sqrt(0.5016),
        },
        ["omega_raw"],
        355.478,
    ),
}


def marginal(model, fixed, names, num_nodes=9):
    """−2 log of the likelihood with the effects integrated out, by adaptive quadrature.

    Gauss and Hermite's nodes around the mode of each individual's effects, scaled by the curvature
    there: exact where the integrand is a Gaussian times a polynomial of degree 2·9 − 1.
    """
    hierarchy = model.hierarchy
    shapes = [hierarchy.sites[name].shape for name in names]
    count = shapes[0][0]
    width = sum(int(np.prod(shape[1:])) for shape in shapes)
    whose = model.experiment.series["concentration"].individual

    def values(effects):
        """From effects of shape (individual, effect)."""
        if len(names) == 1:
            return fixed | {names[0]: effects}
        return fixed | {name: effects[:, i] for i, name in enumerate(names)}

    @jax.jit
    def joint(effects):
        """log p(y_i, z_i) of every individual."""
        prediction = model.predict(values(effects))
        rows = model.log_likelihood(prediction)["concentration"]
        likelihood = jax.ops.segment_sum(rows, whose, count)
        return likelihood + jax.scipy.stats.norm.logpdf(effects).sum(axis=1)

    gradient = jax.jit(jax.grad(lambda z: -jnp.sum(joint(z.reshape(count, width)))))
    found = scipy.optimize.minimize(
        lambda z: -float(np.sum(joint(z.reshape(count, width)))),
        np.zeros(count * width),
        jac=lambda z: np.asarray(gradient(z)),
        method="BFGS",
        options={"gtol": 1e-5},
    )
    mode = found.x.reshape(count, width)
    step = 1e-4
    curvature = np.stack(
        [
            (gradient((mode + step * e).ravel()) - gradient((mode - step * e).ravel())).reshape(
                count, width
            )
            / (2 * step)
            for e in np.eye(width)
        ],
        axis=-1,
    )
    scale = np.linalg.cholesky(np.linalg.inv((curvature + curvature.transpose(0, 2, 1)) / 2))
    nodes, weights = np.polynomial.hermite.hermgauss(num_nodes)
    grid = np.stack(np.meshgrid(*[nodes] * width, indexing="ij"), axis=-1).reshape(-1, width)
    logs = np.log(np.stack(np.meshgrid(*[weights] * width, indexing="ij"), -1)).sum(-1).ravel()
    terms = [
        log + node @ node + np.asarray(joint(mode + np.sqrt(2) * scale @ node))
        for node, log in zip(grid, logs, strict=True)
    ]
    log_det = np.linalg.slogdet(scale)[1] + width / 2 * np.log(2)
    return -2 * float(np.sum(scipy.special.logsumexp(terms, axis=0) + log_det))


def test_a_subject_that_absorbs_at_once_is_solved():
    """The data hardly bound an absorption rate from above, where an explicit solver is slow."""
    system, fit, names, _ = FITS["independent"]
    model = odecal.compile(system(), system.data)
    densities = []
    with model.precision():
        for log_ka in (5.0, 8.0):
            raw = {name: jnp.zeros(12) for name in names}
            raw["ka_raw"] = raw["ka_raw"].at[0].set((log_ka - fit["ka_location"]) / fit["ka_scale"])
            values = {key: jnp.asarray(value) for key, value in fit.items()} | raw
            prediction = model.predict(values)
            densities.append(sum(float(x.sum()) for x in model.log_likelihood(prediction).values()))
            assert (int(prediction.trajectory.num_steps[0]) > 4096) == (log_ka == 8.0)
    assert densities[1] == pytest.approx(densities[0], abs=0.1)


@pytest.mark.parametrize("name", FITS)
def test_the_marginal_likelihood_of_theophylline_is_the_published_one(name):
    system, fit, names, published = FITS[name]
    model = odecal.compile(system(), system.data)
    with model.precision():
        fixed = {key: jnp.asarray(value) for key, value in fit.items()}
        assert marginal(model, fixed, names) == pytest.approx(published, abs=0.05)


@pytest.mark.slow
def test_theophylline_with_independent_effects(tmp_path):
    """Medians within one published standard error, and nothing diverges by default."""
    posterior = odecal.calibrate(Theophylline(), seed=1, progress=False)
    table = odecal.summary(posterior)
    for quantity, fit, error in (
        ("ka_location", 0.458, 0.196),
        ("clearance_location", 1.012, 0.085),
        ("volume_location", 3.454, 0.045),
    ):
        assert abs(table.q50[quantity] - fit) < error
    assert int(posterior["sample_stats"].diverging.sum()) == 0
    assert table.r_hat.max() < 1.01
    assert abs(table.q50["sigma"] - 0.696) < 0.05
    odecal.plot_vpc(posterior, tmp_path / "vpc.png")
    assert (tmp_path / "vpc.png").stat().st_size > 10_000


@pytest.mark.slow
def test_theophylline_with_correlated_effects():
    posterior = odecal.calibrate(Correlated(), seed=1, progress=False)
    table = odecal.summary(posterior)
    # Pinheiro and Bates give no standard errors here: those of the posterior.
    for quantity, fit in (("cl_location", -3.2268), ("ka_location", 0.4808), ("log_ke", -2.4592)):
        assert abs(table.q50[quantity] - fit) < table.sd[quantity]
    assert int(posterior["sample_stats"].diverging.sum()) == 0
    assert table.r_hat.max() < 1.01


class Funnel(System):
    """Groups of which the data say little: one value each, with known noise."""

    individual = "school"
    x = State(initial=lambda p: p.effect)
    effect = Parameter.varying("school", location=dist.Normal(0.0, 1.0), scale=dist.HalfNormal(1.0))

    def vector_field(self, t, y, p):
        return {"x": 0.0 * y.x}

    value = Observable(lambda t, y, p: odecal.noise.Normal(y.x, 1.0))


@pytest.mark.slow
def test_a_funnel_of_200_groups_needs_no_care():
    """Centred it diverges or gets stuck; by default, and informed, it does neither."""
    rng = np.random.default_rng(2)
    table = pd.DataFrame(
        {
            "school": range(200),
            "time": 0.0,
            "value": rng.normal(size=200),
        }
    )
    found = {}
    for name, how in (
        ("centred", centring.Centred()),
        ("non-centred", centring.NonCentred()),
        ("informed", centring.Informed()),
    ):
        system = Funnel(effect=Funnel.effect.with_centring(how))
        posterior = odecal.calibrate(system, table, seed=3, progress=False)
        rows = odecal.summary(posterior)
        hyper = rows.loc[["effect_location", "effect_scale"]]
        found[name] = {
            "divergences": int(posterior["sample_stats"].diverging.sum()),
            "ess_scale": float(hyper.ess_bulk["effect_scale"]),
            "ess_location": float(hyper.ess_bulk["effect_location"]),
            "least_ess": float(rows.ess_bulk.min()),
            "leapfrogs": float(posterior["sample_stats"].n_steps.mean()),
        }
    print(pd.DataFrame(found).T.to_string())  # noqa: T201
    assert found["centred"]["divergences"] > 0 or found["centred"]["ess_scale"] < 100
    assert found["centred"]["ess_scale"] < 0.25 * found["non-centred"]["ess_scale"]
    for name in ("non-centred", "informed"):
        assert found[name]["divergences"] == 0
        assert found[name]["least_ess"] > 400


class Decay(System):
    """Decay at a rate and from an amount of each subject's own."""

    individual = "subject"
    t0 = 0.0
    start = Parameter.varying(
        "subject", location=dist.Normal(1.0, 0.5), scale=dist.HalfNormal(0.5), link="log"
    )
    rate = Parameter.varying(
        "subject", location=dist.Normal(-1.0, 0.5), scale=dist.HalfNormal(0.5), link="log"
    )
    sigma = Parameter(dist.HalfNormal(0.3))
    amount = State(initial=lambda p: p.start)

    def vector_field(self, t, y, p):
        return {"amount": -p.rate * y.amount}

    seen = Observable(lambda t, y, p: odecal.noise.LogNormal(y.amount, p.sigma))


@pytest.mark.slow
def test_simulated_populations_are_recovered():
    """Of 100 data sets drawn from the prior, 90 % intervals hold the truth in 90 %.

    Each of the five counts is binomial (100, 0.9): outside 81 to 97 with probability 0.003, so
    that one of the five is with probability 0.015 where all is right.
    """
    design = pd.DataFrame(
        [(i, t) for i in range(8) for t in (0.0, 0.5, 1.5, 3.0, 5.0)], columns=["subject", "time"]
    )
    names = ["start_location", "start_scale", "rate_location", "rate_scale", "sigma"]
    held = dict.fromkeys(names, 0)
    for seed in range(100):
        table = odecal.simulate(Decay(), design=design, seed=seed)
        run = {"num_warmup": 400, "num_samples": 400, "seed": seed, "progress": False}
        rows = odecal.summary(odecal.calibrate(Decay(), table, **run))
        for name in names:
            truth = table.attrs["values"][name]
            held[name] += rows.q5[name] <= truth <= rows.q95[name]
    print(held)  # noqa: T201
    assert all(81 <= count <= 97 for count in held.values())
