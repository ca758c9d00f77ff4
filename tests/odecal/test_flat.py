"""The flat log density that samplers and optimisers see."""

from dataclasses import replace

import diffrax
import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from odecal.systems import ExponentialDecay, LotkaVolterra

import odecal
from odecal import adjoints
from odecal._flat import flatten
from odecal._start import disperse

ADJOINTS = [adjoints.Forward(), adjoints.RecursiveCheckpoint(), diffrax.ForwardMode()]


@pytest.mark.parametrize("adjoint", ADJOINTS, ids=lambda adjoint: type(adjoint).__name__)
def test_value_and_gradient_are_those_of_the_model(adjoint):
    model = odecal.compile(ExponentialDecay(), ExponentialDecay.data)
    other = replace(model, solve=replace(model.solve, adjoint=adjoint))
    with model.precision():
        position = model.init_position(jax.random.key(1))
        value, gradient = jax.value_and_grad(model.logdensity_fn)(position)
        flat = flatten(other)
        got, slope = jax.jit(jax.value_and_grad(flat.logdensity_fn))(ravel_pytree(position)[0])
        expected = np.asarray(ravel_pytree(gradient)[0])
    np.testing.assert_allclose(got, value, rtol=1e-12)
    np.testing.assert_allclose(slope, expected, rtol=1e-9)


def test_the_model_is_traced_once_however_many_programs_are_built(monkeypatch):
    """Twice, in fact: once for the value and once for the gradient."""
    model = odecal.compile(ExponentialDecay(), ExponentialDecay.data)
    calls = []
    predict = odecal.Model.predict
    monkeypatch.setattr(
        odecal.Model, "predict", lambda self, values: calls.append(1) or predict(self, values)
    )
    with model.precision():
        flat = flatten(model)
        starts = disperse(flat, jax.random.key(0), 2).positions
        jax.jit(jax.vmap(jax.grad(flat.logdensity_fn)))(starts)
    assert len(calls) == 2


def test_chains_start_apart_and_near_the_best_mode():
    """Of the modes of the Hudson Bay posterior the second is 40 nats lower."""
    model = odecal.compile(LotkaVolterra(), LotkaVolterra.data)
    with model.precision():
        flat = flatten(model)
        starts = disperse(flat, jax.random.key(5), 16)
        density = np.asarray(jax.vmap(flat.logdensity_fn)(starts.positions))
    best = starts.logdensities[0]
    assert (np.diff(starts.logdensities) <= 1e-9).all()
    assert best == pytest.approx(-132.6039, abs=1e-3)
    assert density.min() > best - 2.0 * flat.dim - 5.0
    # Spread over the posterior: R-hat from a single point would be falsely clean.
    assert np.asarray(starts.positions).std(axis=0).min() > 0.02


def test_find_starts_names_the_sites():
    model = odecal.compile(ExponentialDecay(), ExponentialDecay.data)
    starts = odecal.find_starts(model, jax.random.key(0), num_chains=3)
    assert {name: x.shape for name, x in starts.items()} == {"k": (3,), "sigma": (3,), "y0": (3,)}


def test_nowhere_to_start_is_said():
    system = ExponentialDecay()
    model = odecal.compile(system, system.data, odecal.Solve(max_steps=2))
    with pytest.raises(odecal.SamplingError, match=r"None of 64 draws.*raise max_steps"):
        odecal.find_starts(model, jax.random.key(0), num_chains=2)
