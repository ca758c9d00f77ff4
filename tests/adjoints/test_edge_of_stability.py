"""Stiff systems under explicit solvers: a gradient is right, or it says that it is not."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from odecal import adjoints

TIMES = np.arange(0.0, 10.0)
WEIGHTS = np.cos(np.arange(10.0))


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def relaxing(t, y, p):
    """dy/dt = −r (y − a cos t)."""
    return -p["rate"] * (y - p["amplitude"] * jnp.cos(t))


def exact(p, y0):
    rate, amplitude = p["rate"], p["amplitude"]
    a, b = rate**2 / (1 + rate**2), rate / (1 + rate**2)
    slow = amplitude * (a * jnp.cos(TIMES) + b * jnp.sin(TIMES))
    return jnp.sum(WEIGHTS * (slow + (y0[0] - amplitude * a) * jnp.exp(-rate * TIMES)))


def of_solve(adjoint, solver=None, rtol=1e-6, atol=1e-8, scale=1.0):
    """The same by a solve, of a state in other units; and whether it has failed."""

    def found(p, y0):
        solution = adjoint.diffeqsolve(
            diffrax.ODETerm(lambda t, y, p: scale * relaxing(t, y / scale, p)),
            diffrax.Tsit5() if solver is None else solver,
            0.0,
            TIMES[-1],
            None,
            scale * y0,
            p,
            saveat=diffrax.SaveAt(ts=jnp.asarray(TIMES)),
            stepsize_controller=diffrax.PIDController(rtol=rtol, atol=scale * atol),
            max_steps=2**15,
            throw=False,
        )
        failed = solution.result != diffrax.RESULTS.successful
        return jnp.sum(WEIGHTS * solution.ys[:, 0]) / scale, failed

    return found


def worst(function, rates):
    """The largest relative error of the gradient, over rates; and how many said that it failed."""
    program = jax.jit(jax.value_and_grad(function, argnums=(0, 1), has_aux=True))
    expected = jax.jit(jax.grad(exact, argnums=(0, 1)))
    errors, failed = [], 0
    for rate in rates:
        at = {"rate": jnp.asarray(rate), "amplitude": jnp.asarray(1.3)}, jnp.asarray([0.5])
        (_, wrong), got = program(*at)
        # By the logarithm of each number: all are comparable then.
        got, want = (
            np.asarray([g[0]["rate"] * rate, g[0]["amplitude"] * 1.3, g[1][0] * 0.5])
            for g in (got, expected(*at))
        )
        if wrong or np.isnan(got).any():
            failed += 1
        else:
            errors.append(np.max(np.abs(got - want)) / np.max(np.abs(want)))
    return max(errors, default=0.0), failed


def rates(number):
    return 1000.0 * np.exp(0.5 * np.random.default_rng(0).normal(size=number))


@pytest.mark.parametrize(
    ("adjoint", "solver", "scale"),
    [
        (adjoints.ExplicitForward(), None, 1e-6),
        (adjoints.ExplicitForward(), diffrax.Dopri8(), 1e6),
        (adjoints.Forward(), None, 1.0),
        (adjoints.ForwardSensitivity(), None, 1.0),
        (adjoints.ExplicitReverse(), None, 1e-6),
        (adjoints.ExplicitReverse(), diffrax.Dopri8(), 1e6),
    ],
    ids=lambda value: type(value).__name__,
)
def test_gradients_at_the_edge_of_stability(adjoint, solver, scale):
    """The controller holds the state there; its tangents it must be told of."""
    error, failed = worst(of_solve(adjoint, solver, scale=scale), rates(6))
    assert error < 1e-3
    assert failed == 0
