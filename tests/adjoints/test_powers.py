"""Powers and roots of what stays at zero have gradients, and what is infinite shows."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from odecal import adjoints


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


@jax.jit
def hill(c, ec50, h):
    x = (c / ec50) ** h
    return x / (1 + x)


LAWS = {
    "hill": lambda c, p: hill(c, p[0], p[1]),
    "power": lambda c, p: p[0] * jnp.power(c, p[1]),
    "root": lambda c, p: p[0] * jnp.sqrt(p[1] * c),
    "cube root": lambda c, p: p[0] * jnp.cbrt(p[1] * c),
}


@pytest.fixture(params=LAWS.values(), ids=LAWS)
def law(request):
    return request.param


def total(law, p, c0):
    """Of an effect that a concentration has, which falls from c0."""

    def field(t, y, p):
        return jnp.stack([-p[2] * y[0], law(y[0], p) - 0.5 * y[1]])

    solution = adjoints.ExplicitForward().diffeqsolve(
        diffrax.ODETerm(field),
        diffrax.Tsit5(),
        0.0,
        5.0,
        None,
        jnp.stack([c0, 1.0]),
        p,
        saveat=diffrax.SaveAt(ts=jnp.arange(6.0)),
        stepsize_controller=diffrax.PIDController(rtol=1e-8, atol=1e-10),
        throw=False,
    )
    return jnp.sum(solution.ys)


P = jnp.array([1.3, 0.7, 0.4])


def test_what_stays_at_zero_has_gradients(law):
    """They are 0: the effect is that of no concentration, whatever the parameters."""
    gradient = jax.jit(jax.grad(lambda p: total(law, p, 0.0)))(P)
    np.testing.assert_array_equal(gradient, 0.0)


def test_elsewhere_nothing_changes(law):
    value = jax.jit(lambda p, c0: total(law, p, c0))
    gradient = jax.jit(jax.grad(lambda p, c0: total(law, p, c0), argnums=(0, 1)))(P, 2.0)
    h = 1e-5
    steps = [(value(P + h * e, 2.0) - value(P - h * e, 2.0)) / (2 * h) for e in jnp.eye(3)]
    np.testing.assert_allclose(gradient[0], steps, rtol=1e-5, atol=1e-7)
    by_start = (value(P, 2.0 + h) - value(P, 2.0 - h)) / (2 * h)
    np.testing.assert_allclose(gradient[1], by_start, rtol=1e-4)


def test_what_moves_from_zero_has_none(law):
    """The derivative by the initial concentration is infinite at 0, and no number passes for it."""
    assert not np.isfinite(jax.jit(jax.grad(lambda c0: total(law, P, c0)))(0.0))
