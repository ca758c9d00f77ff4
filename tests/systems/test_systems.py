"""Contract of every shipped system."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import odecal
from odecal import adjoints, systems

SYSTEMS = {name: getattr(systems, name) for name in systems.__all__}
ADJOINTS = {
    "explicit_forward": adjoints.ExplicitForward(),
    "explicit_reverse": adjoints.ExplicitReverse(),
    "forward": adjoints.Forward(),
    "forward_sensitivity": adjoints.ForwardSensitivity(),
    "recursive_checkpoint": adjoints.RecursiveCheckpoint(),
    "interpolating": adjoints.Interpolating(),
    "gauss": adjoints.Gauss(),
    "quadrature": adjoints.Quadrature(),
    "backsolve": adjoints.Backsolve(),
    "direct": adjoints.Direct(),
}
SOME = ("explicit_forward", "explicit_reverse", "recursive_checkpoint")
every_system = pytest.mark.parametrize("cls", SYSTEMS.values(), ids=SYSTEMS)


def compiled(cls, **settings):
    model = odecal.compile(cls(), cls.data)
    return replace(model, solve=replace(model.solve, **settings))


def value_and_grad(model):
    _, unravel = ravel_pytree(model.init_position(jax.random.key(0)))
    return jax.value_and_grad(lambda x: model.logdensity_fn(unravel(x)))


def positions(model, num):
    keys = jax.random.split(jax.random.key(3), num)
    return jax.vmap(lambda key: ravel_pytree(model.init_position(key))[0])(keys)


@every_system
def test_it_says_what_it_is_and_where_it_is_from(cls):
    text = cls.__doc__
    assert text.splitlines()[0].endswith(".")
    assert "https://doi.org/" in text or "simulated" in text
    assert Path(cls.data).is_file()
    sources = (Path(cls.data).parent / "README.md").read_text()
    assert Path(cls.data).name in sources


@every_system
def test_the_log_density_is_finite_over_the_prior(cls):
    model = compiled(cls)
    with model.precision():
        values, gradients = jax.jit(jax.vmap(value_and_grad(model)))(positions(model, 16))
    assert np.isfinite(values).all()
    assert np.isfinite(gradients).all()


def served(cls, adjoint):
    """Whether a strategy takes a system's solver."""
    try:
        replace(cls.solve, adjoint=adjoint)
    except odecal.SettingsError:
        return False
    return True


# All strategies on a non-stiff and a stiff system, and some on the others.
SERVED = [
    pytest.param(cls, adjoint, id=f"{name}-{label}")
    for name, cls in SYSTEMS.items()
    for label, adjoint in ADJOINTS.items()
    if served(cls, adjoint) and (label in SOME or name in ("LotkaVolterra", "Robertson"))
]


@cache
def tight_gradients(cls, strategy):
    """At rtol 1e-11, at three positions."""
    atol = 1e-4 * (cls.solve.atol or 1e-8)
    model = compiled(cls, rtol=1e-11, atol=atol, adjoint=strategy(), max_steps=8192)
    with model.precision():
        gradient = jax.jit(value_and_grad(model))
        return np.stack([gradient(x)[1] for x in positions(model, 3)])


@pytest.mark.parametrize(("cls", "adjoint"), SERVED)
def test_gradients_are_right_to_four_digits(cls, adjoint):
    """At rtol 1e-8 against rtol 1e-11 and another strategy; by itself and in a batch."""
    atol = cls.solve.atol or 1e-8
    loose = compiled(cls, rtol=1e-8, atol=1e-2 * atol, adjoint=adjoint, max_steps=1024)
    forward = isinstance(adjoint, adjoints.Forward)
    expected = tight_gradients(cls, adjoints.RecursiveCheckpoint if forward else adjoints.Forward)
    with loose.precision():
        at = positions(loose, 3)
        gradient = jax.jit(value_and_grad(loose))
        alone = np.stack([gradient(x)[1] for x in at])
        batch = np.asarray(jax.jit(jax.vmap(gradient))(at)[1])
    scale = np.linalg.norm(expected, axis=1)
    assert np.max(np.linalg.norm(alone - expected, axis=1) / scale) < 1e-4
    assert np.max(np.linalg.norm(batch - expected, axis=1) / scale) < 1e-4


def test_backsolve_is_refused_on_the_stiff_system():
    with pytest.raises(odecal.SettingsError, match=r"Kvaerno5.*stiff.*Gauss\(\)"):
        compiled(systems.Robertson, adjoint=adjoints.Backsolve())


@pytest.mark.parametrize(("cls", "adjoint"), SERVED)
def test_a_failed_solve_has_no_density_and_no_gradient(cls, adjoint):
    model = compiled(cls, adjoint=adjoint, max_steps=3)
    with model.precision():
        at = positions(model, 2)
        value, gradient = jax.jit(jax.vmap(value_and_grad(model)))(at)
    assert np.isneginf(value).all()
    np.testing.assert_array_equal(gradient, 0.0)


@every_system
def test_overflowing_parameters_have_no_density(cls):
    model = compiled(cls)
    with model.precision():
        at = jnp.full_like(positions(model, 1)[0], 800.0)
        value, gradient = jax.jit(value_and_grad(model))(at)
    assert np.isneginf(value)
    np.testing.assert_array_equal(gradient, 0.0)
