"""Posteriors against published references and against quadrature."""

from dataclasses import replace
from pathlib import Path

import arviz_stats
import numpy as np
import pandas as pd
import pytest

import odecal
from odecal import samplers, systems
from odecal._inference.compare_adjoints import default_adjoints

REFERENCES = Path(__file__).parent / "references"
SAMPLERS = [samplers.NUTS(), samplers.NumPyroNUTS()]
both_samplers = pytest.mark.parametrize(
    "sampler", SAMPLERS, ids=[type(sampler).__name__ for sampler in SAMPLERS]
)


def calibrated(system, sampler, num_samples):
    return odecal.calibrate(
        system, sampler=sampler, num_samples=num_samples, seed=1, progress=False
    )


# The size of a run that gives every other sampler some thousand effective draws.
OTHERS = {
    "HMC": (samplers.HMC(), {"num_samples": 1500}),
    "AdjustedMCLMC": (samplers.AdjustedMCLMC(), {"num_samples": 1500}),
    "ChEES": (samplers.ChEES(), {"num_chains": 32, "num_samples": 250}),
    "MEADS": (samplers.MEADS(), {"num_chains": 32, "num_warmup": 800, "num_samples": 600}),
    "TemperedSMC": (samplers.TemperedSMC(), {"num_chains": 4, "num_samples": 500}),
}
every_other = pytest.mark.parametrize("name", OTHERS)


def assert_like_hudson_bay(posterior, least_ess=1000):
    """Means within 4 combined standard errors (5 in 10,000 runs fail), sds within 10 %."""
    reference = pd.read_csv(REFERENCES / "hudson_bay.csv", index_col="parameter")
    found = odecal.summary(posterior).loc[reference.index]
    error = np.hypot(found.mcse_mean, reference.mcse_mean)
    np.testing.assert_array_less(np.abs(found["mean"] - reference["mean"]), 4 * error)
    np.testing.assert_allclose(found.sd, reference.sd, rtol=0.1)
    assert found.r_hat.max() < 1.02
    assert found.ess_bulk.min() > least_ess


@both_samplers
def test_hudson_bay(sampler):
    posterior = calibrated(systems.LotkaVolterra(), sampler, 1500)
    assert_like_hudson_bay(posterior)
    assert posterior["sample_stats"]["diverging"].sum() == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", default_adjoints(systems.LotkaVolterra.solve))
@both_samplers
def test_hudson_bay_by_every_adjoint(sampler, name):
    system = systems.LotkaVolterra()
    solve = replace(system.solve, adjoint=default_adjoints(system.solve)[name])
    posterior = odecal.calibrate(
        system, sampler=sampler, solve=solve, num_samples=1500, seed=1, progress=False
    )
    assert_like_hudson_bay(posterior)


@pytest.mark.slow
@every_other
def test_hudson_bay_by_every_other_sampler(name):
    sampler, size = OTHERS[name]
    posterior = odecal.calibrate(
        systems.LotkaVolterra(), sampler=sampler, **size, seed=1, progress=False
    )
    assert_like_hudson_bay(posterior, least_ess=400)


def assert_like_the_boarding_school(posterior):
    """Means within 0.1 sd; sds within 5 %, or three standard errors of the most skewed one."""
    reference = pd.read_csv(REFERENCES / "boarding_school.csv", index_col="parameter")
    found = odecal.summary(posterior).loc[reference.index]
    np.testing.assert_array_less(
        np.abs(found["mean"] - reference["mean"]), 0.1 * reference.sd + 4 * found.mcse_mean
    )
    errors = arviz_stats.mcse(posterior["posterior"].to_dataset(), method="sd")
    for name in reference.index:
        allowed = max(0.05 * reference.sd[name], 4 * float(errors[name]))
        assert abs(found.sd[name] - reference.sd[name]) < allowed
    assert found.r_hat.max() < 1.02


@pytest.mark.parametrize(
    "sampler",
    [SAMPLERS[0], pytest.param(SAMPLERS[1], marks=pytest.mark.slow)],
    ids=["NUTS", "NumPyroNUTS"],
)
def test_boarding_school(sampler):
    assert_like_the_boarding_school(calibrated(systems.SIR(), sampler, 4000))


@pytest.mark.slow
@every_other
def test_boarding_school_by_every_other_sampler(name):
    sampler, size = OTHERS[name]
    posterior = odecal.calibrate(systems.SIR(), sampler=sampler, **size, seed=1, progress=False)
    assert_like_the_boarding_school(posterior)


def test_an_approximation_is_marked():
    """Pathfinder's draws, in the file and in the summary's sentences."""
    from odecal._results.verdict import verdict

    posterior = odecal.calibrate(
        systems.ExponentialDecay(), sampler=samplers.Pathfinder(), num_samples=250, progress=False
    )
    assert posterior.attrs["approximate"] == 1
    text = " ".join(verdict(posterior, odecal.summary(posterior)))
    assert "of an approximation, not of the posterior" in text
    assert "Pareto k" in text


def quadrature():
    """Mean and sd of k, y0 and sigma on a fine grid, from the closed-form solution."""
    data = pd.read_csv(systems.ExponentialDecay.data)
    k = np.linspace(0.4, 1.1, 161)[:, None, None]
    y0 = np.linspace(0.85, 1.3, 161)[None, :, None]
    sigma = np.linspace(0.005, 0.15, 161)[None, None, :]
    log_density = -np.log(k) - np.log(k) ** 2 / 2 - (y0 - 1.0) ** 2 / 0.02 - sigma**2 / 0.02
    for t, value in zip(data.time, data.y_measured, strict=True):
        residual = value - y0 * np.exp(-k * t)
        log_density = log_density - np.log(sigma) - residual**2 / (2 * sigma**2)
    weights = np.exp(log_density - log_density.max())
    weights /= weights.sum()
    save_times = {}
    for name, x in {"k": k, "y0": y0, "sigma": sigma}.items():
        mean = (weights * x).sum()
        save_times[name] = mean, np.sqrt((weights * (x - mean) ** 2).sum())
    return save_times


@both_samplers
def test_exponential_decay(sampler):
    """Against quadrature: means and sds within 4.5 standard errors (6: 4 in 100,000 runs fail)."""
    posterior = calibrated(systems.ExponentialDecay(), sampler, 1500)
    found = odecal.summary(posterior)
    group = posterior["posterior"].to_dataset()
    sd_errors = arviz_stats.mcse(group, method="sd")
    for name, (mean, sd) in quadrature().items():
        assert abs(found["mean"][name] - mean) < 4.5 * found.mcse_mean[name]
        assert abs(found.sd[name] - sd) < 4.5 * float(sd_errors[name])


def test_single_precision_gives_the_same_posterior():
    """Means within 5 standard errors, sds within 15 %, of the double-precision quadrature."""
    import jax.numpy as jnp

    posterior = odecal.calibrate(
        systems.ExponentialDecay(),
        solve=odecal.Solve(dtype=jnp.float32, rtol=1e-5, atol=1e-6),
        progress=False,
    )
    assert posterior["posterior"]["k"].dtype == np.float32
    assert posterior.attrs["dtype"] == "float32"
    found = odecal.summary(posterior)
    for name, (mean, sd) in quadrature().items():
        assert abs(found["mean"][name] - mean) < 5 * found.mcse_mean[name]
        assert abs(found.sd[name] / sd - 1) < 0.15
