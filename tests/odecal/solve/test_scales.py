"""The same system in other units gives the same answers."""

from functools import cache

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import scipy.stats
from one_compartment import Oral

import odecal
from odecal import Observable, Parameter, Solve, State, System, adjoints, solve_system
from odecal._errors import SettingsError
from odecal._system.values import Values

SCALES = [1e-12, 1e-6, 1.0, 1e6]
TS = np.array([0.5, 2.0, 10.0, 30.0])


def chain(scale, second=1.0):
    """A → B → C, where B is in a unit of its own and C begins at zero; A is used up."""

    class Chain(System):
        t0 = 0.0
        a = State(initial=scale)
        b = State(initial=0.0)
        c = State(initial=0.0)
        k = Parameter(dist.LogNormal(0.0, 0.3))

        def vector_field(self, t, y, p):
            made, used = p.k * y.a, 0.3 * y.b
            return {"a": -made, "b": made * second - used, "c": used / second}

        seen = Observable(lambda t, y, p: odecal.noise.LogNormal(y.c, 0.1))

    return Chain()


def of_chain(k=1.0):
    """Bateman's equations: A, B and C of A(0) = 1."""
    a, b = np.exp(-k * TS), k * (np.exp(-k * TS) - np.exp(-0.3 * TS)) / (0.3 - k)
    return np.stack([a, b, 1 - a - b])


@cache
def program(second=1.0, **settings):
    """A, B and C, of the scale."""
    solve = Solve(**settings)
    system = chain(1.0, second)

    @jax.jit
    def states(scale):
        given = system.declaration.parameters({"k": 1.0}, solve.dtype)
        p = Values({**given, "a0": jnp.asarray(scale, solve.dtype)}, "parameter")
        found = solve_system(system, p, 0.0, TS, solve)
        return jnp.stack([found.y.a, found.y.b, found.y.c]), found.failed

    return states


def solved(scale, **settings):
    with jax.enable_x64("dtype" not in settings):
        y, failed = program(**settings)(scale)
    assert not failed
    return np.asarray(y)


@pytest.mark.parametrize("scale", SCALES)
def test_states_of_any_scale_are_solved_alike(scale):
    np.testing.assert_allclose(solved(scale) / scale, of_chain(), rtol=1e-5, atol=1e-7)


def test_small_states_are_solved_alike_by_an_implicit_solver():
    found = solved(1e-12, solver=diffrax.Kvaerno5(), rtol=1e-8) / 1e-12
    np.testing.assert_allclose(found, of_chain(), rtol=1e-5, atol=1e-7)


def test_states_of_mixed_magnitudes_are_solved_alike():
    found = solved(1e-3, second=1e-9) / np.array([[1e-3], [1e-12], [1e-3]])
    np.testing.assert_allclose(found, of_chain(), rtol=1e-5, atol=1e-6)


def test_ordinary_states_are_solved_as_with_the_usual_tolerance_bit_by_bit():
    for scale in (1.0, 30.0, 1e6):
        np.testing.assert_array_equal(solved(scale), solved(scale, atol=1e-8))


