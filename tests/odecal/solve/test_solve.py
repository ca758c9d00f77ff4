import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import scipy.stats
from scipy.integrate import solve_ivp

import odecal
from odecal import (
    Constant,
    Observable,
    Parameter,
    Solve,
    State,
    System,
    adjoints,
    solve_system,
)
from odecal._solve.trajectory import packing

TIGHT = Solve(rtol=1e-10, atol=1e-12)
GRID = {"row": ["a", "b"], "column": ["c", "d", "e"]}


class Oscillator(System):
    """Non-linear, of two scalar states: van der Pol's."""

    x = State(initial=2.0)
    v = State(initial=0.0)
    mu = Parameter(dist.LogNormal(0.0, 1.0))

    def vector_field(self, t, y, p):
        return {"v": p.mu * (1 - y.x**2) * y.v - y.x, "x": y.v}


class Forced(System):
    """Time enters by itself."""

    x = State(initial=1.0)
    mu = Parameter(dist.LogNormal(0.0, 1.0))

    def vector_field(self, t, y, p):
        return {"x": -p.mu * y.x + jnp.sin(3.0 * t) + 0.1 * t}


class Vectors(System):
    """A scalar, a vector and a matrix that drive each other."""

    coords = GRID

    s = State(initial=1.0)
    v = State(initial=[0.5, -0.5], dims="row")
    m = State(initial=lambda p: 0.1 * jnp.arange(6.0).reshape(2, 3), dims=("row", "column"))
    mu = Parameter(dist.LogNormal(0.0, 1.0))
    gain = Constant([1.0, -2.0, 0.5], dims="column")

    def vector_field(self, t, y, p):
        return {
            "m": -p.mu * y.m + y.v[:, None] * p.gain,
            "s": -y.s + y.m.sum() * jnp.cos(t),
            "v": y.m @ p.gain - 2.0 * y.v + 0.1 * y.s * y.v,
        }


def oscillator(t, y, mu):
    x, v = y
    return [v, mu * (1 - x**2) * v - x]


def forced(t, y, mu):
    return -mu * y + np.sin(3.0 * t) + 0.1 * t


def vectors(t, y, mu):
    s, v, m = y[0], y[1:3], y[3:].reshape(2, 3)
    gain = np.array([1.0, -2.0, 0.5])
    dm = -mu * m + v[:, None] * gain
    dv = m @ gain - 2.0 * v + 0.1 * s * v
    return np.concatenate([[-s + m.sum() * np.cos(t)], dv, dm.ravel()])


CASES = {
    "non-linear": (Oscillator, oscillator, [2.0, 0.0]),
    "time-dependent": (Forced, forced, [1.0]),
    "vectors": (Vectors, vectors, [1.0, 0.5, -0.5, *(0.1 * np.arange(6.0))]),
}


def flat(y):
    """The states of a trajectory, of shape (time, element)."""
    return np.concatenate([np.reshape(x, (len(x), -1)) for x in y.values()], axis=1)


@pytest.mark.parametrize("case", CASES)
def test_solution_is_scipy_s(case):
    kind, rates, y0 = CASES[case]
    system, t0, ts, mu = kind(), -0.5, np.array([-0.5, 0.0, 0.7, 2.0, 5.0]), 1.3
    reference = solve_ivp(rates, (t0, ts[-1]), y0, "DOP853", ts, args=(mu,), rtol=1e-12, atol=1e-13)
    with jax.enable_x64(True):

        @jax.jit
        def solve(mu):
            p = system.declaration.parameters({"mu": mu}, jnp.float64)
            return solve_system(system, p, t0, ts, TIGHT)

        trajectory = solve(mu)
    assert not trajectory.failed
    assert trajectory.num_steps > 0
    np.testing.assert_array_equal(trajectory.ts, ts)
    np.testing.assert_allclose(flat(trajectory.y), reference.y.T, rtol=1e-8, atol=1e-8)


