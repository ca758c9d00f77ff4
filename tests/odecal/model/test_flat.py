"""The flat log density that samplers and optimisers see."""

from dataclasses import replace

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from odecal.systems import ExponentialDecay

import odecal
from odecal import adjoints
from odecal._model.flat import flatten

ADJOINTS = [adjoints.Direct(), adjoints.RecursiveCheckpoint(), diffrax.ForwardMode()]


@pytest.fixture(scope="module")
def model():
    # Direct, and those below, take Diffrax's steps; the default chooses its own first one.
    solve = odecal.Solve(adjoint=adjoints.Direct(), max_steps=64)
    return odecal.compile(ExponentialDecay(), ExponentialDecay.data, solve=solve)


@pytest.fixture(scope="module")
def expected(model):
    """A position, and the model's log density and gradient there."""
    with model.precision():
        position = model.init_position(jax.random.key(1))
        return position, *jax.jit(jax.value_and_grad(model.logdensity_fn))(position)


@pytest.mark.parametrize("adjoint", ADJOINTS, ids=lambda adjoint: type(adjoint).__name__)
def test_value_and_gradient_are_those_of_the_model(adjoint, model, expected):
    other = replace(model, solve=replace(model.solve, adjoint=adjoint))
    position, value, gradient = expected
    with model.precision():
        flat = flatten(other)
        got, slope = jax.jit(jax.value_and_grad(flat.target.logdensity_fn))(
            ravel_pytree(position)[0]
        )
        expected = np.asarray(ravel_pytree(gradient)[0])
    np.testing.assert_allclose(got, value, rtol=1e-12)
    np.testing.assert_allclose(slope, expected, rtol=1e-9)


def test_the_prior_is_a_part_of_the_density():
    model = odecal.compile(ExponentialDecay(), ExponentialDecay.data)
    with model.precision():
        flat = flatten(model)
        x = flat.target.sample_prior(jax.random.key(2))
        values = model.constrain(flat.unravel(x))
        likelihood = sum(v.sum() for v in model.log_likelihood(model.predict(values)).values())
        np.testing.assert_allclose(
            flat.target.logdensity_fn(x), flat.target.logprior_fn(x) + likelihood, rtol=1e-10
        )


def test_every_dimension_has_a_name():
    model = odecal.compile(ExponentialDecay(), ExponentialDecay.data)
    with model.precision():
        flat = flatten(model)
        unravelled = flat.unravel(jnp.arange(3.0))
    assert {flat.names[int(i)]: name for name, i in unravelled.items()} == {
        name: name for name in ("k", "sigma", "y0")
    }