def test_small_states_are_solved_alike_in_single_precision():
    found = solved(1e-9, dtype=jnp.float32, rtol=1e-5) / 1e-9
    np.testing.assert_allclose(found, of_chain(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "adjoint",
    [
        adjoints.ExplicitForward(),
        adjoints.ExplicitReverse(),
        adjoints.Gauss(),
        pytest.param(adjoints.Backsolve(), marks=pytest.mark.slow),
        pytest.param(adjoints.RecursiveCheckpoint(), marks=pytest.mark.slow),
    ],
    ids=lambda x: type(x).__name__,
)
def test_log_densities_and_gradients_of_small_states_are_those_of_ordinary_ones(adjoint):
    scale, data = 1e-10, 1.1 * of_chain(0.9)[2]

    def density(log_k):
        states = of_chain(np.exp(log_k))[2]
        law = scipy.stats.lognorm(0.1, scale=states)
        return scipy.stats.norm(0.0, 0.3).logpdf(log_k) + law.logpdf(data).sum()

    table = pd.DataFrame({"time": TS, "seen": scale * data})
    model = odecal.compile(chain(scale), table, Solve(adjoint=adjoint))
    with model.precision():
        value, slope = jax.jit(jax.value_and_grad(model.logdensity_fn))({"k": 0.2})
    value = float(value) + len(TS) * np.log(scale)
    np.testing.assert_allclose(value, density(0.2), rtol=2e-4)
    expected = (density(0.2 + 1e-5) - density(0.2 - 1e-5)) / 2e-5
    np.testing.assert_allclose(slope["k"], expected, rtol=2e-4)


def test_a_depot_that_is_filled_later_has_the_magnitude_of_its_doses():
    """Each individual's its own, whatever was observed."""
    scales, amount = [1e-12, 1.0], np.array([1e-3, 1.0, *[np.nan] * 4])
    one = {"TIME": [0.0, 5.0, *(5.0 + TS)], "EVID": [1, 1, 0, 0, 0, 0], "CMT": 1, "DV": 1.0}
    parts = [pd.DataFrame(one | {"ID": scale, "AMT": scale * amount}) for scale in scales]
    model = odecal.compile(Oral(), pd.concat(parts, ignore_index=True))
    p = {"ka": 1.0, "k": 0.3, "lag": 0.0, "part": 1.0, "rate": 1.0, "lasts": 1.0}
    with model.precision():
        found = np.asarray(jax.jit(lambda p: model.predict(p).laws["seen"].mean)(p))

    def bateman(t):
        return (np.exp(-t) - np.exp(-0.3 * t)) / (0.3 - 1.0)

    expected = bateman(TS) + 1e-3 * bateman(TS + 5)
    for seen, scale in zip(found.reshape(2, -1), scales, strict=True):
        np.testing.assert_allclose(seen / scale, expected, rtol=1e-5, atol=1e-7)


class Cooling(System):
    """A body that cools; t0 is the first time."""

    warm = State(initial=1.0)
    k = Parameter(dist.LogNormal(-3.0, 0.3))

    def vector_field(self, t, y, p):
        return {"warm": -p.k * y.warm}

    seen = Observable(lambda t, y, p: odecal.noise.Normal(y.warm, 0.1))


UNIX = 1.7e9 + np.array([0.0, 10.0, 20.0, 500.0])


@pytest.mark.parametrize(
    "times", [UNIX, 1.7e9 + 128 * np.arange(3), 1e4 + np.array([0.0, 1.0, 1.001])]
)
def test_times_that_single_precision_cannot_tell_apart_are_refused(times):
    single = Solve(dtype=jnp.float32, rtol=1e-5)
    table = pd.DataFrame({"time": times, "seen": 0.5})
    with pytest.raises(SettingsError, match=r"float32.*apart.*float64"):
        odecal.compile(Cooling(), table, single)
    with pytest.raises(SettingsError, match=r"float32.*apart.*float64"):
        odecal.simulate(Cooling(), times, solve=single)
    # The remedies of the message.
    for settings, shift in ((single, times[0]), (Solve(), 0.0)):
        model = odecal.compile(Cooling(), table.assign(time=times - shift), settings)
        with model.precision():
            found = jax.jit(lambda k, m=model: m.predict({"k": k}).trajectory.y.warm)(0.01)
        np.testing.assert_allclose(found, np.exp(-0.01 * (times - times[0])), rtol=1e-4)


def test_ordinary_times_are_told_apart_in_single_precision():
    times = np.round(np.arange(0, 2000, 1 / 60), 4)
    table = pd.DataFrame({"time": times, "seen": 0.5})
    odecal.compile(Cooling(), table, Solve(dtype=jnp.float32, rtol=1e-5))
