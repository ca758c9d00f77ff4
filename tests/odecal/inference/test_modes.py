"""Posteriors with several modes, against quadrature and an independent sampler."""

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import xarray as xr

import odecal
from odecal import Observable, Parameter, State, System
from odecal._results.verdict import verdict


class TwoPools(System):
    """Two pools that decay, of which the sum is seen: which of them is fast cannot be told."""

    t0 = 0.0

    first = State(initial=1.0)
    second = State(initial=1.0)
    k1 = Parameter(dist.LogNormal(0.0, 1.0))
    k2 = Parameter(dist.LogNormal(0.0, 1.0))
    sigma = Parameter(dist.HalfNormal(0.2))

    def vector_field(self, t, y, p):
        return {"first": -p.k1 * y.first, "second": -p.k2 * y.second}

    total = Observable(lambda t, y, p: odecal.noise.Normal(y.first + y.second, p.sigma))


def two_pools_data():
    """Simulated with rates 0.3 and 1.5, and noise 0.03."""
    times = np.linspace(0.3, 6.0, 20)
    noise = 0.03 * np.random.default_rng(0).standard_normal(20)
    return pd.DataFrame(
        {"time": times, "total": np.exp(-0.3 * times) + np.exp(-1.5 * times) + noise}
    )


class SoilCarbon(System):
    """Two pools of soil carbon with feedback, of which the CO2 that they have given off is seen.

    Model and priors: Carpenter (2014), "Soil carbon modeling with RStan", Stan case studies.
    """

    time_unit = "d"
    t0 = 0.0

    fast = State(initial=lambda p: p.gamma * 7.7, unit="mg/g")
    slow = State(initial=lambda p: (1 - p.gamma) * 7.7, unit="mg/g")
    k1 = Parameter(dist.HalfNormal(1.0), unit="1/d")
    k2 = Parameter(dist.HalfNormal(1.0), unit="1/d")
    alpha21 = Parameter(dist.HalfNormal(1.0))
    alpha12 = Parameter(dist.HalfNormal(1.0))
    gamma = Parameter(dist.Beta(10.0, 1.0))
    sigma = Parameter(dist.HalfCauchy(1.0), unit="mg/g")

    def vector_field(self, t, y, p):
        fast, slow = p.k1 * y.fast, p.k2 * y.slow
        return {"fast": -fast + p.alpha21 * slow, "slow": -slow + p.alpha12 * fast}

    evolved = Observable(
        lambda t, y, p: odecal.noise.Normal(7.7 - y.fast - y.slow, p.sigma), unit="mg/g"
    )


def soil_carbon_data():
    """Simulated with the posterior means that the case study reports, and noise 0.3."""
    k1, k2, alpha21, alpha12, gamma = 0.1401, 0.3457, 0.8529, 0.3742, 0.9345
    times = np.linspace(1.2, 30.0, 25)
    rates = np.array([[-k1, alpha21 * k2], [alpha12 * k1, -k2]])
    values, vectors = np.linalg.eig(rates)
    start = np.linalg.solve(vectors, 7.7 * np.array([gamma, 1 - gamma]))
    evolved = 7.7 - np.real(np.exp(times[:, None] * values) @ (start * vectors.sum(axis=0)))
    noise = 0.3 * np.random.default_rng(0).standard_normal(25)
    return pd.DataFrame({"time": times, "evolved": np.round(evolved + noise, 3)})


def share(posterior):
    """Of each chain the part in the mode where the first rate is the smaller."""
    group = posterior["posterior"]
    return (group["k1"] < group["k2"]).mean("draw").values


def test_tempering_weighs_modes_that_are_alike():
    """They are half and half; four populations have a standard error of 0.01: 3 in 1,000 fail."""
    posterior = odecal.calibrate(
        TwoPools(),
        two_pools_data(),
        sampler=odecal.samplers.TemperedSMC(),
        solve=odecal.Solve(rtol=1e-4, atol=1e-5),
        progress=False,
    )
    assert (posterior["adaptation"]["inverse_temperature"] == 1.0).all()
    assert share(posterior).mean() == pytest.approx(0.5, abs=0.03)
    found = odecal.summary(posterior)
    assert found.r_hat.max() < 1.02
    assert found.ess_bulk.min() > 1000
    text = " ".join(verdict(posterior, found))
    assert "Populations of particles weigh them" in text
    assert "the chains agree" in text
    assert "take odecal.samplers.TemperedSMC()" not in text
    evidence = xr.DataArray(np.arange(4.0), dims="chain")
    posterior["adaptation"] = posterior["adaptation"].assign(log_evidence=evidence)
    text = " ".join(verdict(posterior, found))
    assert "differs by 1.3 nats between populations" in text


def test_tempering_that_has_not_arrived_is_no_posterior():
    posterior = odecal.calibrate(
        TwoPools(),
        two_pools_data(),
        sampler=odecal.samplers.TemperedSMC(num_particles=100),
        num_warmup=2,
        num_samples=100,
        progress=False,
    )
    text = " ".join(verdict(posterior, odecal.summary(posterior)))
    assert "Tempering has not arrived at the posterior: the inverse temperature is 0." in text
    assert "the chains agree" not in text


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_tempering_weighs_modes_of_different_shapes(seed):
    """Against 0.828, standard error 0.002, of four runs of parallel tempering in NumPy.

    With the closed form of the solution, 12,000 sweeps each, 16 temperatures, 200 replicas and
    moves by differential evolution; 10 million draws from the prior, weighted, give 0.828 with
    standard error 0.006. The error of four populations is about 0.015; 4 in 100 would fail.
    """
    posterior = odecal.calibrate(
        SoilCarbon(),
        soil_carbon_data(),
        sampler=odecal.samplers.TemperedSMC(),
        seed=seed,
        progress=False,
    )
    assert share(posterior).mean() == pytest.approx(0.828, abs=0.03)
    assert odecal.summary(posterior).r_hat.max() < 1.05
