"""Where chains start: modes found, grouped, and told of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from odecal.systems import ExponentialDecay, LotkaVolterra
from scipy import stats

import odecal
from odecal._inference.multistart import NUM_CANDIDATES, MultiStart, prior_scale
from odecal._jax.keys import key_data_of, run_keys
from odecal._jax.programs import Compiler
from odecal._model.flat import flatten
from odecal.samplers import Target

# The best and the second mode of the Hudson Bay posterior.
BEST, SECOND = -132.6039, -172.467


@pytest.fixture(scope="module")
def hudson_bay():
    """A finder of the modes of the Hudson Bay posterior, and the prior's draws of a seed."""
    model = odecal.compile(LotkaVolterra(), LotkaVolterra.data)
    with model.precision(), Compiler() as compiler:
        flat = flatten(model).target
        finder = MultiStart(flat, compiler)
        draw = jax.jit(jax.vmap(flat.sample_prior))

    def find(seed, num_chains=4):
        with model.precision():
            key_draws, key = jax.random.split(jax.random.key(seed))
            candidates = draw(jax.random.split(key_draws, NUM_CANDIDATES))
            return finder(np.asarray(candidates), key_data_of(key), num_chains)

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
        found = MultiStart(flat, compiler)(candidates, run_keys(1).starts, 6)
    assert len(found.modes) == 2
    np.testing.assert_allclose(np.sort(found.modes[:, 0]), [-5.0, 5.0], atol=1e-2)
    # The masses are those of Gaussians of unit covariance.
    np.testing.assert_allclose(
        found.mode_log_masses, np.log(2 * np.pi) - np.array([0.0, gap]), atol=0.01
    )
    assert set(found.chain_modes) == modes


def search(density, sample, dim, num_chains=8, first=None):
    """The modes of a density, from draws of a prior, of which the first may be given."""
    with jax.enable_x64(True), Compiler() as compiler:
        candidates = np.array(jax.vmap(sample)(jax.random.split(jax.random.key(0), NUM_CANDIDATES)))
        if first is not None:
            candidates[: len(first)] = first
        flat = Target(dim, density, density, sample)
        return MultiStart(flat, compiler)(candidates, run_keys(0).starts, num_chains)


def normal(x, mean, sd):
    return -0.5 * ((x - mean) / sd) ** 2 - jnp.log(sd) - 0.5 * np.log(2 * np.pi)


@pytest.mark.parametrize(("mean", "sd"), [(300.0, 60.0), (5e-9, 1e-9), (5e6, 1e6), (1.7e9, 3600.0)])
def test_the_mass_of_a_linear_gaussian_model_is_its_evidence(mean, sd):
    """Two correlated parameters, one of an awkward scale; the evidence in closed form."""
    design, error = np.array([[1.0, 1.0], [1.0, 2.0], [1.0, 3.0]]), 0.05 * sd
    data = design @ np.array([mean + 0.3 * sd, -0.2 * sd]) + error * np.array([0.5, -1.0, 0.2])

    def density(x):
        line = x[0] + jnp.array([1.0, 2.0, 3.0]) * x[1]
        return normal(x[0], mean, sd) + normal(x[1], 0.0, sd) + normal(data, line, error).sum()

    def sample(key):
        return jnp.array([mean, 0.0]) + sd * jax.random.normal(key, (2,))

    found = search(density, sample, 2)
    residual = data - design @ np.array([mean, 0.0])
    covariance = error**2 * np.eye(3) + sd**2 * design @ design.T
    evidence = stats.multivariate_normal(np.zeros(3), covariance).logpdf(residual)
    assert len(found.modes) == 1
    assert (found.end_modes == 0).all()
    assert found.mode_log_masses[0] == pytest.approx(evidence, abs=0.05)
    posterior = np.linalg.inv(np.eye(2) / sd**2 + design.T @ design / error**2)
    np.testing.assert_allclose(found.starts.covariance[0], posterior, rtol=1e-3)


