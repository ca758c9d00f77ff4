"""ChEES-HMC: an ensemble of chains that share one trajectory length."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from odecal._errors import SettingsError
from odecal.samplers._base import AbstractEnsemble, Draw, Kernel, Run, Start, Target, check_between
from odecal.samplers._estimators import with_definite_types
from odecal.samplers._whitening import Whitening

# Halton numbers have this many binary digits: more than there will be draws.
_DIGITS = 24


class ChEES(AbstractEnsemble):
    """Hamiltonian Monte Carlo of BlackJAX whose trajectory length an ensemble learns.

    All chains take the same number of leapfrog steps, so they fill a vector unit or a GPU, where
    the trees of a no-U-turn sampler make all wait for the longest. The step size and the length
    maximise the change in the estimator of the expected square; the lengths are jittered by a
    Halton sequence. Coordinates are those in which the first guess of the covariance is round; in
    them the metric is diagonal, the chains' pooled variances in the middle of warm-up. Some tens
    of chains are needed to learn from.

    Source: Hoffman, Radul and Sountsov (2021),
    https://proceedings.mlr.press/v130/hoffman21a.html.

    Args:
        target_acceptance_rate: what the step size is adapted to.
        max_integration_steps: the largest number of leapfrog steps of a trajectory.
        learning_rate: of the logarithm of the trajectory length (Adam).

    Raises:
        SettingsError: if a setting cannot work.
    """

    target_acceptance_rate: float = 0.651
    max_integration_steps: int = 1000
    learning_rate: float = 0.025

    def __check_init__(self) -> None:
        check_between(self, "target_acceptance_rate", 0, 1)
        check_between(self, "max_integration_steps", 1, 2**20, whole=True)
        check_between(self, "learning_rate", 0, 10)

    def check_run(self, run: Run) -> None:
        """Refuse a run without an ensemble. See the base class."""
        if run.num_chains < 4:
            raise SettingsError(
                "ChEES() learns from an ensemble and expects num_chains of at least 4, better 32 "
                f"or more. Got {run.num_chains}. For few chains take odecal.samplers.NUTS()."
            )

    def kernel(self, target: Target, run: Run) -> Kernel:
        """Build the kernel. See the base class."""
        ensemble = _Ensemble(self, target, run)
        return Kernel(ensemble.init, ensemble.step, ensemble.adaptation)


class _Ensemble:
    """All chains of one run."""

    def __init__(self, settings: ChEES, target: Target, run: Run) -> None:
        import optax

        from odecal.samplers import _blackjax as blackjax

        self.target = target
        self.run = run
        self.state_type = blackjax.DynamicHMCState

        def jitter(i: jax.Array) -> jax.Array:
            return blackjax.halton_sequence(i, _DIGITS)

        def num_steps(i: jax.Array, length: jax.Array) -> jax.Array:
            steps = jnp.ceil(jitter(i) * length)
            return jnp.clip(steps, 1, settings.max_integration_steps).astype(jnp.int32)

        self.chees_init, self.chees_update = blackjax.chees_adaptation(
            jitter,
            lambda i: i + 1,
            optax.adam(settings.learning_rate),
            settings.target_acceptance_rate,
            0.5,  # the weight of recent iterations, BlackJAX's default
            settings.max_integration_steps,
        )
        self.transition = blackjax.dynamic_hmc_kernel(
            next_random_arg_fn=lambda i: i + 1, integration_steps_fn=num_steps
        )

    def init(self, key: jax.Array, start: Start) -> "_State":
        """Chains at their starts, in coordinates in which the guessed covariance is round."""
        del key
        whitening = Whitening.of(start.covariance)
        chains = self.state_type(
            whitening.whiten(start.position),
            start.logdensity,
            whitening.gradient(start.gradient),
            jnp.zeros(len(start.position), jnp.int32),
        )
        variance = jnp.ones(self.target.dim, start.position.dtype)
        step_size = jnp.asarray(0.5 / self.target.dim**0.25, variance.dtype)
        adapted = self.chees_init(jnp.asarray(0, jnp.int32), step_size)._replace(
            log_step_size_moving_average=jnp.log(step_size),
            log_trajectory_length_moving_average=0 * step_size,
        )
        zero = jnp.zeros_like(variance)
        moments = _Moments(zero[0], zero, zero)
        return _State(chains, with_definite_types(adapted), variance, moments, whitening)

    def step(self, key: jax.Array, state: "_State", index: jax.Array) -> tuple["_State", Draw]:
        """Move every chain by a trajectory of one length; in warm-up, adapt."""
        old, warming = state.chains, index < self.run.num_warmup
        adapted = state.adapted
        now = (adapted.step_size, adapted.trajectory_length)
        averages = (
            adapted.log_step_size_moving_average,
            adapted.log_trajectory_length_moving_average,
        )
        step_size, length = (
            jnp.where(warming, x, jnp.exp(average))
            for x, average in zip(now, averages, strict=True)
        )
        density = state.whitening.density(self.target.logdensity_fn)

        def move(key: jax.Array, chain: Any) -> Any:
            steps = (length / step_size,)
            return self.transition(key, chain, density, step_size, state.variance, steps)

        chains, info = jax.vmap(move)(jax.random.split(key, self.run.num_chains), old)
        state = state._replace(chains=chains)
        state = jax.lax.cond(warming, lambda: self._adapt(state, old, info, index), lambda: state)
        stats = {
            "lp": chains.logdensity,
            "energy": info.energy,
            "acceptance_rate": info.acceptance_rate,
            "accepted": info.is_accepted,
            "step_size": jnp.broadcast_to(step_size, chains.logdensity.shape),
            "n_steps": info.num_integration_steps,
            "diverging": info.is_divergent,
            "failed_solves": jnp.isneginf(info.proposal.logdensity).astype(jnp.int32),
        }
        return state, Draw(state.whitening.unwhiten(chains.position), stats)

    def adaptation(self, state: "_State") -> dict[str, jax.Array]:
        """The metric in the target's own coordinates, and the length of trajectories."""
        length = jnp.exp(state.adapted.log_trajectory_length_moving_average)
        matrix = state.whitening.factor * state.variance @ state.whitening.factor.T
        return {"inverse_mass_matrix": matrix, "trajectory_length": length}

    def _adapt(self, state: "_State", old: Any, info: Any, index: jax.Array) -> "_State":
        """Adapt step size and length; and the variances, over the second quarter of warm-up."""
        adapted = self.chees_update(
            state.adapted,
            info.proposal.position,
            info.proposal.momentum,
            old.position,
            info.acceptance_rate,
            info.is_divergent,
            state.variance,
        )
        adapted = jax.tree.map(lambda x, new: jnp.asarray(new, x.dtype), state.adapted, adapted)
        start, end = self.run.num_warmup // 4, self.run.num_warmup // 2
        moments = jax.lax.cond(
            (index >= start) & (index < end),
            lambda: state.moments.take(state.chains.position),
            lambda: state.moments,
        )
        variance = jnp.where(index == end - 1, moments.variance(), state.variance)
        return state._replace(adapted=adapted, variance=variance, moments=moments)


class _Moments(NamedTuple):
    """Sums over draws of all chains."""

    number: jax.Array
    total: jax.Array
    square: jax.Array

    def take(self, positions: jax.Array) -> "_Moments":
        return _Moments(
            self.number + len(positions),
            self.total + positions.sum(0),
            self.square + (positions**2).sum(0),
        )

    def variance(self) -> jax.Array:
        count = jnp.maximum(self.number, 1)
        mean = self.total / count
        return jnp.maximum(self.square / count - mean**2, 1e-12)


class _State(NamedTuple):
    chains: Any
    adapted: Any
    variance: jax.Array
    moments: _Moments
    whitening: Whitening
