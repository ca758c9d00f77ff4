"""Powers and roots of what stays at zero have gradients, and what is infinite shows."""

import functools

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


def total(law, p):
    """Of an effect that a concentration has, which falls from p[3]."""

    def field(t, y, p):
        return jnp.stack([-p[2] * y[0], law(y[0], p) - 0.5 * y[1]])

    solution = adjoints.ExplicitForward().diffeqsolve(
        diffrax.ODETerm(field),
        diffrax.Tsit5(),
        0.0,
        5.0,
        None,
        jnp.stack([p[3], 1.0]),
        p,
        saveat=diffrax.SaveAt(ts=jnp.arange(6.0)),
        stepsize_controller=diffrax.PIDController(rtol=1e-8, atol=1e-10),
        throw=False,
    )
    return jnp.sum(solution.ys)


@functools.cache
def program(law):
    return jax.jit(jax.value_and_grad(functools.partial(total, LAWS[law])))


every_law = pytest.mark.parametrize("law", LAWS)
AT_ZERO = np.array([1.3, 0.7, 0.4, 0.0])
ELSEWHERE = np.array([1.3, 0.7, 0.4, 2.0])


@every_law
def test_what_stays_at_zero_has_gradients(law):
    """They are 0: the effect is that of no concentration, whatever the parameters."""
    np.testing.assert_array_equal(program(law)(AT_ZERO)[1][:3], 0.0)


@every_law
def test_elsewhere_nothing_changes(law):
    h = 1e-5
    steps = [
        (program(law)(ELSEWHERE + e)[0] - program(law)(ELSEWHERE - e)[0]) / (2 * h)
        for e in h * np.eye(4)
    ]
    np.testing.assert_allclose(program(law)(ELSEWHERE)[1], steps, rtol=1e-5, atol=1e-7)


@every_law
def test_what_moves_from_zero_has_none(law):
    """The derivative by the initial concentration is infinite at 0, and no number passes for it."""
    assert not np.isfinite(program(law)(AT_ZERO)[1][3])
