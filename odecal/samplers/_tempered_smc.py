"""Tempered sequential Monte Carlo: from the prior to the posterior, with the evidence."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from odecal.samplers._base import AbstractSampler, Draw, Kernel, Run, Start, Target, check_between

# Particles that are moved in one vectorised batch on a GPU. On a CPU they are moved one after
# another, since in a batch all wait for the slowest solve.
_BATCH = 256


class TemperedSMC(AbstractSampler):
    """Adaptive tempered sequential Monte Carlo, with Hamiltonian moves of BlackJAX.

    Particles from the prior are carried to the posterior through densities prior × likelihood^β:
    each stage raises β so far that the weights keep an effective sample size of
    `target_ess` × particles, resamples, and moves every particle `num_moves` times. It finds
    several modes in proportion to their mass, where a chain stays in one, and gives the evidence.

    A chain is an independent run with as many particles as draws are asked for; a stage is a
    transition of warm-up, of which those left over cost nothing. `adaptation` has
    `log_evidence`, the log of the marginal likelihood, of every chain, and `inverse_temperature`,
    which is 1 where it has arrived.

    Sources: Del Moral, Doucet and Jasra (2006),
    https://doi.org/10.1111/j.1467-9868.2006.00553.x; Jasra, Stephens, Doucet and Tsagaris (2011),
    https://doi.org/10.1111/j.1467-9469.2010.00723.x, for the choice of β.

    Args:
        target_ess: the effective sample size after a stage, as a part of the particles.
        num_moves: moves of each particle at a stage.
        integration_time: how long a move lasts, in the units of the particles' covariance; the
            default is a quarter of a period of a Gaussian.
        target_acceptance_rate: what the step size of the moves is adapted to.

    Raises:
        SettingsError: if a setting cannot work.
    """

    target_ess: float = 0.7
    num_moves: int = 8
    integration_time: float = math.pi / 2
    target_acceptance_rate: float = 0.8

    extendable = False

    def __check_init__(self) -> None:
        check_between(self, "target_ess", 0, 1)
        check_between(self, "target_acceptance_rate", 0, 1)
        check_between(self, "num_moves", 1, 10_000, whole=True)
        check_between(self, "integration_time", 0, math.inf)

    def kernel(self, target: Target, run: Run) -> Kernel:
        """Build the kernel. See the base class."""
        tempering = _Tempering(self, target, run)
        return Kernel(tempering.init, tempering.step, tempering.learnt)


class _Tempering:
    """One run of tempering, a stage at a time; and then its particles, one a draw."""

    def __init__(self, settings: TemperedSMC, target: Target, run: Run) -> None:
        import blackjax

        self.settings = settings
        self.target = target
        self.run = run
        self.batch = None if jax.default_backend() == "cpu" else _BATCH
        self.transition = blackjax.hmc.build_kernel()
        self.prior_and_gradient = jax.value_and_grad(target.logprior_fn)
        self.posterior_and_gradient = jax.value_and_grad(target.logdensity_fn)

    def init(self, key: jax.Array, start: Start) -> "_State":
        """Particles from the prior."""
        del start
        keys = jax.random.split(key, self.run.num_samples)
        particles = self._each(self._weighed, jax.vmap(self.target.sample_prior)(keys))
        one, none = jnp.ones((), particles.position.dtype), jnp.zeros((), jnp.int32)
        return _State(particles, 0 * one, 0 * one, 0.5 * one, none, none, 0 * one)

    def step(self, key: jax.Array, state: "_State", index: jax.Array) -> tuple["_State", Draw]:
        """A stage, or nothing once they are over; and a particle."""
        working = (index < self.run.num_warmup) & (state.beta < 1.0)
        state = jax.lax.cond(
            working,
            lambda: self._stage(key, state),
            lambda: state._replace(diverging=0 * state.diverging, failed=0 * state.failed),
        )
        which = jnp.clip(index - self.run.num_warmup, 0, self.run.num_samples - 1)
        one = jax.tree.map(lambda x: x[which], state.particles)
        moves = self.run.num_samples * self.settings.num_moves
        cost = moves * self._num_steps(state.step_size)
        stats = {
            "lp": one.posterior,
            "acceptance_rate": state.rate,
            "step_size": state.step_size,
            "inverse_temperature": state.beta,
            "n_steps": jnp.where(working, cost, 0).astype(jnp.int32),
            "diverging": state.diverging > 0,
            "failed_solves": state.failed,
        }
        return state, Draw(one.position, stats)

    def learnt(self, state: "_State") -> dict[str, jax.Array]:
        """The evidence, and how far tempering has come."""
        return {"log_evidence": state.log_evidence, "inverse_temperature": state.beta}

    def _stage(self, key: jax.Array, state: "_State") -> "_State":
        """Raise the inverse temperature, resample, and move every particle."""
        from blackjax.smc.resampling import systematic

        particles = state.particles
        rise = self._rise(particles.likelihood(), state.beta)
        beta = jnp.where(state.beta + rise > 1 - 1e-9, 1.0, state.beta + rise)
        weights = rise * particles.likelihood()
        total = jax.nn.logsumexp(weights)
        normal = jnp.exp(weights - total)
        key_resample, key_moves = jax.random.split(key)
        chosen = systematic(key_resample, normal, self.run.num_samples)
        covariance = _covariance(particles.position, normal)
        particles = jax.tree.map(lambda x: x[chosen], particles)
        none = jnp.zeros((), jnp.int32)
        particles, step_size, diverging, failed, rate = jax.lax.fori_loop(
            0,
            self.settings.num_moves,
            lambda i, carry: self._sweep(jax.random.fold_in(key_moves, i), beta, covariance, carry),
            (particles, state.step_size, none, none, 0 * beta),
        )
        evidence = state.log_evidence + total - jnp.log(self.run.num_samples)
        return _State(particles, beta, evidence, step_size, diverging, failed, rate)

    def _rise(self, likelihood: jax.Array, beta: jax.Array) -> jax.Array:
        """How far the inverse temperature rises at a stage."""
        from blackjax.smc.ess import ess_solver
        from blackjax.smc.solver import dichotomy

        left = 1.0 - beta
        rise = ess_solver(lambda x: x, likelihood, self.settings.target_ess, left, dichotomy)
        return jnp.clip(jnp.where(jnp.isfinite(rise), rise, 0.0), 1e-9, left)

    def _sweep(self, key: jax.Array, beta: jax.Array, covariance: jax.Array, carry: Any) -> Any:
        """Move every particle once, and adapt the step size to how many moves were accepted."""
        particles, step_size, diverging, failed, _ = carry
        keys = jax.random.split(key, self.run.num_samples)

        def move(key__particle: Any) -> tuple[jax.Array, ...]:
            key, particle = key__particle
            return self._move(key, particle, beta, step_size, covariance)

        position, rate, diverged, fail = self._each(move, (keys, particles))
        particles = self._each(self._weighed, position)
        rate = jnp.mean(rate)
        step_size = step_size * jnp.exp(rate - self.settings.target_acceptance_rate)
        step_size = jnp.clip(step_size, 1e-2, 2.0)
        diverging += diverged.sum(dtype=diverging.dtype)
        failed += fail.sum(dtype=failed.dtype)
        return particles, step_size, diverging, failed, rate

    def _move(
        self,
        key: jax.Array,
        particle: "_Particles",
        beta: jax.Array,
        step_size: jax.Array,
        covariance: jax.Array,
    ) -> tuple[jax.Array, ...]:
        """One Hamiltonian transition of one particle."""
        from blackjax.mcmc.hmc import HMCState

        chain = HMCState(particle.position, *_mix(particle, beta))
        chain, info = self.transition(
            key, chain, self._tempered(beta), step_size, covariance, self._num_steps(step_size)
        )
        failed = jnp.isneginf(info.proposal.logdensity)
        return chain.position, info.acceptance_rate, info.is_divergent, failed

    def _tempered(self, beta: jax.Array) -> Callable[[jax.Array], jax.Array]:
        """The log density at an inverse temperature, with its gradient."""

        def forward(position: jax.Array) -> tuple[jax.Array, jax.Array]:
            return _mix(self._weighed(position), beta)

        @jax.custom_vjp
        def density(position: jax.Array) -> jax.Array:
            return forward(position)[0]

        density.defvjp(forward, lambda gradient, cotangent: (cotangent * gradient,))
        return density

    def _weighed(self, position: jax.Array) -> "_Particles":
        """A particle with its two densities and their gradients."""
        prior, prior_gradient = self.prior_and_gradient(position)
        posterior, gradient = self.posterior_and_gradient(position)
        return _Particles(position, prior, prior_gradient, posterior, gradient)

    def _num_steps(self, step_size: jax.Array) -> jax.Array:
        return jnp.ceil(self.settings.integration_time / step_size).astype(jnp.int32)

    def _each(self, function: Callable[[Any], Any], particles: Any) -> Any:
        return jax.lax.map(function, particles, batch_size=self.batch)


class _Particles(NamedTuple):
    """Particles, with the log densities and gradients of the prior and of the posterior."""

    position: jax.Array
    prior: jax.Array
    prior_gradient: jax.Array
    posterior: jax.Array
    gradient: jax.Array

    def likelihood(self) -> jax.Array:
        """The log likelihood; a very low number where it is −inf, which has no differences."""
        return jnp.maximum(jnp.nan_to_num(self.posterior - self.prior, nan=-1e30), -1e30)


class _State(NamedTuple):
    particles: _Particles
    beta: jax.Array
    log_evidence: jax.Array
    step_size: jax.Array
    diverging: jax.Array
    failed: jax.Array
    rate: jax.Array


def _covariance(position: jax.Array, weights: jax.Array) -> jax.Array:
    """The covariance of weighted particles, kept positive definite."""
    centred = position - weights @ position
    covariance = (weights[:, None] * centred).T @ centred
    return covariance + 1e-9 * jnp.eye(position.shape[1], dtype=position.dtype)


def _mix(particle: _Particles, beta: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The log density at an inverse temperature, and its gradient."""
    density = particle.prior + beta * (particle.posterior - particle.prior)
    gradient = particle.prior_gradient + beta * (particle.gradient - particle.prior_gradient)
    return jnp.where(jnp.isnan(density), -jnp.inf, density), gradient
