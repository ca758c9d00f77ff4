"""Contract of every shipped system."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import jax
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
    """Draws of the prior, of shape (num, dim)."""

    def draws(keys):
        return jax.vmap(lambda key: ravel_pytree(model.init_position(key))[0])(keys)

    with model.precision():
        return np.array(jax.jit(draws)(jax.random.split(jax.random.key(3), num)))


@every_system
def test_it_says_what_it_is_and_where_it_is_from(cls):
    text = cls.__doc__
    assert text.splitlines()[0].endswith(".")
    assert "https://doi.org/" in text or "simulated" in text
    assert Path(cls.data).is_file()
    sources = (Path(cls.data).parent / "README.md").read_text()
    assert Path(cls.data).name in sources


def served(cls, adjoint):
    """Whether a strategy takes a system's solver."""
    try:
        replace(cls.solve, adjoint=adjoint)
    except odecal.SettingsError:
        return False
    return True


# All strategies on a non-stiff and a stiff system, and some on the others.
SERVED = [
    pytest.param(cls, label, id=f"{name}-{label}")
    for name, cls in SYSTEMS.items()
    for label, adjoint in ADJOINTS.items()
    if served(cls, adjoint) and (label in SOME or name in ("LotkaVolterra", "Robertson"))
]
REFERENCES = ("recursive_checkpoint", "explicit_forward", "forward")
PRIOR = 16  # draws of the prior


def usual(cls):
    """The strategy that is taken where none is asked for."""
    return "explicit_forward" if served(cls, ADJOINTS["explicit_forward"]) else "forward"


@cache
def gradient_of(cls, label):
    """Values and gradients at positions, one or many, with both tolerances times a factor.

    One program alone, and one in a batch, serve all tests.
    """
    usually = label == usual(cls)
    max_steps = 4096 if label in REFERENCES else 1024
    model = compiled(cls, adjoint=ADJOINTS[label], max_steps=max_steps)

    def value_and_grad_at(x, factor):
        return value_and_grad(replace(model, solve=model.solve.scaled(factor)))(x)

    alone = jax.jit(value_and_grad_at)
    batch = jax.jit(jax.vmap(alone))

    def evaluated(at, factor):
        with model.precision():
            if at.ndim == 1:
                return jax.device_get(alone(at, factor))
            rows = np.resize(np.arange(len(at)), PRIOR + 1 if usually else len(at))
            values, gradients = batch(at[rows], factor[rows])
            return np.asarray(values)[: len(at)], np.asarray(gradients)[: len(at)]

    return evaluated, positions(model, PRIOR)


@every_system
def test_the_log_density_is_finite_over_the_prior_and_not_where_parameters_overflow(cls):
    gradient, at = gradient_of(cls, usual(cls))
    values, gradients = gradient(np.append(at, np.full_like(at[:1], 800.0), 0), np.ones(PRIOR + 1))
    assert np.isfinite(values[:PRIOR]).all()
    assert np.isfinite(gradients[:PRIOR]).all()
    assert np.isneginf(values[PRIOR])
    np.testing.assert_array_equal(gradients[PRIOR], 0.0)


def reference(cls, label):
    """Gradients at rtol 1e-11, by another strategy."""
    other = next(r for r in REFERENCES if r != label and served(cls, ADJOINTS[r]))
    gradient, at = gradient_of(cls, other)
    return np.stack([gradient(x, 1e-5)[1] for x in at[:3]])


@pytest.mark.parametrize(("cls", "label"), SERVED)
def test_gradients_are_right_to_four_digits(cls, label):
    """At rtol 1e-8 against rtol 1e-11 and another strategy; by itself and in a batch.

    Where no number of steps meets the tolerance, there is no density and no gradient; and in a
    batch, no effect on the others.
    """
    assert cls.solve.rtol == 1e-6
    expected = reference(cls, label)
    gradient, at = gradient_of(cls, label)
    at, factors = at[[0, 1, 2, 0]], np.array([1e-2, 1e-2, 1e-2, 1e-32])
    alone = [np.stack(x) for x in zip(*map(gradient, at, factors), strict=True)]
    for values, gradients in (alone, gradient(at, factors)):
        error = np.linalg.norm(gradients[:3] - expected, axis=1)
        assert np.max(error / np.linalg.norm(expected, axis=1)) < 1e-4
        assert np.isfinite(values[:3]).all()
        assert np.isneginf(values[3])
        np.testing.assert_array_equal(gradients[3], 0.0)


def test_backsolve_is_refused_on_the_stiff_system():
    with pytest.raises(odecal.SettingsError, match=r"Kvaerno5.*stiff.*Gauss\(\)"):
        compiled(systems.Robertson, adjoint=adjoints.Backsolve())
