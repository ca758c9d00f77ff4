"""Whole calibrations of parameters whose scales are far from 1, against exact posteriors."""

import arviz_stats
import numpy as np
import numpyro.distributions as dist
import pandas as pd

import odecal
from odecal import Observable, Parameter, State, System
from odecal._results.summary import summary
from odecal._results.verdict import verdict


def assert_moments(posterior, means, sds):
    """Means and sds within 4.5 standard errors, 4 of them: a sound run fails 3 in 100,000."""
    group = posterior["posterior"].to_dataset()
    for name, mean, sd in zip(means, means.values(), sds, strict=True):
        draws = group[name]
        ess = float(arviz_stats.ess(group[[name]])[name])
        ess_square = float(arviz_stats.ess(((draws - mean) / sd).to_dataset() ** 2)[name])
        assert min(ess, ess_square) > 200
        assert abs(draws.mean() - mean) < 4.5 * sd / np.sqrt(ess)
        assert abs(draws.std() / sd - 1) < 4.5 / np.sqrt(2 * min(ess, ess_square))


def assert_quiet(posterior):
    """One mode, all climbs there, few steps, no advice."""
    text = verdict(posterior, summary(posterior))
    assert "16 climbs from prior draws ended in 1 mode." in text
    assert (posterior["warm_start"]["climb_mode"].values == 0).all()
    assert posterior["sample_stats"]["n_steps"].values.mean() < 8
    assert not [line for line in text if "do not agree" in line or "Run longer" in line]


class Warming(System):
    """A temperature that rises at an even rate."""

    time_unit = "s"
    t0 = 0.0

    temperature = State(initial=dist.Normal(300.0, 60.0), unit="K")
    rate = Parameter(dist.Normal(0.0, 2.0), unit="K/s")

    def vector_field(self, t, y, p):
        return {"temperature": p.rate + 0.0 * y.temperature}

    seen = Observable(lambda t, y, p: odecal.noise.Normal(y.temperature, 5.0), unit="K")


def test_a_temperature_in_kelvin():
    """A linear Gaussian model, whose posterior and evidence are in closed form."""
    times, rng = np.arange(1.0, 9.0), np.random.default_rng(1)
    seen = 340.0 + 1.5 * times + 5.0 * rng.standard_normal(8)
    table = pd.DataFrame({"time": times, "seen": seen})
    posterior = odecal.calibrate(
        Warming(), table, num_chains=2, num_samples=500, seed=1, progress=False
    )
    design, prior = np.stack([np.ones(8), times], axis=1), np.diag([60.0**2, 2.0**2])
    covariance = np.linalg.inv(np.linalg.inv(prior) + design.T @ design / 25.0)
    mean = covariance @ (np.linalg.solve(prior, [300.0, 0.0]) + design.T @ seen / 25.0)
    means = {"temperature0": mean[0], "rate": mean[1]}
    assert_moments(posterior, means, np.sqrt(np.diag(covariance)))
    assert_quiet(posterior)
    spread = design @ prior @ design.T + 25.0 * np.eye(8)
    away = seen - 300.0
    evidence = -0.5 * (
        away @ np.linalg.solve(spread, away) + np.linalg.slogdet(2 * np.pi * spread)[1]
    )
    mass = float(posterior["warm_start"]["mode_log_mass"].values[0])
    assert abs(mass - evidence) < 0.05


class Leak(System):
    """Moles, of which a billionth is lost a second."""

    time_unit = "s"
    t0 = 0.0

    amount = State(initial=dist.Normal(1e6, 3e5), unit="mol")
    rate = Parameter(dist.Normal(1e-9, 3e-10), unit="1/s")

    def vector_field(self, t, y, p):
        return {"amount": -p.rate * y.amount}

    seen = Observable(lambda t, y, p: odecal.noise.Normal(y.amount, 2e4), unit="mol")


def test_a_million_moles_and_a_rate_of_a_billionth():
    """By quadrature on a grid of 401 × 401 points, as wide as six standard deviations and more."""
    times, rng = np.linspace(2e8, 2e9, 10), np.random.default_rng(1)
    seen = 1.2e6 * np.exp(-1.2e-9 * times) + 2e4 * rng.standard_normal(10)
    table = pd.DataFrame({"time": times, "seen": seen})
    posterior = odecal.calibrate(
        Leak(), table, num_chains=2, num_samples=500, seed=1, progress=False
    )
    a, k = np.meshgrid(
        np.linspace(1.0e6, 1.4e6, 401), np.linspace(0.8e-9, 1.6e-9, 401), indexing="ij"
    )
    density = -0.5 * (((a - 1e6) / 3e5) ** 2 + ((k - 1e-9) / 3e-10) ** 2)
    for t, x in zip(times, seen, strict=True):
        density -= 0.5 * ((x - a * np.exp(-k * t)) / 2e4) ** 2
    weight = np.exp(density - density.max())
    weight /= weight.sum()
    mean = (weight * a).sum(), (weight * k).sum()
    sds = [np.sqrt((weight * (x - m) ** 2).sum()) for x, m in zip((a, k), mean, strict=True)]
    assert_moments(posterior, {"amount0": mean[0], "rate": mean[1]}, sds)
    assert_quiet(posterior)
