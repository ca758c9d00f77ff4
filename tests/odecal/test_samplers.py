"""Contract of every sampler, and of the engine that runs it."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from odecal import samplers
from odecal._engine import run_chains
from odecal._errors import SettingsError
from odecal._progress import Progress
from odecal._trace import trace_scalar

SAMPLERS = {
    name: cls
    for name in samplers.__all__
    if inspect.isclass(cls := getattr(samplers, name))
    and issubclass(cls, samplers.AbstractSampler)
    and not inspect.isabstract(cls)
}
every_sampler = pytest.mark.parametrize("cls", SAMPLERS.values(), ids=SAMPLERS)

MEAN = np.array([1.0, -2.0, 0.5])
COVARIANCE = np.array([[4.0, 1.2, 0.0], [1.2, 1.0, -0.3], [0.0, -0.3, 0.25]])
PRECISION = np.linalg.inv(COVARIANCE)


def gaussian(x):
    # Made anew: JAX 0.12 keeps a NumPy constant in the precision of the first trace that met it.
    mean, precision = jnp.array(MEAN.tolist()), jnp.array(PRECISION.tolist())
    return -0.5 * (x - mean) @ precision @ (x - mean)


def walled(x):
    """A standard Gaussian that ends at 1, as a failed solve would end it."""
    return jnp.where(x[0] < 1.0, -0.5 * x[0] ** 2, -jnp.inf)


def run(cls, logdensity_fn, dim, num_chains=4, num_warmup=500, num_samples=1000, seed=0, **kwargs):
    starts = jnp.zeros((num_chains, dim))
    return run_chains(
        trace_scalar(logdensity_fn, starts[0]),
        cls(**kwargs),
        starts,
        jax.random.key(seed),
        num_warmup=num_warmup,
        num_samples=num_samples,
        progress=Progress(),
    )


@every_sampler
@pytest.mark.parametrize("dense_mass", [True, False])
def test_the_moments_of_a_correlated_gaussian(cls, dense_mass):
    """Means within 4.5 standard errors, 3 of them: a sound sampler fails once in 50,000 times."""
    import arviz_stats
    import xarray as xr

    with jax.enable_x64(True):
        chains = run(cls, gaussian, 3, dense_mass=dense_mass)
    draws = xr.Dataset({"x": (("chain", "draw", "i"), chains.positions)})
    ess = arviz_stats.ess(draws).x.values
    assert ess.min() > 300
    assert arviz_stats.rhat(draws).x.values.max() < 1.02
    flat = chains.positions.reshape(-1, 3)
    errors = np.sqrt(np.diag(COVARIANCE) / ess)
    np.testing.assert_array_less(np.abs(flat.mean(0) - MEAN), 4.5 * errors)
    # The relative error of an sd has standard error 1 / sqrt(2 ess): 4.5 of them.
    relative = flat.std(0) / np.sqrt(np.diag(COVARIANCE)) - 1
    np.testing.assert_array_less(np.abs(relative), 4.5 / np.sqrt(2 * ess))
    correlation = np.corrcoef(flat.T)[0, 1]
    assert abs(correlation - 0.6) < 4.5 * (1 - 0.6**2) / np.sqrt(ess.min())


@every_sampler
def test_every_statistic_is_there(cls):
    chains = run(cls, gaussian, 3, num_chains=2, num_warmup=20, num_samples=30)
    expected = {
        "lp",
        "energy",
        "acceptance_rate",
        "step_size",
        "n_steps",
        "tree_depth",
        "diverging",
        "failed_solves",
    }
    assert set(chains.stats) == expected
    assert {x.shape for x in chains.stats.values()} == {(2, 30)}
    assert {x.shape for x in chains.warmup_stats.values()} == {(2, 20)}
    density = jax.vmap(jax.vmap(gaussian))(chains.positions)
    np.testing.assert_allclose(chains.stats["lp"], density, rtol=1e-4, atol=1e-4)
    depth = np.floor(np.log2(chains.stats["n_steps"])) + 1
    assert (chains.stats["tree_depth"] >= depth - 1).all()
    assert np.ptp(chains.stats["step_size"][0]) == 0.0
    assert chains.stats["energy"].min() >= -chains.stats["lp"].max() - 1e-3


@every_sampler
def test_failed_solves_are_counted_and_never_kept(cls):
    """A trajectory that meets a wall of log density −inf diverges there, and is counted."""
    with jax.enable_x64(True):
        chains = run(cls, walled, 1, num_chains=2, num_warmup=200, num_samples=500)
    diverging, failed = chains.stats["diverging"], chains.stats["failed_solves"]
    assert failed.sum() > 10
    np.testing.assert_array_equal(failed, diverging.astype(int))
    assert chains.positions.max() < 1.0
    assert np.isfinite(chains.stats["lp"]).all()


@every_sampler
def test_divergences_of_another_kind_are_not_failed_solves(cls):
    """A needle so narrow that the first, long steps diverge, with a finite density everywhere."""
    chains = run(
        cls,
        lambda x: -0.5 * jnp.sum((x / 1e-4) ** 2),
        2,
        num_chains=1,
        num_warmup=30,
        num_samples=1,
    )
    assert chains.warmup_stats["diverging"].sum() > 0
    assert chains.warmup_stats["failed_solves"].sum() == 0


@every_sampler
def test_the_same_key_gives_the_same_draws_however_they_are_cut(cls, monkeypatch):
    first = run(cls, gaussian, 3, num_chains=2, num_warmup=40, num_samples=60)
    monkeypatch.setattr("odecal._engine._BLOCK", 7)
    second = run(cls, gaussian, 3, num_chains=2, num_warmup=40, num_samples=60)
    np.testing.assert_array_equal(first.positions, second.positions)


@every_sampler
@pytest.mark.parametrize("num_chains", [1, 3])
def test_any_number_of_chains_fits_the_devices(cls, num_chains):
    """Chain i depends on its own key alone, not on how many others there are."""
    few = run(cls, gaussian, 3, num_chains=num_chains, num_warmup=20, num_samples=20)
    many = run(cls, gaussian, 3, num_chains=4, num_warmup=20, num_samples=20)
    assert few.positions.shape == (num_chains, 20, 3)
    np.testing.assert_allclose(few.positions, many.positions[:num_chains], rtol=1e-4, atol=1e-5)


@every_sampler
def test_without_warmup_it_still_moves(cls):
    chains = run(cls, gaussian, 3, num_chains=1, num_warmup=0, num_samples=20)
    assert np.ptp(chains.positions[0, :, 0]) > 0.0


@every_sampler
@pytest.mark.parametrize(
    ("setting", "value"), [("target_acceptance_rate", 1.0), ("max_tree_depth", 0)]
)
def test_settings_that_cannot_work_are_refused(cls, setting, value):
    with pytest.raises(SettingsError, match=rf"{setting}.*Got {value}"):
        cls(**{setting: value})
