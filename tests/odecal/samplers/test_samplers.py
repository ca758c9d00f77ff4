"""Contract of every sampler, and of the engine that runs it."""

import functools
import inspect
from dataclasses import replace

import arviz_stats
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import xarray as xr

from odecal import samplers
from odecal._errors import SettingsError
from odecal._inference.engine import Engine
from odecal._inference.progress import NoProgress
from odecal._jax.keys import run_keys
from odecal._jax.programs import Compiler
from odecal._jax.trace import trace_scalar
from odecal._run.plan import checked_run
from odecal.samplers._warmup import WindowedWarmup

SAMPLERS = {
    name: cls
    for name in samplers.__all__
    if inspect.isclass(cls := getattr(samplers, name))
    and issubclass(cls, samplers.AbstractSampler)
    and not inspect.isabstract(cls)
}
EXACT = {name: cls for name, cls in SAMPLERS.items() if not cls.approximate}
CHAINS = {name: cls for name, cls in EXACT.items() if cls.extendable}
every_sampler = pytest.mark.parametrize("cls", SAMPLERS.values(), ids=SAMPLERS)
every_exact_sampler = pytest.mark.parametrize("cls", EXACT.values(), ids=EXACT)
every_markov_chain = pytest.mark.parametrize("cls", CHAINS.values(), ids=CHAINS)
both_nuts = pytest.mark.parametrize("cls", [samplers.NUTS, samplers.NumPyroNUTS])

MEAN = np.array([1.0, -2.0, 0.5])
COVARIANCE = np.array([[4.0, 1.2, 0.0], [1.2, 1.0, -0.3], [0.0, -0.3, 0.25]])
PRECISION = np.linalg.inv(COVARIANCE)
WALL = MEAN[0] + 2.3 * np.sqrt(COVARIANCE[0, 0])
# The prior of the methods that temper: independent Gaussians of this sd around zero.
PRIOR_SD = 6.0


def gaussian(x):
    # Made anew: JAX 0.12 keeps a NumPy constant in the precision of the first trace that met it.
    mean, precision = jnp.array(MEAN.tolist()), jnp.array(PRECISION.tolist())
    return -0.5 * (x - mean) @ precision @ (x - mean)


def logprior(x):
    return jnp.sum(-0.5 * (x / PRIOR_SD) ** 2 - jnp.log(PRIOR_SD) - 0.5 * jnp.log(2 * jnp.pi))


def walled(x):
    """The Gaussian, which ends where a failed solve would end it, beyond 1 % of its mass."""
    return jnp.where(x[0] < WALL, gaussian(x), -jnp.inf)


def least_chains(cls):
    return 32 if cls.ensemble else 2


def engine(sampler, density, dim, run, compiler, seed=0):
    example = jnp.zeros(dim)
    target = samplers.Target(
        dim,
        trace_scalar(density, example),
        logprior,
        lambda key: PRIOR_SD * jax.random.normal(key, (dim,)),
    )
    if sampler.ensemble:
        sampler.check_run(run)
    return Engine(target, sampler, run, run_keys(seed).chains, compiler)


@functools.cache
def vectorised(density):
    return jax.jit(jax.vmap(jax.value_and_grad(density)))


def starts(density, dim, num_chains, spread=0.3, seed=0):
    dtype = jnp.result_type(float)
    positions = spread * np.random.default_rng(seed).standard_normal((num_chains, dim))
    values, gradients = vectorised(density)(positions.astype(dtype))
    covariance = np.broadcast_to(np.eye(dim), (num_chains, dim, dim))
    parts = (positions, values, gradients, covariance)
    return samplers.Start(*(np.asarray(x, dtype) for x in parts))


def run(sampler, density, dim, num_chains, num_warmup, num_samples, seed=0, spread=0.3):
    size = samplers.Run(num_chains, num_warmup, num_samples)
    with Compiler() as compiler:
        made = engine(sampler, density, dim, size, compiler, seed)
        begun = made.init(starts(density, dim, num_chains, spread))
        chains, complete = made.sample(begun, NoProgress())
    assert complete
    return chains


