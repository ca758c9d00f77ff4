"""Solves whose state changes on the way, against closed forms."""

from functools import partial

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from odecal.adjoints import Crossing, Jumps, Problem, Schedule

from odecal import adjoints

TS = np.array([0.0, 0.5, 2.0, 2.1, 3.0, 5.0, 5.0, 8.0])
AFTER = np.array([0, 0, 0, 0, 0, 0, 1, 0], bool)
NEVER = np.zeros_like(AFTER)
# Rate, lag, infusion and four doses.
X = np.array([0.7, 0.05, 1.3, 1.0, 2.0, 0.5, 1.0])
WEIGHTS = np.arange(1.0, 1 + len(TS))

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
        term, solver or diffrax.Tsit5(), 0.0, ts[-1], None, saveat, controller, 256, jumps
    )


def _closed_form(x, ts=TS, after_dose=AFTER):
    rate, lag, infusion, *amounts = x
    y = 0.0
    for amount, time in zip(amounts, (0.0, 2.0, 2.0, 5.0), strict=True):
        since = ts - time - lag
        seen = (since.real > 0) | ((since.real == 0) & after_dose)
        y += np.where(seen, amount * np.exp(-rate * since), 0.0)
    begun, ended = ((ts - time - lag) * (ts - time - lag.real > 0) for time in (2.0, 5.0))
    return y + infusion / rate * (np.exp(-rate * ended) - np.exp(-rate * begun))


def _jacobian(function, x):
    """By complex steps."""
    return np.transpose([function(x + 1e-20j * unit).imag / 1e-20 for unit in np.eye(len(x))])


def _states(adjoint, problem, x):
    return adjoint.solve_with_jumps(problem, jnp.zeros(1), (x[:3], x[3:])).ys[:, 0]


def _program(adjoint, problem):
    """The gradient of the weighted sum of the states, and they."""

    def total(x):
        states = _states(adjoint, problem, x)
        return WEIGHTS @ states, states

    return jax.grad(total, has_aux=True)


def _assert_like(found, x, after_dose=AFTER, atol=1e-8, rtol=2e-6):
    def exact(x):
        return _closed_form(x, TS, after_dose)

    np.testing.assert_allclose(found[1], exact(x), atol=atol)
    np.testing.assert_allclose(found[0], WEIGHTS @ _jacobian(exact, x), rtol=rtol, atol=1e-9)


@pytest.mark.parametrize("adjoint", STRATEGIES, ids=lambda a: type(a).__name__)
def test_lagged_doses_and_infusions(adjoint):
    program = _program(adjoint, _problem(Jumps(_schedule, _add, jnp.asarray(AFTER))))
    _assert_like(jax.jit(program)(X), X)


@pytest.mark.parametrize(
    "adjoint", [adjoints.ExplicitForward(), adjoints.Gauss()], ids=lambda a: type(a).__name__
)
def test_what_is_saved_at_the_time_of_a_change(adjoint):
    """Before it, or after where that is asked for; also at the first and the last time."""
    ts, after_dose = np.array([0.0, 0.0, 5.0, 5.0]), np.array([False, True, False, True])
    problem = _problem(Jumps(_schedule, _add, jnp.asarray(after_dose)), ts)
    x = X * [1, 0, 1, 1, 1, 1, 1]
    states = jax.jit(partial(_states, adjoint, problem))(x)
    np.testing.assert_allclose(states, _closed_form(x, ts, after_dose), atol=1e-8)
    assert states[1] - states[0] == pytest.approx(1.0)
    assert states[3] - states[2] == pytest.approx(1.0)


def test_implicit_solver():
    problem = _problem(Jumps(_schedule, _add), solver=diffrax.Kvaerno5(), rtol=1e-8)
    program = jax.jit(_program(adjoints.Forward(), problem))
    _assert_like(program(X), X, NEVER, 1e-6, 1e-5)


def test_a_batch_is_each_of_its_members():
    """Members whose doses come at different times step together, and do not disturb each other."""
    every = np.tile(X, (5, 1))
    every[:, 1] = [0.0, 0.3, 1.7, 2.9, 30.0]
    program = _program(adjoints.ExplicitForward(), _problem(Jumps(_schedule, _add)))
    for x, *found in zip(every, *jax.jit(jax.vmap(program))(every), strict=True):
        _assert_like(found, x, NEVER)


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


def _height_after(p, t, bounces=12):
    """By the closed form of each flight."""
    g, restitution, height = p
    time = np.sqrt(2 * height / g)
    speed = restitution * g * time
    found = height - g * t**2 / 2
    for _ in range(bounces):
        after = t - time
        found = np.where(after.real > 0, speed * after - g * after**2 / 2, found)
        time, speed = time + 2 * speed / g, restitution * speed
    return found


def test_bouncing_ball():
    """A batch of them."""
    ts = np.linspace(0.1, 3.0, 8)
    jumps = Jumps(_no_schedule, _add, None, (Crossing(_height, _bounce),))
    problem = _problem(jumps, ts, _falling)

    def heights(p):
        y0 = jnp.stack([p[2], 0.0])
        found = adjoints.ExplicitForward().solve_with_jumps(problem, y0, p).ys[:, 0]
        return found, found

    every = [9.81, 0.8, 1.5] * np.array([[1.0, 1.0, 1.0], [1.1, 0.9, 1.3], [0.7, 0.95, 0.6]])
    slopes, found = jax.jit(jax.vmap(jax.jacrev(heights, has_aux=True)))(every)
    for p, of, to in zip(every, found, slopes, strict=True):
        np.testing.assert_allclose(of, _height_after(p, ts), atol=1e-7)
        np.testing.assert_allclose(to, _jacobian(lambda p: _height_after(p, ts), p), atol=1e-6)


def test_other_strategies_say_that_they_cannot_serve_crossings():
    jumps = Jumps(_no_schedule, _add, None, (Crossing(_height, _bounce),))
    problem = _problem(jumps, field=_falling)
    with pytest.raises(ValueError, match="ExplicitForward"):
        adjoints.RecursiveCheckpoint().solve_with_jumps(problem, jnp.ones(2), jnp.ones(3))
