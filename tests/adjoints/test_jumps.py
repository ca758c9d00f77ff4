"""Solves whose state changes on the way, against closed forms."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from odecal.adjoints import Crossing, Jumps, Problem, Schedule

from odecal import adjoints

TS = np.array([0.0, 0.5, 2.0, 2.1, 3.0, 5.0, 5.0, 8.0])
AFTER = np.array([0, 0, 0, 0, 0, 0, 1, 0], bool)
DOSES = np.array([1.0, 2.0, 0.5, 1.0])

STRATEGIES = [
    adjoints.ExplicitForward(),
    adjoints.Forward(),
    adjoints.ForwardSensitivity(),
    adjoints.ExplicitReverse(),
    adjoints.RecursiveCheckpoint(),
    adjoints.Direct(),
    adjoints.Interpolating(),
    adjoints.Gauss(),
    adjoints.Quadrature(),
    adjoints.Backsolve(),
]


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def _field(t, y, given):
    """One compartment, emptied at a rate, filled by an infusion."""
    ((rate, _, _), _), infused = given
    return -rate * y + infused


def _schedule(args):
    """Four doses, delayed by a lag; an infusion from the second of them to the last; none more."""
    (_, lag, infusion), amounts = args
    times = jnp.array([0.0, 2.0, 2.0, 5.0, jnp.inf]) + lag
    on = jnp.array([0.0, 0.0, 1.0, 1.0, 0.0, 0.0])
    return Schedule(times, jnp.append(amounts, 0.0)[:, None], on[:, None] * infusion)


def _add(t, y, args, amount):
    return y + amount


def _problem(jumps, ts=TS, field=_field, solver=None, rtol=1e-9):
    controller = diffrax.PIDController(rtol=rtol, atol=rtol / 100)
    saveat = diffrax.SaveAt(ts=jnp.asarray(ts))
    term = diffrax.ODETerm(field)
    return Problem(
        term, solver or diffrax.Tsit5(), 0.0, ts[-1], None, saveat, controller, 512, jumps
    )


def _closed_form(p, amounts, ts=TS, after_dose=AFTER):
    rate, lag, infusion = p
    y = 0.0
    for amount, time in zip(amounts, (0.0, 2.0, 2.0, 5.0), strict=True):
        since = ts - time - lag
        y += jnp.where(
            (since > 0) | ((since == 0) & after_dose), amount * jnp.exp(-rate * since), 0.0
        )
    begun, ended = (jnp.clip(ts - time - lag, 0.0) for time in (2.0, 5.0))
    return y + infusion / rate * (jnp.exp(-rate * ended) - jnp.exp(-rate * begun))


def _saved_states(adjoint, problem):
    def states(p, amounts):
        return adjoint.solve_with_jumps(problem, jnp.zeros(1), (p, amounts)).ys[:, 0]

    return states


def _gradient(function, *args):
    weights = jnp.arange(1.0, 1 + len(TS))
    return jax.jit(jax.grad(lambda *a: weights @ function(*a), argnums=(0, 1)))(*args)


@pytest.mark.parametrize("adjoint", STRATEGIES, ids=lambda a: type(a).__name__)
def test_lagged_doses_and_infusions(adjoint):
    args = (jnp.array([0.7, 0.05, 1.3]), jnp.asarray(DOSES))
    states = _saved_states(adjoint, _problem(Jumps(_schedule, _add, jnp.asarray(AFTER))))
    np.testing.assert_allclose(jax.jit(states)(*args), _closed_form(*args), atol=1e-8)
    for ours, exact in zip(_gradient(states, *args), _gradient(_closed_form, *args), strict=True):
        np.testing.assert_allclose(ours, exact, rtol=2e-6)


@pytest.mark.parametrize(
    "adjoint", [adjoints.ExplicitForward(), adjoints.Forward()], ids=lambda a: type(a).__name__
)
def test_what_is_saved_at_the_time_of_a_change(adjoint):
    """Before it, or after where that is asked for; also at the first and the last time."""
    ts, after_dose = np.array([0.0, 0.0, 5.0, 5.0]), np.array([False, True, False, True])
    args = (jnp.array([0.7, 0.0, 1.3]), jnp.asarray(DOSES))
    problem = _problem(Jumps(_schedule, _add, jnp.asarray(after_dose)), ts)
    states = jax.jit(_saved_states(adjoint, problem))(*args)
    np.testing.assert_allclose(states, _closed_form(*args, ts, after_dose), atol=1e-8)
    assert states[1] - states[0] == pytest.approx(1.0)
    assert states[3] - states[2] == pytest.approx(1.0)


def test_implicit_solver():
    args = (jnp.array([0.7, 0.05, 1.3]), jnp.asarray(DOSES))
    problem = _problem(Jumps(_schedule, _add), solver=diffrax.Kvaerno5(), rtol=1e-8)
    states = _saved_states(adjoints.Forward(), problem)
    before = np.zeros_like(AFTER)
    np.testing.assert_allclose(jax.jit(states)(*args), _closed_form(*args, TS, before), atol=1e-6)
    ours = _gradient(states, *args)
    exact = _gradient(lambda *a: _closed_form(*a, TS, before), *args)
    np.testing.assert_allclose(ours[0], exact[0], rtol=1e-5)


def test_a_batch_is_each_of_its_members():
    """Members whose doses come at different times step together, and do not disturb each other."""
    lags = jnp.array([0.0, 0.3, 1.7, 2.9, 30.0])
    states = _saved_states(adjoints.ExplicitForward(), _problem(Jumps(_schedule, _add)))

    def both(lag):
        p = jnp.array([0.7, lag, 1.3])
        return states(p, jnp.asarray(DOSES)), _gradient(states, p, jnp.asarray(DOSES))

    batched = jax.jit(jax.vmap(both))(lags)
    for i, lag in enumerate(lags):
        alone = both(lag)
        np.testing.assert_allclose(batched[0][i], alone[0], atol=1e-8)
        np.testing.assert_allclose(batched[1][0][i], alone[1][0], rtol=1e-6, atol=1e-9)


# A ball that falls from a height, and rises with a part of its speed whenever it hits the ground.


def _falling(t, y, given):
    (g, _, _), _ = given
    return jnp.stack([y[1], -g])


def _no_schedule(args):
    return Schedule(jnp.zeros(0), (), jnp.zeros((1, 0)))


def _height(t, y, given):
    return y[0]


def _bounce(t, y, given):
    (_, restitution, _), _ = given
    return jnp.stack([y[0], -restitution * y[1]])


def _height_after(p, t, bounces=6):
    """By the closed form of each flight."""
    g, restitution, height = p
    time = jnp.sqrt(2 * height / g)
    speed = restitution * g * time
    found = height - g * t**2 / 2
    for _ in range(bounces):
        after = t - time
        found = jnp.where(after > 0, speed * after - g * after**2 / 2, found)
        time, speed = time + 2 * speed / g, restitution * speed
    return found


def test_bouncing_ball():
    ts = np.linspace(0.1, 3.0, 8)
    jumps = Jumps(_no_schedule, _add, None, (Crossing(_height, _bounce),))
    problem = _problem(jumps, ts, _falling)
    p = jnp.array([9.81, 0.8, 1.5])

    def heights(p):
        y0 = jnp.stack([p[2], 0.0])
        return adjoints.ExplicitForward().solve_with_jumps(problem, y0, p).ys[:, 0]

    np.testing.assert_allclose(jax.jit(heights)(p), _height_after(p, ts), atol=1e-8)
    np.testing.assert_allclose(
        jax.jit(jax.jacrev(heights))(p), jax.jacrev(_height_after)(p, ts), atol=1e-6
    )
    several = p * jnp.array([[1.0, 1.0, 1.0], [1.1, 0.9, 1.3], [0.7, 0.95, 0.6]])
    np.testing.assert_allclose(
        jax.jit(jax.vmap(heights))(several),
        jnp.stack([_height_after(p, ts, 12) for p in several]),
        atol=1e-7,
    )


def test_other_strategies_say_that_they_cannot_serve_crossings():
    jumps = Jumps(_no_schedule, _add, None, (Crossing(_height, _bounce),))
    problem = _problem(jumps, field=_falling)
    with pytest.raises(ValueError, match="ExplicitForward"):
        adjoints.RecursiveCheckpoint().solve_with_jumps(problem, jnp.ones(2), jnp.ones(3))