def assert_moments(positions, mean=MEAN, covariance=COVARIANCE):
    """Means and sds within 4.5 standard errors, 7 of them: a sound sampler fails 5 in 100,000."""
    draws = xr.Dataset({"x": (("chain", "draw", "i"), positions)})
    ess = arviz_stats.ess(draws).x.values
    assert ess.min() > 300
    assert arviz_stats.rhat(draws).x.values.max() < 1.02
    flat, sds = positions.reshape(-1, 3), np.sqrt(np.diag(covariance))
    np.testing.assert_array_less(np.abs(flat.mean(0) - mean), 4.5 * sds / np.sqrt(ess))
    # The relative error of an sd has standard error 1 / sqrt(2 ess), ess that of the squares.
    ess_square = arviz_stats.ess((draws - draws.mean()) ** 2).x.values
    relative = flat.std(0) / sds - 1
    np.testing.assert_array_less(np.abs(relative), 4.5 / np.sqrt(2 * np.minimum(ess, ess_square)))
    wanted, found = covariance[0, 1] / (sds[0] * sds[1]), np.corrcoef(flat.T)[0, 1]
    error = (1 - wanted**2) / np.sqrt(min(ess.min(), ess_square.min()))
    assert abs(found - wanted) < 4.5 * error


@functools.cache
def long_run(cls):
    """Draws beside a wall, in double precision."""
    with jax.enable_x64(True):
        return run(cls(), walled, 3, max(8, least_chains(cls)), 500, 1000)


@every_exact_sampler
def test_the_moments_of_a_correlated_gaussian_beside_a_wall(cls):
    """What meets a wall of log density −inf is counted there, and does not stay."""
    chains = long_run(cls)
    sd = np.sqrt(COVARIANCE[0, 0])
    shift = scipy.stats.truncnorm.mean(-np.inf, (WALL - MEAN[0]) / sd) * COVARIANCE[0] / sd
    shrunk = scipy.stats.truncnorm.var(-np.inf, (WALL - MEAN[0]) / sd) - 1
    along = COVARIANCE[0] / sd
    assert_moments(chains.positions, MEAN + shift, COVARIANCE + shrunk * np.outer(along, along))
    stats = chains.warmup_stats if cls is samplers.TemperedSMC else chains.stats
    # NumPyro does not tell them from other divergences.
    failed = stats["diverging" if cls is samplers.NumPyroNUTS else "failed_solves"]
    assert failed.sum() > 10
    assert stats["diverging"][failed > 0].all()
    assert chains.positions[:, :, 0].max() < WALL
    assert np.isfinite(chains.stats["lp"]).all()


def test_the_evidence_of_a_gaussian_beside_a_wall():
    """Tempered SMC against the closed form, within 4.5 standard errors of eight runs.

    The likelihood is the density over the prior, so the evidence is the density's integral.
    """
    adaptation = long_run(samplers.TemperedSMC).adaptation
    evidence = adaptation["log_evidence"]
    assert (adaptation["inverse_temperature"] == 1.0).all()
    exact = 0.5 * np.linalg.slogdet(2 * np.pi * COVARIANCE)[1] + scipy.stats.norm.logcdf(2.3)
    error = evidence.std(ddof=1) / np.sqrt(len(evidence))
    assert abs(evidence.mean() - exact) < 4.5 * error + 0.02
    assert error < 0.1


def test_the_energy_error_of_hmc_decides_acceptance():
    chains = long_run(samplers.HMC)
    error, rate = chains.stats["energy_error"], chains.stats["acceptance_rate"]
    np.testing.assert_allclose(rate, np.minimum(1.0, np.exp(-error)), rtol=1e-3, atol=1e-3)
    moved = np.any(np.diff(chains.positions, axis=1) != 0, axis=2)
    np.testing.assert_array_equal(moved, chains.stats["accepted"][:, 1:])


METRICS = [
    samplers.DiagonalMetric(),
    samplers.DenseMetric(),
    samplers.ShrunkMetric(),
    samplers.LowRankMetric(max_rank=2),
]
every_metric = pytest.mark.parametrize("metric", METRICS, ids=lambda m: type(m).__name__)


def metric_matrix(chains):
    """The inverse mass matrix of the first chain, whatever its form."""
    adaptation = {name: x[0] for name, x in chains.adaptation.items()}
    if "inverse_mass_matrix" in adaptation:
        matrix = adaptation["inverse_mass_matrix"]
        return np.diag(matrix) if matrix.ndim == 1 else matrix
    scale, directions = adaptation["metric_scale"], adaptation["metric_directions"]
    inner = np.eye(3) + directions @ np.diag(adaptation["metric_eigenvalues"] - 1) @ directions.T
    return scale[:, None] * inner * scale