def test_states_keep_their_shapes():
    system = Vectors()
    with jax.enable_x64(True):
        p = system.declaration.parameters({"mu": 1.0}, jnp.float64)
        trajectory = jax.eval_shape(lambda: solve_system(system, p, 0.0, np.ones(1), TIGHT))
    shapes = {name: x.shape for name, x in trajectory.y.items()}
    assert shapes == {"s": (1,), "v": (1, 2), "m": (1, 2, 3)}


@pytest.mark.parametrize("kind", [Oscillator, Vectors])
def test_packing_is_undone_by_unpacking(kind):
    declaration = kind().declaration
    pack, unpack = packing(declaration)
    rng = np.random.default_rng(0)
    values = {name: rng.normal(size=declaration.shape(name)) for name in declaration.states}
    with jax.enable_x64(True):
        back = unpack(pack(dict(reversed(values.items()))))
        assert list(back) == list(values)
        for name, value in values.items():
            np.testing.assert_array_equal(back[name], value)


def test_single_precision():
    system = Forced()
    settings = Solve(dtype=jnp.float32, rtol=1e-4, atol=1e-5)
    with jax.enable_x64(False):
        p = system.declaration.parameters({"mu": 1.3}, jnp.float32)
        trajectory = jax.jit(lambda p: solve_system(system, p, 0.0, [1.0, 2.0], settings))(p)
    reference = solve_ivp(forced, (0.0, 2.0), [1.0], "DOP853", [1.0, 2.0], args=(1.3,))
    assert trajectory.y.x.dtype == jnp.float32
    np.testing.assert_allclose(trajectory.y.x, reference.y[0], rtol=1e-3)


# Solves that fail.


class Decay(System):
    t0 = 0.0

    x = State(initial=dist.LogNormal(0.0, 0.3))
    k = Parameter(dist.LogNormal(0.0, 1.0))

    def vector_field(self, t, y, p):
        return {"x": -p.k * y.x}

    seen = Observable(lambda t, y, p: odecal.noise.LogNormal(y.x, 0.1))


class BlowUp(Decay):
    """dx/dt = k·x² ends at t = 1/(k·x0)."""

    def vector_field(self, t, y, p):
        return {"x": p.k * y.x**2}


DATA = pd.DataFrame({"time": [1.0, 2.0], "seen": [0.5, 0.3]})
FAST, SLOW = {"x0": 0.0, "k": 5.0}, {"x0": 0.0, "k": -5.0}


def compiled(kind=Decay, **settings):
    return odecal.compile(kind(), DATA, solve=Solve(**settings))


@pytest.fixture(scope="module")
def three_steps():
    return compiled(max_steps=3)


def test_solve_of_too_many_steps_has_failed_and_no_value_has_a_likelihood(three_steps):
    def both(values):
        prediction = three_steps.predict(values)
        return prediction.trajectory, three_steps.log_likelihood(prediction)

    with three_steps.precision():
        trajectory, density = jax.jit(both)({"x0": 2.0, "k": 1.0})
    assert trajectory.failed
    assert trajectory.num_steps == 3
    np.testing.assert_array_equal(trajectory.y.x, [2.0, 2.0])
    np.testing.assert_array_equal(density["seen"], [-np.inf, -np.inf])


@pytest.fixture(scope="module")
def three_steps_and_gradient(three_steps):
    return jax.jit(jax.value_and_grad(three_steps.logdensity_fn))


def assert_failed(density, gradient):
    assert density == -np.inf
    assert {name: float(g) for name, g in gradient.items()} == {"x0": 0.0, "k": 0.0}


def test_density_of_a_failed_solve_is_minus_infinity_with_a_zero_gradient(
    three_steps, three_steps_and_gradient
):
    with three_steps.precision():
        assert_failed(*three_steps_and_gradient({"x0": 0.0, "k": 0.0}))


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype float64")
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
def test_position_that_is_no_number_has_no_density(three_steps, three_steps_and_gradient, value):
    with three_steps.precision():
        density, gradient = three_steps_and_gradient({"x0": 0.0, "k": value})
    assert density == -np.inf
    assert all(np.isfinite(g) for g in gradient.values())


