"""Inputs between their samples, against SciPy; whatever others were sampled like."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from scipy.interpolate import PchipInterpolator, interp1d

import odecal
from odecal._data.experiment import Experiment, Samples
from odecal._solve.forcing_data import _padded_samples
from odecal._system.groups import Individuals
from odecal.interpolation import Backward, Constant, Hermite, Linear

RNG = np.random.default_rng(0)
LENGTHS = {"one": 1, "two": 2, "three": 3, "many": 40}
# A time before, between, at, and long after samples.
OWN = {
    name: (np.sort(RNG.uniform(0.0, 10.0, n)), RNG.normal(size=n) * 10.0 ** RNG.integers(-3, 3))
    for name, n in LENGTHS.items()
}
OWN["late"] = (np.array([1e3, 1e3 + 1e-3, 2e3]), np.array([1e-9, 3e-9, 2e-9]))
OWN["stairs"] = (np.arange(6.0), np.array([1.0, 1.0, 1.0, 2.0, 2.0, 2.0]))
KINDS = {"linear": Linear(), "hermite": Hermite(), "constant": Constant(), "backward": Backward()}


def reference(kind, times, values, t):
    inside = np.clip(t, times[0], times[-1])
    if len(times) == 1:
        return np.full_like(t, values[0])
    if kind == "hermite":
        return PchipInterpolator(times, values)(inside)
    how = {"linear": "linear", "constant": "previous", "backward": "next"}[kind]
    return interp1d(times, values, how)(inside)


def everybody(names, kind, dtype):
    own = [OWN[name] for name in names]
    who = np.repeat(np.arange(len(own)), [len(t) for t, _ in own])
    samples = Samples(who, *(np.concatenate(x) for x in zip(*own, strict=True)))
    people = Individuals("who", np.array(names))
    experiment = Experiment(np.zeros(len(own)), {}, people, None, {"u": samples})
    times, coefficients = _padded_samples(experiment, "u", KINDS[kind])
    return times.astype(dtype), coefficients.astype(dtype)


def save_times(times):
    """A hundred of them, before, between, at and long after samples."""
    width = max(times[-1] - times[0], 1.0)
    between = times[0] + width * np.linspace(-0.3, 2.5, 57)
    return np.resize(np.concatenate([between, times, [times[-1] + 1e5]]), 100)


@functools.cache
def program(kind):
    return jax.jit(jax.vmap(KINDS[kind], (0, None, None)))


def values_at(kind, arrays, i, t):
    return np.asarray(program(kind)(t, *(x[i] for x in arrays)))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", OWN)
def test_between_samples_it_is_scipy_s(name, kind, dtype):
    times, values = OWN[name]
    t = save_times(times)
    if dtype == np.float32:  # not where rounding moves a time across a jump
        t = np.resize(t[np.abs(t[:, None] - times).min(axis=1) > 1e-3], 100)
        times = times.astype(np.float32).astype(float)
    with jax.enable_x64(dtype == np.float64):
        found = values_at(kind, everybody([name], kind, dtype), 0, t.astype(dtype))
    size = np.abs(values).max()
    tolerance = 1e-10 if dtype == np.float64 else 2e-3 if name == "late" else 2e-4
    expected = reference(kind, times, values, t.astype(dtype).astype(float))
    np.testing.assert_allclose(found, expected, atol=tolerance * size)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("kind", KINDS)
def test_how_often_others_were_sampled_changes_no_bit(kind, dtype):
    names = list(OWN)
    with jax.enable_x64(dtype == np.float64):
        together = everybody(names, kind, dtype)
        for i, name in enumerate(names):
            t = save_times(OWN[name][0]).astype(dtype)
            alone = values_at(kind, everybody([name], kind, dtype), 0, t)
            np.testing.assert_array_equal(values_at(kind, together, i, t), alone)


def test_a_clearance_that_changes_between_records_as_in_nonmem():
    """dy/dt = −c y with c of the next record: a product of exponentials, of pandas's bfill."""

    class Cleared(odecal.System):
        individual = "ID"
        t0 = 0.0
        volume = odecal.Parameter(dist.LogNormal(0.0, 1.0))
        y = odecal.State(initial=0.0)
        clearance = odecal.Input("CRCL", interpolation=Backward())
        seen = odecal.Observable(lambda t, y, p: dist.Normal(y.y * p.clearance, 1.0))

        def vector_field(self, t, y, p):
            return {"y": -p.clearance / p.volume * y.y}

    table = pd.DataFrame(
        {
            "ID": [1] * 6 + [2] * 4,
            "TIME": [0.0, 0.5, 1.7, 3.0, 3.5, 7.0, 0.0, 1.0, 2.0, 2.5],
            "EVID": [1, 0, 2, 0, 2, 0, 1, 0, 0, 0],
            "AMT": [8.0, 0, 0, 0, 0, 0, 5.0, 0, 0, 0],
            "DV": [np.nan, 1, np.nan, 1, np.nan, 1, np.nan, 1, 1, 1],
            "CRCL": [0.3, 0.9, np.nan, 0.2, 0.2, 0.6, 0.1, np.nan, np.nan, 1.2],
        }
    )
    model = odecal.compile(Cleared(), table, odecal.Solve(rtol=1e-9, atol=1e-11))
    filled = table.groupby("ID").CRCL.bfill()
    step = table.groupby("ID").TIME.diff().fillna(0.0)
    left = np.exp(-(filled * step).groupby(table.ID).cumsum() / 2.5)
    expected = left * table.ID.map({1: 8.0, 2: 5.0}) * filled
    with model.precision():
        got = model.predict({"volume": jnp.asarray(2.5)}).laws["seen"].mean
    np.testing.assert_allclose(got, expected[table.DV.notna()], rtol=1e-7)