@every_metric
def test_every_metric_learns_the_covariance_and_gives_the_same_posterior(metric):
    """What warm-up finds is the covariance, or its diagonal, within what 800 draws allow."""
    with jax.enable_x64(True):
        chains = run(samplers.NUTS(metric=metric), gaussian, 3, 4, 1200, 1000)
    assert_moments(chains.positions)
    found = metric_matrix(chains)
    variances = np.diag(COVARIANCE)
    tolerance = 0.3 * np.sqrt(np.outer(variances, variances))
    wanted = np.diag(variances) if isinstance(metric, samplers.DiagonalMetric) else COVARIANCE
    assert (np.abs(found - wanted) < tolerance).all(), found
    trace = chains.adaptation["window_step_size"]
    assert np.isfinite(trace).all()
    assert trace.shape[1] >= 4


@pytest.mark.parametrize("num_warmup", [20, 60, 150, 450, 500, 1000])
@every_metric
def test_every_window_is_kept_whole(metric, num_warmup):
    """Of a window that it cannot hold BlackJAX's low-rank estimate would mistake the mean."""
    warmup = WindowedWarmup(metric, num_warmup, 0.8, 3)
    lengths, length = [], 0
    for inside, ends in zip(warmup.in_slow_window, warmup.ends_window, strict=True):
        length += inside
        if ends:
            lengths.append(int(length))
            length = 0
    assert max(lengths, default=0) > num_warmup / 10
    if isinstance(metric, samplers.LowRankMetric):
        buffer = warmup.init(jnp.eye(3)).estimate.inner.inner.draws_buffer
        assert len(buffer) == max(lengths)


def test_gradients_tell_scales_early():
    """A metric from gradients has scales from 0.01 to 1 by the 60th transition, not the 100th."""
    scales = jnp.logspace(-2, 0, 40)

    def uneven(x):
        return -0.5 * jnp.sum((x / scales) ** 2)

    with jax.enable_x64(True):
        chains = run(
            samplers.NUTS(metric=samplers.LowRankMetric()), uneven, 40, 2, 120, 1, spread=0.001
        )
    n_steps = chains.warmup_stats["n_steps"]
    assert (n_steps[:, :10].mean(1) > 100).all()
    assert (n_steps[:, 60:100].mean(1) < 30).all()


def test_a_shrunk_metric_is_nearly_diagonal_for_few_draws_and_dense_for_many():
    draws = np.random.default_rng(0).multivariate_normal(MEAN, COVARIANCE, 2000)
    correlations = []
    for count in (6, 2000):
        estimator = samplers.ShrunkMetric().estimator(3, 100)
        state = estimator.init(jnp.eye(3))
        for x in draws[:count]:
            state = estimator.update(state, jnp.asarray(x, jnp.float32), jnp.zeros(3))
        matrix = np.asarray(estimator.final(state).inverse_mass_matrix)
        correlations.append(matrix[0, 1] / np.sqrt(matrix[0, 0] * matrix[1, 1]))
    assert abs(correlations[0]) < 0.75 * abs(np.corrcoef(draws[:6].T)[0, 1])
    assert correlations[1] == pytest.approx(0.6, abs=0.05)


@pytest.mark.parametrize("scale", [1e-9, 1e9])
@pytest.mark.parametrize("metric", METRICS[:3], ids=lambda m: type(m).__name__)
def test_a_metric_of_draws_of_another_scale_is_of_that_scale(metric, scale):
    draws = np.random.default_rng(0).multivariate_normal(MEAN, COVARIANCE, 25)

    def estimate(scale):
        estimator = metric.estimator(3, 100)
        state = estimator.init(jnp.asarray(scale**2 * np.eye(3)))
        for x in draws:
            state = estimator.update(state, jnp.asarray(scale * x), jnp.zeros(3))
        return np.asarray(estimator.final(state).inverse_mass_matrix)

    with jax.enable_x64(True):
        np.testing.assert_allclose(estimate(scale), scale**2 * estimate(1.0), rtol=1e-9)


_OWN_UNITS = (samplers.NumPyroNUTS, samplers.Pathfinder)  # which change coordinates themselves