@pytest.mark.parametrize("scale", [1e-6, 300.0, 1e6])
def test_a_wide_mode_outweighs_a_narrow_one_that_is_higher(scale):
    """The wide one is 12 nats lower, and holds 0.999994 of the mass."""

    def density(x):
        z = x / scale
        narrow = -0.5 * jnp.sum(((z - 2.5) * 3000.0) ** 2)
        return jnp.logaddexp(-12 - 0.5 * jnp.sum(z**2), narrow)

    near = scale * (2.5 + 1e-4 * np.random.default_rng(0).standard_normal((3, 3)))
    found = search(density, lambda key: scale * jax.random.normal(key, (3,)), 3, first=near)
    np.testing.assert_allclose(found.mode_logdensities, [0.0, -12.0], atol=1e-3)
    expected = 1.5 * np.log(2 * np.pi) + 3 * np.log(scale / np.array([3000.0, 1.0]))
    np.testing.assert_allclose(found.mode_log_masses, expected - np.array([0.0, 12.0]), atol=0.05)
    assert (found.chain_modes == 1).all()


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_of_two_equal_modes_each_gets_half_of_the_chains(scale):
    def density(x):
        return jnp.logaddexp(normal(x[0] / scale, -1.0, 0.05), normal(x[0] / scale, 1.0, 0.05))

    found = search(density, lambda key: scale * jax.random.normal(key, (1,)), 1)
    np.testing.assert_allclose(np.sort(found.modes[:, 0]), [-scale, scale], rtol=1e-4)
    np.testing.assert_allclose(found.mode_log_masses, np.log(scale), atol=0.05)
    assert np.bincount(found.chain_modes).tolist() == [4, 4]


@pytest.mark.parametrize("scales", [(1e-6, 1e6), (60.0, 1e-9)])
def test_a_correlation_of_nearly_one_is_one_mode(scales):
    unit = np.linalg.inv(np.array([[1.0, 0.9999], [0.9999, 1.0]])).tolist()

    def density(x):
        z = x / jnp.array(scales)
        return -0.5 * z @ jnp.array(unit) @ z

    found = search(density, lambda key: 3 * jnp.array(scales) * jax.random.normal(key, (2,)), 2)
    mass = np.log(2 * np.pi) + np.log(scales).sum() + 0.5 * np.log(1 - 0.9999**2)
    assert found.mode_log_masses == pytest.approx([mass], abs=0.05)
    assert (found.end_modes == 0).all()


def banana(x):
    return normal(x[0], 0.0, 10.0) + normal(x[1], 0.03 * x[0] ** 2 - 3.0, 0.1)


def ridge(x):
    return normal(x, 0.0, 10.0).sum() + normal(1.0, x[0] + x[1], 1e-3)


def unidentified(x):
    return normal(x, 0.0, 10.0).sum() + normal(2.0, x[1], 0.1)


def far(x):
    return -jnp.log1p((x / 10.0) ** 2).sum() + normal(5e5, x[0], 100.0)


@pytest.mark.parametrize("density", [banana, ridge, unidentified, far])
def test_one_mode_is_one(density):
    """Curved, sharp, flat as the prior, and fifty thousand scales of it away."""
    found = search(density, lambda key: 10 * jax.random.normal(key, (2,)), 2)
    assert len(found.modes) == 1
    assert (found.end_modes >= 0).sum() > 12
    if density is unidentified:
        np.testing.assert_allclose(np.diag(found.starts.covariance[0]), [100.0, 0.01], rtol=0.01)


def test_scales_of_a_prior_are_robust():
    random = np.random.default_rng(0)
    columns = (
        300.0 + 60.0 * random.standard_normal(4000),
        1e-9 * random.standard_cauchy(4000),
        np.full(4000, 5.0),
        np.zeros(4000),
        np.where(np.arange(4000) % 5, 2.0, 2.0 + random.standard_normal(4000)),
        np.where(np.arange(4000) % 100, random.standard_normal(4000), np.inf),
    )
    found = prior_scale(np.stack(columns, axis=1))
    expected = [60.0, 2e-9 / 1.349, 5.0 * 2.0**-26, 1.0, np.sqrt(0.2), 1.0]
    np.testing.assert_allclose(found, expected, rtol=0.1)


def test_a_few_draws_that_can_be_solved_are_looked_for():
    def density(x):
        return jnp.where(x[0] > 2.2, normal(x[0], 2.3, 0.01), -jnp.inf)

    found = search(density, lambda key: jax.random.normal(key, (1,)), 1)
    assert 64 < found.num_failed < NUM_CANDIDATES
    np.testing.assert_allclose(found.modes, [[2.3]], atol=1e-4)


def test_candidates_that_fail_are_replaced_and_counted():
    def density(x):
        return jax.numpy.where(x[0] > 0, -0.5 * jax.numpy.sum((x - 1.0) ** 2), -jax.numpy.inf)

    candidates = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
    with Compiler() as compiler:
        flat = Target(2, density, density, lambda key: jax.random.normal(key, (2,)))
        found = MultiStart(flat, compiler)(candidates, run_keys(1).starts, 3)
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
    with pytest.raises(odecal.SamplingError, match=r"None of 512 draws.*raise max_steps"):
        odecal.find_starts(model, jax.random.key(0), num_chains=2)
