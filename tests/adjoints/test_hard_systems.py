"""Stiff, chaotic and steady systems: each strategy is right, or says that it is not."""

import functools

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
import pytest

from odecal import adjoints


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def robertson(t, y, k):
    slow, fastest, fast = k[0] * y[0], k[1] * y[1] ** 2, k[2] * y[1] * y[2]
    return jnp.stack([-slow + fast, slow - fastest - fast, fastest])


def lorenz(t, y, p):
    return jnp.stack([p[0] * (y[1] - y[0]), y[0] * (p[1] - y[2]) - y[1], y[0] * y[1] - p[2] * y[2]])


@functools.cache
def program(adjoint, field, solver, max_steps):
    def loss(p, ts, y0, weights, rtol, atol):
        solution = adjoint.diffeqsolve(
            diffrax.ODETerm(field),
            solver,
            0.0,
            ts[-1],
            None,
            y0,
            p,
            saveat=diffrax.SaveAt(ts=ts),
            stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol),
            max_steps=max_steps,
            throw=False,
        )
        return jnp.sum(solution.ys * weights)

    return jax.jit(jax.grad(loss))


def gradient(adjoint, field, solver, p, max_steps=2000, **inputs):
    """The gradient of a weighted sum of saved states with respect to p."""
    return np.asarray(program(adjoint, field, solver, max_steps)(p, **inputs))


ROBERTSON = {
    "field": robertson,
    "solver": diffrax.Kvaerno5(root_finder=optimistix.Newton(rtol=1e-10, atol=1e-14)),
    "ts": np.array([0.4, 4.0, 40.0, 400.0]),
    "y0": np.array([1.0, 0.0, 0.0]),
    "p": np.array([0.04, 3e7, 1e4]),
    "weights": np.array([[1.0, 1e4, 1.0]]),
    "atol": 1e-12,
}


@pytest.mark.parametrize(
    ("adjoint", "tolerance"),
    [
        (adjoints.RecursiveCheckpoint(), 1e-4),
        (adjoints.ForwardSensitivity(), 1e-4),
        (adjoints.ForwardSensitivity(in_error_norm=True), 1e-4),
        (adjoints.Interpolating(), 1e-2),
        (adjoints.Gauss(), 1e-2),
        (adjoints.Quadrature(), 1e-2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_stiff_gradients_are_right(adjoint, tolerance):
    """Against forward mode at tolerances a thousand times tighter."""
    got = gradient(adjoint, **ROBERTSON, rtol=1e-7)
    expected = gradient(adjoints.Forward(), **{**ROBERTSON, "atol": 1e-14}, rtol=1e-10)
    np.testing.assert_allclose(got * ROBERTSON["p"], expected * ROBERTSON["p"], rtol=tolerance)


def test_backsolve_says_that_it_is_wrong_on_a_stiff_system():
    """Robertson's solution cannot be followed backwards: not by an explicit solver either."""
    settings = {**ROBERTSON, "solver": diffrax.Dopri5(), "ts": np.array([40.0])}
    assert np.isnan(gradient(adjoints.Backsolve(), **settings, rtol=1e-7, max_steps=200_000)).all()


LORENZ = {
    "field": lorenz,
    "solver": diffrax.Dopri8(),
    "y0": np.array([1.0, 1.0, 20.0]),
    "p": np.array([10.0, 28.0, 8.0 / 3.0]),
    "rtol": 1e-8,
    "atol": 1e-8,
}
CHAOTIC = [a() for a in (adjoints.ExplicitForward, adjoints.ExplicitReverse, adjoints.Gauss)]


BY_DIFFRAX = adjoints.RecursiveCheckpoint()
AT_THE_END = np.repeat([[0.0], [1.0]], [39, 1], axis=0)


@pytest.mark.parametrize("adjoint", CHAOTIC, ids=lambda adjoint: type(adjoint).__name__)
def test_chaotic_gradients_follow_the_discrete_solve(adjoint):
    """Over ten times the time in which errors double, the gradient is that of the path taken.

    The reference is Diffrax's: `Forward` is `ExplicitForward` where a solver is explicit.
    """
    settings = {**LORENZ, "ts": np.linspace(0.2, 8.0, 40), "weights": AT_THE_END}
    got, expected = (gradient(a, **settings) for a in (adjoint, BY_DIFFRAX))
    np.testing.assert_allclose(got, expected, rtol=2e-2)


def test_backsolve_says_that_it_is_wrong_on_a_chaotic_system():
    settings = {**LORENZ, "ts": np.full(40, 25.0), "weights": AT_THE_END}
    assert np.isnan(gradient(adjoints.Backsolve(), **settings)).all()


def test_backsolve_is_right_where_a_chaotic_system_is_often_saved():
    """It restarts from every saved state."""
    settings = {**LORENZ, "ts": np.linspace(0.1, 4.0, 40), "weights": np.ones((40, 1))}
    got, expected = (gradient(a, **settings) for a in (adjoints.Backsolve(), BY_DIFFRAX))
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def relaxation(t, y, p):
    """Two species at rest at y1 = p0 / p1, y2 = (y1 / p2)^(1/3)."""
    return jnp.stack([p[0] - p[1] * y[0], y[0] - p[2] * y[1] ** 3])


def rest(p):
    y1 = p[0] / p[1]
    return jnp.stack([y1, (y1 / p[2]) ** (1 / 3)])


RELAXATION = {
    "field": relaxation,
    "solver": diffrax.Tsit5(),
    "y0": np.array([0.1, 0.2]),
    "p": np.array([1.0, 2.0, 0.7]),
    "rtol": 1e-9,
    "atol": 1e-9,
}


def test_a_steady_state_is_differentiated():
    weights = np.array([[1.0, 2.0], [0.5, -1.0]])
    got = gradient(adjoints.SteadyState(), **RELAXATION, ts=np.array([40.0, 50.0]), weights=weights)
    expected = jax.grad(lambda p: jnp.sum(rest(p)[None] * weights))(RELAXATION["p"])
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize("first", [0.0, 0.5])
def test_a_state_on_its_way_has_no_such_gradient(first):
    settings = {**RELAXATION, "ts": np.array([first, 50.0])}
    unseen, seen = np.array([[0.0, 0.0], [1.0, 1.0]]), np.ones((2, 2))
    assert np.isnan(gradient(adjoints.SteadyState(), **settings, weights=seen)).all()
    assert np.isfinite(gradient(adjoints.SteadyState(), **settings, weights=unseen)).all()


def test_a_conserved_total_has_no_such_gradient():
    def exchange(t, y, p):
        there, back = p[0] * y[0], p[1] * y[1]
        return jnp.stack([back - there, there - back])

    settings = {**RELAXATION, "field": exchange, "p": np.array([1.1, 2.3])}
    ts = np.array([100.0])
    got = gradient(adjoints.SteadyState(), **settings, ts=ts, weights=np.array([[1.0, 0.0]]))
    assert np.isnan(got).all()