@pytest.mark.parametrize(
    "cls",
    [
        pytest.param(cls, id=name, marks=() if cls in _OWN_UNITS else pytest.mark.slow)
        for name, cls in SAMPLERS.items()
        if cls is not samplers.TemperedSMC  # which starts from the prior
    ],
)
def test_a_sampler_does_the_same_in_other_units(cls):
    """Powers of two, so that rounding is the same, of 1e-9, 1 and 1e9."""
    scales, size = 2.0 ** np.array([-30, 0, 30]), samplers.Run(least_chains(cls), 60, 20)

    def draws(scales):
        made = [float(x) for x in scales]
        with Compiler() as compiler:
            chain = engine(cls(), lambda x: gaussian(x / jnp.array(made)), 3, size, compiler)
            begin = starts(gaussian, 3, size.num_chains)
            there = begin._replace(
                position=begin.position * scales,
                gradient=begin.gradient / scales,
                covariance=begin.covariance * np.outer(scales, scales),
            )
            chains, _ = chain.sample(chain.init(there), NoProgress())
        return chains.positions / scales

    with jax.enable_x64(True):
        np.testing.assert_allclose(draws(scales), draws(np.ones(3)), rtol=1e-6, atol=1e-6)


@functools.cache
def short_run(cls):
    """An engine, its draws of a Gaussian in blocks of at most seven, and what it recorded."""
    size, snapshots = samplers.Run(max(4, least_chains(cls)), 20, 30), []
    with pytest.MonkeyPatch.context() as patch, Compiler() as compiler:
        patch.setattr("odecal._inference.engine._BLOCK", 7)
        sampler = cls(num_particles=100) if cls is samplers.TemperedSMC else cls()
        made = engine(sampler, gaussian, 3, size, compiler)
        begun = made.init(starts(gaussian, 3, size.num_chains))
        chains, complete = made.sample(begun, NoProgress(), snapshots.append)
    assert complete
    return made, chains, snapshots


@every_sampler
def test_every_statistic_is_there(cls):
    _, chains, _ = short_run(cls)
    num_chains = len(chains.positions)
    expected = {"lp", "acceptance_rate", "n_steps", "diverging"}
    if cls is not samplers.NumPyroNUTS:
        expected.add("failed_solves")
    assert expected <= set(chains.stats)
    assert set(chains.stats) == set(chains.warmup_stats)
    assert {x.shape for x in chains.stats.values()} == {(num_chains, 30)}
    assert {x.shape for x in chains.warmup_stats.values()} == {(num_chains, 20)}
    assert chains.done == 50
    density, _ = vectorised(gaussian)(chains.positions.reshape(-1, 3))
    lp = chains.stats["lp"]
    np.testing.assert_allclose(lp, np.reshape(density, lp.shape), rtol=1e-4, atol=1e-4)
    rate = chains.stats["acceptance_rate"]
    assert ((rate >= 0) & (rate <= 1 + 1e-6)).all()
    if "step_size" in chains.stats:  # warm-up is over
        assert np.ptp(chains.stats["step_size"], axis=1).max() == 0.0
    assert chains.adaptation


@both_nuts
def test_the_trees_of_nuts(cls):
    _, chains, _ = short_run(cls)
    depth = np.floor(np.log2(chains.stats["n_steps"])) + 1
    assert (chains.stats["tree_depth"] >= depth - 1).all()
    assert chains.stats["energy"].min() >= -chains.stats["lp"].max() - 1e-3


@every_sampler
def test_a_run_goes_on_from_any_snapshot_bit_by_bit(cls, monkeypatch):
    """Cut in warm-up and in sampling, and however the draws are cut into blocks."""
    made, whole, snapshots = short_run(cls)
    monkeypatch.setattr("odecal._inference.engine._BLOCK", 7)
    assert len(snapshots) >= 8
    blocks = [x._replace(stats=x.stats | {"former": x.stats["lp"]}) for x in snapshots[1].blocks]
    earlier = replace(snapshots[1], blocks=tuple(blocks))  # with a statistic of another version
    for cut in (earlier, snapshots[-2]):
        again, complete = made.sample(cut, NoProgress())
        assert complete
        np.testing.assert_array_equal(again.positions, whole.positions)
        for name, x in whole.stats.items():
            np.testing.assert_array_equal(again.stats[name], x)


@pytest.mark.parametrize("num_chains", [1, 3])
def test_any_number_of_chains_fits_the_devices(num_chains):
    """Chain i depends on its own key alone, not on how many others there are."""
    few = run(samplers.NUTS(), gaussian, 3, num_chains, 20, 30)
    many = short_run(samplers.NUTS)[1].positions[:num_chains]
    assert few.positions.shape == (num_chains, 30, 3)
    np.testing.assert_allclose(few.positions[:, :20], many[:, :20], rtol=1e-4, atol=1e-5)


