"""Solves see every feature of an input, by every strategy; against closed forms."""

from itertools import pairwise

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from scipy.interpolate import PchipInterpolator

import odecal
from odecal import Input, Observable, Parameter, Solve, State, System, adjoints
from odecal._errors import SettingsError
from odecal.interpolation import Constant, Hermite

SPIKE = [(0.0, 0.0), (3600.0, 0.0), (3601.0, 5.0), (3611.0, 5.0), (3612.0, 0.0), (7200.0, 0.0)]
WHEN = np.array([3650.0, 3800.0])


class Filter(System):
    """A low-pass filter of an input."""

    t0 = 0.0
    u = State(initial=0.0)
    tau = Parameter(dist.LogNormal(5.0, 1.0))
    drive = Input("I")

    def vector_field(self, t, y, p):
        return {"u": (p.drive - y.u) / p.tau}

    reading = Observable(lambda t, y, p: dist.Normal(y.u, 1.0))


class Filters(Filter):
    individual = "who"


def value_and_slope(samples, when, kind="linear"):
    """u(t) = ∫ exp(−(t − s)/τ) I(s)/τ ds by Gauss's points between samples, and its slope by τ."""
    times, values = (np.asarray(x, float) for x in zip(*samples, strict=True))
    bent = kind == "hermite" and len(times) > 1
    smooth = PchipInterpolator(times, values) if bent else None

    def drive(t):
        inside = np.clip(t, times[0], times[-1])
        if kind == "constant":
            return values[np.searchsorted(times, inside, side="right") - 1]
        return np.interp(inside, times, values) if smooth is None else smooth(inside)

    tau, u, found = 150.0 + 1e-20j, 0.0j, []
    nodes, weights = np.polynomial.legendre.leggauss(12)
    edges = np.unique(np.concatenate([np.arange(0.0, max(when), 60.0), times, when]))
    edges = edges[(edges >= 0.0) & (edges <= max(when))]
    for start, end in pairwise(edges):
        t = (start + end) / 2 + nodes * (end - start) / 2
        gained = np.sum(weights * np.exp(-(end - t) / tau) * drive(t)) * (end - start) / 2 / tau
        u = u * np.exp(-(end - start) / tau) + gained
        found += [u] if end in when else []
    return np.real(found), np.imag(found) / 1e-20


def table_of(samples, when, **columns):
    rows = pd.DataFrame(samples, columns=["time", "I"])
    rows = pd.concat([rows, pd.DataFrame({"time": when, "reading": 0.0})]).sort_values("time")
    return rows.assign(**columns).reset_index(drop=True)


def solved(system, table, solve=None, slopes=False):
    """The filtered input where it was read, and its slope by τ if asked for."""
    model = odecal.compile(system, table, solve)
    series = model.experiment.series["reading"]
    save_times = model.experiment.save_times

    def read(tau):
        trajectory = model.predict({"tau": tau}).trajectory
        index = save_times.index["reading"]
        who = (series.individual, index) if trajectory.y.u.ndim > 1 else index
        return trajectory.y.u[who], jnp.any(trajectory.failed)

    def both(tau):
        values, turn, failed = jax.vjp(read, tau, has_aux=True)
        return (values, jax.vmap(turn)(jnp.eye(len(values), dtype=values.dtype))[0]), failed

    with model.precision():
        found, failed = jax.jit(both if slopes else read)(jnp.asarray(150.0))
    assert not failed
    return jax.tree.map(np.asarray, found)


WAYS = {
    "ExplicitForward": Solve(),
    "ExplicitReverse": Solve(adjoint=adjoints.ExplicitReverse()),
    "Forward, Kvaerno5": Solve(solver=diffrax.Kvaerno5()),
    "RecursiveCheckpoint": Solve(adjoint=adjoints.RecursiveCheckpoint()),
    "Backsolve": Solve(adjoint=adjoints.Backsolve()),
    "Gauss": Solve(adjoint=adjoints.Gauss()),
}
FURTHER = {
    "ExplicitForward, Bosh3": Solve(solver=diffrax.Bosh3(), rtol=1e-7),
    "ExplicitForward, Dopri8": Solve(solver=diffrax.Dopri8()),
    "ForwardSensitivity": Solve(adjoint=adjoints.ForwardSensitivity()),
    "Interpolating": Solve(adjoint=adjoints.Interpolating()),
    "Quadrature": Solve(adjoint=adjoints.Quadrature()),
    "BacksolveAdjoint": Solve(adjoint=diffrax.BacksolveAdjoint()),
    "Direct": Solve(adjoint=adjoints.Direct()),
}


@pytest.mark.parametrize(
    "way", [*WAYS, *(pytest.param(way, marks=pytest.mark.slow) for way in FURTHER)]
)
def test_no_strategy_steps_over_a_spike(way):
    # Backwards in time the filter explodes, unless it is read often.
    when = np.append(np.arange(150.0, 3600.0, 150.0), WHEN) if way == "Backsolve" else WHEN
    values, slopes = solved(Filter(), table_of(SPIKE, when), (WAYS | FURTHER)[way], True)
    expected, expected_slopes = value_and_slope(SPIKE, when)
    np.testing.assert_allclose(values, expected, rtol=1e-4)
    np.testing.assert_allclose(slopes, expected_slopes, rtol=1e-2)


