"""The same system in other units gives the same answers."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest

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


def solved(system, settings, k=1.0):
    def states(k):
        y0 = {"a0": system.declaration.states["a"].initial, "b0": 0.0, "c0": 0.0}
        p = Values({"k": k, **{n: jnp.asarray(x) for n, x in y0.items()}}, "parameter")
        found = solve_system(system, p, 0.0, TS, settings)
        return jnp.stack([found.y.a, found.y.b, found.y.c]), found.failed

    with jax.enable_x64(settings.dtype == np.float64):
        y, failed = jax.jit(states)(jnp.asarray(k))
    assert not failed
    return np.asarray(y)


@pytest.mark.parametrize("scale", SCALES)
def test_states_of_any_scale_are_solved_alike(scale):
    found = solved(chain(scale), Solve()) / scale
    np.testing.assert_allclose(found, of_chain(), rtol=1e-5, atol=1e-7)


def test_small_states_are_solved_alike_by_an_implicit_solver():
    found = solved(chain(1e-12), Solve(solver=diffrax.Kvaerno5(), rtol=1e-8)) / 1e-12
    np.testing.assert_allclose(found, of_chain(), rtol=1e-5, atol=1e-7)


def test_states_of_mixed_magnitudes_are_solved_alike():
    found = solved(chain(1e-3, second=1e-9), Solve()) / np.array([[1e-3], [1e-12], [1e-3]])
    np.testing.assert_allclose(found, of_chain(), rtol=1e-5, atol=1e-6)


def test_ordinary_states_are_solved_as_with_the_usual_tolerance_bit_by_bit():
    for scale in (1.0, 30.0, 1e6):
        found, usual = (solved(chain(scale), Solve(atol=atol)) for atol in (None, 1e-8))
        np.testing.assert_array_equal(found, usual)


def test_small_states_are_solved_alike_in_single_precision():
    settings = Solve(dtype=jnp.float32, rtol=1e-5)
    found = solved(chain(1e-9), settings) / 1e-9
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
    def density(scale):
        table = pd.DataFrame({"time": TS, "seen": scale * 1.1 * of_chain(0.9)[2]})
        model = odecal.compile(chain(scale), table, Solve(adjoint=adjoint))
        with model.precision():
            both = jax.jit(jax.value_and_grad(model.logdensity_fn))
            value, slope = both({"k": jnp.asarray(0.2)})
            return float(value) + len(TS) * np.log(scale), float(slope["k"])

    np.testing.assert_allclose(density(1e-10), density(1.0), rtol=2e-4)


class Oral(System):
    """Absorbed from a depot that doses fill later, in moles."""

    t0 = 0.0
    gut = State(initial=0.0)
    body = State(initial=0.0)
    ka = Parameter(dist.LogNormal(0.0, 0.3))

    def vector_field(self, t, y, p):
        return {"gut": -p.ka * y.gut, "body": p.ka * y.gut - 0.3 * y.body}

    seen = Observable(lambda t, y, p: odecal.noise.LogNormal(y.body, 0.1))


@pytest.mark.parametrize("scale", [1e-12, 1.0])
def test_a_depot_that_is_filled_later_has_the_magnitude_of_its_doses(scale):
    table = pd.DataFrame(
        {
            "TIME": [0.0, 5.0, *(5.0 + TS)],
            "EVID": [1, 1, 0, 0, 0, 0],
            "AMT": [1e-3 * scale, scale, *[np.nan] * 4],
            "CMT": [1, 1, *[2] * 4],
            "DV": [np.nan, np.nan, *scale * of_chain()[1]],
        }
    )
    model = odecal.compile(Oral(), table)
    with model.precision():
        found = np.asarray(model.predict({"ka": jnp.asarray(1.0)}).trajectory.y.body)[-4:]

    def bateman(t):
        return (np.exp(-t) - np.exp(-0.3 * t)) / (0.3 - 1.0)

    expected = bateman(TS) + 1e-3 * bateman(TS + 5)
    np.testing.assert_allclose(found / scale, expected, rtol=1e-5, atol=1e-7)


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
            found = model.predict({"k": jnp.asarray(0.01)}).trajectory.y.warm
        np.testing.assert_allclose(found, np.exp(-0.01 * (times - times[0])), rtol=1e-4)


def test_ordinary_times_are_told_apart_in_single_precision():
    times = np.round(np.arange(0, 2000, 1 / 60), 4)
    table = pd.DataFrame({"time": times, "seen": 0.5})
    odecal.compile(Cooling(), table, Solve(dtype=jnp.float32, rtol=1e-5))