def test_a_batch_of_chains_draws_what_one_after_another_do(monkeypatch):
    """As on a GPU, where chains are vectorised."""
    apart = short_run(samplers.NUTS)[1]
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    together = run(samplers.NUTS(), gaussian, 3, 4, 20, 10)
    np.testing.assert_allclose(together.positions, apart.positions[:, :10], rtol=1e-3, atol=1e-4)


def test_divergences_of_another_kind_are_not_failed_solves():
    """A needle so narrow that the first, long steps diverge, with a finite density everywhere."""
    needle = run(
        samplers.NUTS(), lambda x: -0.5 * jnp.sum((x / 1e-4) ** 2), 2, 1, 30, 1, spread=1e-4
    )
    assert needle.warmup_stats["diverging"].sum() > 0
    assert needle.warmup_stats["failed_solves"].sum() == 0


def test_gradients_that_are_no_numbers_are_counted_by_themselves():
    """Beyond 1 the density is finite, and its gradient NaN."""

    @jax.custom_jvp
    def lost(x):
        return 0.0 * x[0]

    @lost.defjvp
    def _(primals, tangents):
        (x,), (s,) = primals, tangents
        return lost(x), jnp.where(x[0] > 1.0, jnp.nan, 0.0) * s[0]

    with jax.enable_x64(True):
        chains = run(samplers.NUTS(), lambda x: gaussian(x) + lost(x), 3, 2, 60, 60)
    stats = chains.stats
    assert stats["failed_gradients"].sum() > 5
    assert stats["failed_solves"].sum() == 0
    assert stats["diverging"][stats["failed_gradients"] > 0].all()


@every_markov_chain
def test_without_warmup_it_still_moves(cls):
    chains = run(cls(), gaussian, 3, least_chains(cls), 0, 20)
    assert np.ptp(chains.positions[0, :, 0]) > 0.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: samplers.NUTS(target_acceptance_rate=1.0), "target_acceptance_rate.*Got 1.0"),
        (lambda: samplers.NUTS(max_tree_depth=0), "max_tree_depth.*Got 0"),
        (lambda: samplers.NumPyroNUTS(max_tree_depth=True), "max_tree_depth.*Got True"),
        (lambda: samplers.NumPyroNUTS(metric=samplers.LowRankMetric()), "DenseMetric.*Got LowR"),
        (lambda: samplers.HMC(integration_time=0), "integration_time.*Got 0"),
        (lambda: samplers.LowRankMetric(max_rank=0), "max_rank.*Got 0"),
        (lambda: samplers.TemperedSMC(target_ess=1.5), "target_ess.*Got 1.5"),
        (lambda: checked_run(samplers.ChEES(), 2, 1, 1, 0), "num_chains.*Got 2"),
        (lambda: checked_run(samplers.MEADS(), 18, 1, 1, 0), "multiple of 4.*Got 18"),
        (lambda: run(samplers.AdjustedMCLMC(), logprior, 1, 1, 1, 1), "two dimensions.*Got 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(make, message):
    with pytest.raises(SettingsError, match=message):
        make()


def two_modes(x):
    """Two Gaussians far apart, the left with three times the mass of the right."""
    left = jnp.log(0.75) - 0.5 * jnp.sum((x + 5.0) ** 2)
    right = jnp.log(0.25) - 0.5 * jnp.sum((x - 5.0) ** 2)
    return jnp.logaddexp(left, right) + jnp.zeros(())


def test_tempered_smc_weighs_modes_that_no_chain_crosses():
    with jax.enable_x64(True):
        chains = run(samplers.TemperedSMC(num_particles=500), two_modes, 2, 8, 60, 500)
    shares = (chains.positions[:, :, 0] < 0).mean(axis=1)
    error = shares.std(ddof=1) / np.sqrt(8)
    assert abs(shares.mean() - 0.75) < 4.5 * max(error, 0.01)


def test_pathfinder_says_how_its_draws_are_to_be_weighted():
    """For a Gaussian the approximation is nearly exact: the weights are nearly even."""
    with jax.enable_x64(True):
        chains = run(samplers.Pathfinder(), gaussian, 3, 2, 0, 500, spread=2.0)
    ratio = chains.stats["lp"] - chains.stats["log_approximation"]
    weights = np.exp(ratio - ratio.max(axis=1, keepdims=True))
    effective = weights.sum(axis=1) ** 2 / (weights**2).sum(axis=1)
    assert effective.min() > 150
    weighted = (weights[:, :, None] * chains.positions).sum((0, 1)) / weights.sum()
    np.testing.assert_allclose(weighted, MEAN, atol=0.35)
