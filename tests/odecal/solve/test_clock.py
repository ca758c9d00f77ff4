"""What a vector field switches at known times is seen by the steps of a solve."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest

import odecal
from odecal import Constant, Covariate, Observable, Parameter, Solve, State, System

TIMES = [3650.0, 3800.0, 7000.0]
TAU = 150.0
HOURS = np.array([0.0, 3600.0, 3601.0, 3611.0, 3612.0, 7200.0])
LEVEL = np.array([0.0, 0.0, 5.0, 5.0, 0.0, 0.0])
LINES = diffrax.LinearInterpolation(HOURS, LEVEL)
# A trapezium, a rectangle, a triangle, each in pieces: from, to, the level at either end.
TRAPEZIUM = [(3600, 3601, 0, 5), (3601, 3611, 5, 5), (3611, 3612, 5, 0)]
RECTANGLE = [(3601, 3611, 5, 5)]
TRIANGLE = [(3601, 3606, 0, 5), (3606, 3611, 5, 0)]
RECURRING = [(0, 6, 5, 5), (3605, 3611, 5, 5)]


class Driven(System):
    """A state that follows what drives it: du/dt = (drive − u) / τ."""

    t0 = 0.0
    u = State(initial=0.0)
    tau = Parameter(dist.LogNormal(jnp.log(TAU), 0.1))
    followed = Observable(lambda t, y, p: odecal.noise.Normal(y.u, 0.01))

    def drive(self, t, p):
        """What the state follows."""
        return 0.0 * t

    def vector_field(self, t, y, p):
        return {"u": (self.drive(t, p) - y.u) / p.tau}


def driven(drive, **parts):
    return type("Case", (Driven,), {"drive": lambda self, t, p: drive(t, p), **parts})


def pulse(t, begin, end):
    return jnp.where((t > begin) & (t < end), 5.0, 0.0)


CASES = {
    "interpolated": (driven(lambda t, p: jnp.interp(t, HOURS, LEVEL)), TRAPEZIUM),
    "interpolated at two times": (
        driven(lambda t, p: jnp.sum(jnp.interp(t + jnp.array([0.0, 1000.0]), HOURS, LEVEL))),
        [*TRAPEZIUM, *((a - 1000, b - 1000, u, v) for a, b, u, v in TRAPEZIUM)],
    ),
    "interpolated by Diffrax": (driven(lambda t, p: LINES.evaluate(t)), TRAPEZIUM),
    "constants": (
        driven(
            lambda t, p: jnp.interp(t, p.hours, p.level),
            hours=Constant(HOURS, dims=("knot",)),
            level=Constant(LEVEL, dims=("knot",)),
            coords={"knot": list("abcdef")},
        ),
        TRAPEZIUM,
    ),
    "compared": (driven(lambda t, p: pulse(t, 3601.0, 3611.0)), RECTANGLE),
    "in other units": (
        driven(lambda t, p: pulse(t / 60 - 1, 3601 / 60 - 1, 3611 / 60 - 1)),
        RECTANGLE,
    ),
    "from the middle": (driven(lambda t, p: jnp.where(abs(t - 3606.0) < 5.0, 5.0, 0.0)), RECTANGLE),
    "in a branch": (
        driven(lambda t, p: jax.lax.cond((t > 3601) & (t < 3611), lambda: 5.0, lambda: 0.0)),
        RECTANGLE,
    ),
    "several": (
        driven(
            lambda t, p: jnp.sum(pulse(t, jnp.array([100.0, 3601.0]), jnp.array([103.0, 3611.0])))
        ),
        [(100, 103, 5, 5), *RECTANGLE],
    ),
    "a grid": (  # of starts and lengths
        driven(
            lambda t, p: jnp.sum(
                jnp.where(
                    (t - jnp.array([100.0, 3601.0]))[:, None] % 1e9 < jnp.array([2.0, 3.0, 5.0]),
                    jnp.where((t - jnp.array([100.0, 3601.0]))[:, None] > 0, 1.0, 0.0),
                    0.0,
                )
            )
        ),
        [(s, s + n, 1, 1) for s in (100, 3601) for n in (2, 3, 5)],
    ),
    "a parameter": (
        driven(lambda t, p: pulse(t, p.onset, p.onset + 10), onset=Constant(3601.0)),
        RECTANGLE,
    ),
    "a triangle": (driven(lambda t, p: jnp.maximum(5 - abs(t - 3606.0), 0.0)), TRIANGLE),
    "every hour": (driven(lambda t, p: jnp.where(t % 3605 < 6, 5.0, 0.0)), RECURRING),
    "every hour, by hand": (
        driven(lambda t, p: jnp.where(t - 3605 * jnp.floor(t / 3605) < 6, 5.0, 0.0)),
        RECURRING,
    ),
    "a table": (
        driven(lambda t, p: jnp.zeros(721).at[360].set(5.0)[(t / 10).astype(int)]),
        [(3600, 3610, 5, 5)],
    ),
}


def exact(pieces, t, tau=TAU):
    """∫ drive(s) exp((s − t)/τ) ds / τ over the pieces, by Gauss and Legendre."""
    nodes, weights = np.polynomial.legendre.leggauss(20)
    total = 0.0
    for begin, end, low, high in pieces:
        end_here = min(end, t)
        if end_here > begin:
            s = begin + (end_here - begin) * (nodes + 1) / 2
            level = low + (high - low) * (s - begin) / (end - begin)
            total += (end_here - begin) / 2 * np.sum(weights * level * np.exp((s - t) / tau)) / tau
    return total


ROWS = pd.DataFrame({"time": TIMES, "followed": 0.1})


def solved(system, solve=None, rows=ROWS):
    model = odecal.compile(system, rows, solve)
    with model.precision():
        return np.asarray(jax.jit(lambda x: model.predict({"tau": x}).trajectory.y.u)(TAU))


@pytest.mark.parametrize("name", CASES)
def test_a_pulse_between_the_stages_of_a_step_is_seen(name):
    cls, pieces = CASES[name]
    right = [exact(pieces, t) for t in TIMES]
    np.testing.assert_allclose(solved(cls()), right, atol=5e-6)


@pytest.mark.parametrize(
    "solve",
    [
        Solve(solver=diffrax.Kvaerno5()),
        Solve(adjoint=odecal.adjoints.ExplicitReverse()),
        Solve(adjoint=diffrax.RecursiveCheckpointAdjoint()),
        Solve(dtype=jnp.float32),
    ],
)
def test_by_whatever_strategy(solve):
    cls, pieces = CASES["compared"]
    tolerance = 2e-4 if solve.dtype == np.float32 else 2e-5
    right = [exact(pieces, t) for t in TIMES]
    np.testing.assert_allclose(solved(cls(), solve), right, atol=tolerance)


def test_an_unknown_onset_is_stopped_at():
    """The time of a pulse is a parameter: each draw has a stop of its own."""
    cls = driven(
        lambda t, p: pulse(t, p.onset, p.onset + 10), onset=Parameter(dist.Normal(3601.0, 100.0))
    )
    model = odecal.compile(cls(), ROWS)
    with model.precision():

        def state(onset):
            return model.predict({"tau": TAU, "onset": onset}).trajectory.y.u

        found = jax.jit(jax.vmap(state))(jnp.array([1000.5, 3601.0, 3640.25]))
    for onset, u in zip([1000.5, 3601.0, 3640.25], np.asarray(found), strict=True):
        pieces = [(onset, onset + 10, 5, 5)]
        np.testing.assert_allclose(u, [exact(pieces, t) for t in TIMES], atol=5e-6)


def test_every_individual_has_its_own_switch():
    cls = driven(
        lambda t, p: pulse(t, p.onset, p.onset + 10), onset=Covariate("start"), individual="who"
    )
    rows = [(w, s, t, 0.1) for w, s in (("a", 500.0), ("b", 3601.0)) for t in TIMES]
    table = pd.DataFrame(rows, columns=["who", "start", "time", "followed"])
    found = solved(cls(), rows=table)
    for u, start in zip(found, (500, 3601), strict=True):
        right = [exact([(start, start + 10, 5, 5)], t) for t in TIMES]
        np.testing.assert_allclose(u, right, atol=5e-6)


def test_a_switch_beside_an_input():
    """Both have stops; one that they share is made once."""
    cls = driven(lambda t, p: pulse(t, 3601.0, 3611.0) + p.other, other=odecal.Input())
    table = pd.DataFrame(
        {
            "time": [0.0, 3600.0, 3601.0, 3611.0, 3612.0, *TIMES],
            "other": [0.0, 0.0, 5.0, 5.0, 0.0, np.nan, np.nan, 0.0],
            "followed": [np.nan] * 5 + [0.1] * 3,
        }
    )
    found = solved(cls(), rows=table)
    right = [exact(RECTANGLE, t) + exact(TRAPEZIUM, t) for t in TIMES]
    np.testing.assert_allclose(found, right, atol=1e-5)


def test_the_gradient_is_that_of_the_pulse():
    cls, pieces = CASES["compared"]
    model = odecal.compile(cls(), ROWS)
    with model.precision():
        found = jax.jit(jax.jacrev(lambda x: model.predict({"tau": x}).trajectory.y.u))(TAU)
    up, down = (np.array([exact(pieces, t, TAU + h) for t in TIMES]) for h in (1e-3, -1e-3))
    np.testing.assert_allclose(found, (up - down) / 2e-3, atol=1e-6)
