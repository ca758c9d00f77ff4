"""Where chains start: modes found, grouped, and told of."""

import jax
import numpy as np
import pytest
from odecal.systems import ExponentialDecay, LotkaVolterra

import odecal
from odecal._flat import flatten
from odecal._programs import Compiler
from odecal._start import NUM_CANDIDATES, StartFinder
from odecal._streams import streams, words_of
from odecal.samplers import Target

# The best and the second mode of the Hudson Bay posterior.
BEST, SECOND = -132.6039, -172.467


@pytest.fixture(scope="module")
def hudson_bay():
    """A finder of the modes of the Hudson Bay posterior, and the prior's draws of a seed."""
    model = odecal.compile(LotkaVolterra(), LotkaVolterra.data)
    with model.precision(), Compiler() as compiler:
        flat = flatten(model)
        finder = StartFinder(flat, compiler)
        draw = jax.jit(jax.vmap(flat.sample_prior))

    def find(seed, num_chains=4):
        with model.precision():
            key_draws, key = jax.random.split(jax.random.key(seed))
            candidates = draw(jax.random.split(key_draws, NUM_CANDIDATES))
            return finder(np.asarray(candidates), words_of(key), num_chains)

    return find, model, flat


def test_chains_start_apart_and_near_the_best_mode(hudson_bay):
    find, model, flat = hudson_bay
    found = find(5, num_chains=16)
    with model.precision():
        density = np.asarray(jax.vmap(flat.logdensity_fn)(found.starts.position))
    np.testing.assert_allclose(found.starts.logdensity, density, rtol=1e-9)
    assert (np.diff(found.mode_logdensities) <= 1e-9).all()
    assert found.mode_logdensities[0] == pytest.approx(BEST, abs=1e-3)
    assert density.min() > BEST - 2.0 * flat.dim - 5.0
    # Spread over the posterior: R-hat from a single point would be falsely clean.
    assert found.starts.position.std(axis=0).min() > 0.02


def test_the_modes_are_told_apart(hudson_bay):
    """Over a few seeds, both modes are met, and all ends in one are one mode."""
    find, _, _ = hudson_bay
    for seed in range(3):
        found = find(seed)
        assert found.mode_logdensities[0] == pytest.approx(BEST, abs=1e-3)
        if len(found.mode_logdensities) > 1:
            assert found.mode_logdensities[1] < BEST - 30
        ends = found.end_logdensities[found.end_modes == 0]
        assert (ends > BEST - 1.0).all()
        assert (found.chain_modes == 0).all()
        assert found.num_failed == 0


@pytest.mark.slow
def test_no_chain_of_200_seeds_starts_in_a_far_mode(hudson_bay):
    find, _, flat = hudson_bay
    for seed in range(200):
        found = find(seed)
        assert found.starts.logdensity.min() > BEST - 2.0 * flat.dim - 5.0, seed


def two_modes(gap):
    """Two unit Gaussians ten apart, the log mass of the right one lower by a gap."""

    def density(x):
        left = -0.5 * (x[0] + 5.0) ** 2
        right = -gap - 0.5 * (x[0] - 5.0) ** 2
        return jax.numpy.logaddexp(left, right) - 0.5 * x[1] ** 2

    return density


@pytest.mark.parametrize(("gap", "modes"), [(1.0, {0, 1}), (9.0, {0})])
def test_chains_start_in_every_mode_of_a_mass_that_matters(gap, modes):
    density = two_modes(gap)
    with jax.enable_x64(True), Compiler() as compiler:
        flat = Target(2, density, density, lambda key: 4 * jax.random.normal(key, (2,)))
        candidates = np.asarray(
            jax.vmap(flat.sample_prior)(jax.random.split(jax.random.key(0), 64))
        )
        found = StartFinder(flat, compiler)(candidates, streams(1).starts, 6)
    assert len(found.modes) == 2
    np.testing.assert_allclose(np.sort(found.modes[:, 0]), [-5.0, 5.0], atol=1e-2)
    # The masses are those of Gaussians of unit covariance.
    np.testing.assert_allclose(
        found.mode_log_masses, np.log(2 * np.pi) - np.array([0.0, gap]), atol=0.3
    )
    assert set(found.chain_modes) == modes


def test_candidates_that_fail_are_replaced_and_counted():
    def density(x):
        return jax.numpy.where(x[0] > 0, -0.5 * jax.numpy.sum((x - 1.0) ** 2), -jax.numpy.inf)

    candidates = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
    with Compiler() as compiler:
        flat = Target(2, density, density, lambda key: jax.random.normal(key, (2,)))
        found = StartFinder(flat, compiler)(candidates, streams(1).starts, 3)
    assert found.num_failed == (candidates[:, 0] <= 0).sum() > 10
    assert np.isfinite(found.end_logdensities).all()
    assert np.isfinite(found.starts.logdensity).all()


def test_find_starts_names_the_sites():
    model = odecal.compile(ExponentialDecay(), ExponentialDecay.data)
    starts = odecal.find_starts(model, jax.random.key(0), num_chains=3)
    assert {name: x.shape for name, x in starts.items()} == {"k": (3,), "sigma": (3,), "y0": (3,)}


def test_nowhere_to_start_is_said():
    system = ExponentialDecay()
    model = odecal.compile(system, system.data, odecal.Solve(max_steps=2))
    with pytest.raises(odecal.SamplingError, match=r"None of 64 draws.*raise max_steps"):
        odecal.find_starts(model, jax.random.key(0), num_chains=2)