def closed_form(position):
    """The log density of Decay on unconstrained space, and its gradient."""
    log_x0, log_k = position["x0"], position["k"]
    times, seen = DATA["time"].to_numpy(), np.log(DATA["seen"].to_numpy())
    pull = seen - (log_x0 - np.exp(log_k) * times)
    density = (
        scipy.stats.norm(0.0, 0.3).logpdf(log_x0)
        + scipy.stats.norm(0.0, 1.0).logpdf(log_k)
        + np.sum(scipy.stats.norm(0.0, 0.1).logpdf(pull) - seen)
    )
    gradient = {
        "x0": -log_x0 / 0.09 + np.sum(pull) / 0.01,
        "k": -log_k - np.sum(pull * times) * np.exp(log_k) / 0.01,
    }
    return density, gradient


def test_failed_solve_spoils_no_other_of_its_batch():
    model = compiled(max_steps=12)
    position = {name: np.array([FAST[name], SLOW[name]]) for name in FAST}
    with model.precision():
        both = jax.jit(jax.vmap(jax.value_and_grad(model.logdensity_fn)))
        density, gradient = both(position)
    assert_failed(density[0], {name: g[0] for name, g in gradient.items()})
    expected, expected_gradient = closed_form(SLOW)
    assert density[1] == pytest.approx(expected, rel=1e-5)
    for name, g in gradient.items():
        assert g[1] == pytest.approx(expected_gradient[name], rel=1e-3)


def test_state_that_becomes_infinite_has_failed():
    model = compiled(BlowUp, adjoint=adjoints.RecursiveCheckpoint(), max_steps=64)
    with model.precision():
        assert_failed(*jax.jit(jax.value_and_grad(model.logdensity_fn))({"x0": 0.5, "k": 0.5}))


def test_density_can_be_differentiated_in_forward_mode_where_the_adjoint_is():
    model = compiled(adjoint=diffrax.ForwardMode())
    position = {"x0": 0.1, "k": -0.2}
    with model.precision():
        gradient = jax.jit(jax.jacfwd(model.logdensity_fn))(position)
    for name, expected in closed_form(position)[1].items():
        assert gradient[name] == pytest.approx(expected, rel=1e-3)


def test_what_the_vector_field_does_not_read_costs_no_tangent():
    """The sensitivities carried are those to the two initial values and the one rate read."""
    sizes = []

    class Watched(adjoints.ExplicitForward):
        def jacobian(self, problem, diff, nondiff):
            sizes.append(sum(leaf.size for leaf in jax.tree.leaves(diff)))
            return super().jacobian(problem, diff, nondiff)

    class Noisy(System):
        x = State(initial=lambda p: p.begin)
        v = State(initial=0.0)
        begin = Parameter(dist.LogNormal(0.0, 1.0))
        mu = Parameter(dist.LogNormal(0.0, 1.0))
        sigma = Parameter(dist.HalfNormal(1.0))
        seen = Observable(lambda t, y, p: odecal.noise.Normal(y.x, p.sigma))

        def vector_field(self, t, y, p):
            return {"v": -p.mu * y.x, "x": y.v}

    table = pd.DataFrame({"time": [0.5, 1.0], "seen": [0.8, 0.3]})
    both = [
        odecal.compile(Noisy(), table, Solve(adjoint=a)) for a in (Watched(), adjoints.Forward())
    ]
    with both[0].precision():
        position = both[0].init_position(jax.random.key(0))
        ours, theirs = (jax.jit(jax.grad(model.logdensity_fn))(position) for model in both)
    assert sizes == [3]
    assert all(float(ours[name]) != 0 for name in ours)
    for name in theirs:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-5)