def stairs(tiny):
    """A rise of tiny steps, next to one that counts."""
    rises = [(600.0 * i + d, tiny * (i + d / 600)) for i in range(1, 6) for d in (0.0, 0.5)]
    return [(0.0, 0.0), *rises, (3600.5, 5.0), (3800.0, 5.0 + tiny)]


def pulses(period, width):
    times = np.arange(1, 12) * period
    each = [(t + d, x) for t in times for d, x in ((-width, 0.0), (0.0, 1.0), (width, 0.0))]
    return [(0.0, 0.0), *each]


HOURS = np.linspace(0.0, 7200.0, 400)
INPUTS = {
    "spike": SPIKE,
    "scale of 1e-9": [(t, 1e-9 * x) for t, x in SPIKE],
    "scale of 1e9": [(t, 1e9 * x) for t, x in SPIKE],
    "spike beside one a million times higher": [(10.0, 0.0), (11.0, 5e6), (12.0, 0.0), *SPIKE[1:]],
    "spike on a trend that is steeper": [
        *((t, 10.0 * t) for t in (0.0, 1200.0, 3600.0)),
        (3602.0, 36_100.0),
        (3700.0, 37_000.0),
        (7200.0, 72_000.0),
    ],
    "monotone stairs": stairs(1e-4),
    "pulses": pulses(327.0, 2.0),
    "pulses on a step's stages": pulses(360.0, 0.1),
    "begins late": [(t, x + 1.0) for t, x in SPIKE[1:]],
    "one sample": [(3600.0, 2.0)],
    "smooth": list(zip(HOURS, 20 + np.sin(HOURS / 600), strict=True)),
    "smooth with a spike": [
        (t, 20 + np.sin(t / 600) + (199 <= i < 201)) for i, t in enumerate(HOURS)
    ],
    "noisy": list(zip(HOURS, np.random.default_rng(0).normal(size=400), strict=True)),
}


def crowd(inputs, when):
    tables = [table_of(samples, when, who=who) for who, samples in inputs.items()]
    return pd.concat(tables, ignore_index=True)


class Smoothly(Filters):
    drive = Input("I", interpolation=Hermite())


class Held(Filters):
    drive = Input("I", interpolation=Constant())


READINGS = np.array([25.0, 700.0, 3605.0, 3650.0, 3800.0, 7200.0])


@pytest.mark.parametrize(
    ("system", "kind"), [(Filters, "linear"), (Smoothly, "hermite"), (Held, "constant")]
)
def test_whatever_an_input_is_like_beside_others_it_is_seen(system, kind):
    values = solved(system(), crowd(INPUTS, READINGS))
    for i, (name, samples) in enumerate(INPUTS.items()):
        expected, _ = value_and_slope(samples, READINGS, kind)
        found = values[6 * i : 6 * i + 6]
        # 1e-8 of what drives the state is the tolerance of a step, and 1e-8 at most.
        largest = min(1.0, max(abs(x) for _, x in samples))
        allowed = 2e-5 * np.abs(expected) + 1e-6 * np.abs(expected).max() + 2e-8 * largest
        assert np.all(np.abs(found - expected) < allowed), (name, found, expected)


class Two(Filter):
    other = Input("J")

    def vector_field(self, t, y, p):
        return {"u": (p.drive + p.other - y.u) / p.tau}


def test_each_of_several_inputs_is_seen():
    other = [(t + 1000.0, 2.0 * x) for t, x in SPIKE]
    when = np.array([3650.0, 3800.0, 4650.0])
    second = pd.DataFrame(other, columns=["time", "J"])
    table = pd.concat([table_of(SPIKE, when), second]).sort_values("time", kind="stable")
    values = solved(Two(), table.reset_index(drop=True))
    expected = value_and_slope(SPIKE, when)[0] + value_and_slope(other, when)[0]
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_a_spike_is_seen_in_single_precision():
    values = solved(Filter(), table_of(SPIKE, WHEN), Solve(dtype=jnp.float32, rtol=1e-5))
    np.testing.assert_allclose(values, value_and_slope(SPIKE, WHEN)[0], rtol=1e-3)


def test_a_number_of_steps_that_cannot_be_enough_is_refused():
    noisy = {"everybody": INPUTS["noisy"]}
    with pytest.raises(SettingsError, match="max_steps=100") as refused:
        odecal.compile(Filters(), crowd(noisy, READINGS), Solve(max_steps=100))
    assert "max_steps=None" in str(refused.value)
    solved(Filters(), crowd(noisy, READINGS), Solve(max_steps=None))


class Stepped(Two):
    other = Input("J", interpolation=Constant())


@pytest.mark.parametrize("adjoint", [None, adjoints.Gauss()], ids=["ExplicitForward", "Gauss"])
def test_a_spike_is_seen_between_the_stops_of_another_input(adjoint):
    steps = [(0.0, 0.0), (500.0, 1e-3), (3602.5, 2e-3), (3700.0, 0.0)]
    second = pd.DataFrame(steps, columns=["time", "J"])
    table = pd.concat([table_of(SPIKE, WHEN), second]).sort_values("time", kind="stable")
    table = table.reset_index(drop=True)
    values, slopes = solved(Stepped(), table, Solve(adjoint=adjoint), True)
    parts = value_and_slope(SPIKE, WHEN), value_and_slope(steps, WHEN, "constant")
    np.testing.assert_allclose(values, parts[0][0] + parts[1][0], rtol=1e-5)
    np.testing.assert_allclose(slopes, parts[0][1] + parts[1][1], rtol=1e-3)
