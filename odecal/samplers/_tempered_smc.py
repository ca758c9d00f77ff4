"""Tempered sequential Monte Carlo: from the prior to the posterior, with the evidence."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from odecal._jax.backend import on_cpu
from odecal.samplers._base import AbstractSampler, Draw, Kernel, Run, Start, Target, check_between
from odecal.samplers._mixture import Mixture, fitted
from odecal.samplers._particles import Particles, resampled, rise_of_temperature

# Particles that are moved in one vectorised batch on a GPU. On a CPU they are moved one after
# another, since in a batch all wait for the slowest solve.
_BATCH = 256
# Components of the mixture of proposals, where dimensions are few and where they are many.
_COMPONENTS, _FEW, _COMPONENTS_OF_MANY = 8, 8, 4
# The rate at which local moves are to be accepted.
_ACCEPTANCE = 0.25
# How far particles are to move at a stage, in standard deviations squared, and what part of them;
# and the same at the last stage, whose particles are the draws.
_FAR, _MOST = 2.0, 0.9
_FAR_LAST, _MOST_LAST = 12.0, 0.95


class TemperedSMC(AbstractSampler):
    """Adaptive tempered sequential Monte Carlo, with moves between modes.

    Particles from the prior are carried to the posterior through densities prior × likelihood^β:
    each stage raises β so far that the weights keep an effective sample size of
    `target_ess` × particles, resamples, and moves all particles. To move them, a mixture of t
    distributions is fitted, whose components find modes and follow bends. It follows pilots, other
    particles that go the same way and are not kept: particles that were moved by what follows them
    would gather in the largest mode.
    A move is either a draw from the mixture, which can go from one mode to another, or a random
    walk with the covariance of a component that is drawn from those to which the particle may
    belong; both are accepted by Metropolis and Hastings's rule. Moves are repeated until most
    particles have gone more than a standard deviation, in the last stage more than three.
    No gradient is taken.

    A chain is an independent population, so that R-hat compares populations; a stage is a
    transition of warm-up, of which those left over cost nothing. Draws keep the order of their
    ancestors: where few have survived, the effective sample size tells. `adaptation` has
    `log_evidence`, the log of the marginal likelihood, of every chain, and `inverse_temperature`,
    which is 1 where it has arrived.

    Sources: Del Moral, Doucet and Jasra (2006),
    https://doi.org/10.1111/j.1467-9868.2006.00553.x; Jasra, Stephens, Doucet and Tsagaris (2011),
    https://doi.org/10.1111/j.1467-9469.2010.00723.x, for the choice of β; South, Pettitt and
    Drovandi (2019), https://doi.org/10.1214/18-BA1129, for independent proposals.

    Args:
        num_particles: particles of each chain, where it has fewer draws, and its pilots.
        target_ess: the effective sample size after a stage, as a part of the particles.
        max_moves: the most moves of each particle at a stage; four times as many at the last.

    Raises:
        SettingsError: if a setting cannot work.
    """

    num_particles: int = 1000
    target_ess: float = 0.5
    max_moves: int = 100

    extendable = False

    def __check_init__(self) -> None:
        check_between(self, "num_particles", 10, 10_000_000, whole=True)
        check_between(self, "target_ess", 0, 1)
        check_between(self, "max_moves", 1, 1_000_000, whole=True)

    def kernel(self, target: Target, run: Run) -> Kernel:
        """Build the kernel. See the base class."""
        tempering = _Tempering(self, target, run)
        headline = (
            f"Tempering, {run.num_chains} populations of {tempering.number} particles: from the "
            f"prior to the posterior, in at most {run.num_warmup} stages"
        )
        return Kernel(
            tempering.init, tempering.step, tempering.adaptation, headline, _furthest_behind
        )


def _furthest_behind(stats: Mapping[str, Any]) -> str:
    """How far the population is that is furthest behind."""
    beta, stage = stats["inverse_temperature"][:, -1], stats["stage"][:, -1]
    last = int(beta.argmin())
    if beta[last] == 1.0:
        return f"at the posterior after {stage.max()} stages"
    return f"stage {stage[last]}, inverse temperature {beta[last]:.2g}"


class _State(NamedTuple):
    """Between two stages."""

    particles: Particles
    beta: jax.Array
    log_evidence: jax.Array
    scale: jax.Array  # of local moves, in units of the covariance of a component
    jumps: jax.Array  # the rate at which draws from the mixture are accepted
    stage: jax.Array
    rate: jax.Array
    sweeps: jax.Array
    failed: jax.Array


class _Sweeps(NamedTuple):
    """Between two sweeps of moves of all particles."""

    particles: Particles
    parts: jax.Array  # the mixture's log densities at the particles
    gone: jax.Array  # how far each particle has moved
    scale: jax.Array
    jumps: jax.Array
    rate: jax.Array
    done: jax.Array
    failed: jax.Array


class _Tempering:
    """One run of tempering, a stage at a time; and then its particles, one a draw."""

    def __init__(self, settings: TemperedSMC, target: Target, run: Run) -> None:
        self.settings = settings
        self.target = target
        self.run = run
        self.pilots = settings.num_particles
        self.number = max(settings.num_particles, run.num_samples)
        self.total = self.pilots + self.number
        self.batch = None if on_cpu() else _BATCH

    def init(self, key: jax.Array, start: Start) -> _State:
        """Particles from the prior."""
        del start
        keys = jax.random.split(key, self.total)
        particles = self._weighed(jax.vmap(self.target.sample_prior)(keys))
        one, none = jnp.ones((), particles.position.dtype), jnp.zeros((), jnp.int32)
        scale = 2.4 / jnp.sqrt(self.target.dim) * one
        failed = jnp.sum(jnp.isneginf(particles.posterior), dtype=jnp.int32)
        return _State(particles, 0 * one, 0 * one, scale, one / 2, none, 0 * one, none, failed)

    def step(self, key: jax.Array, state: _State, index: jax.Array) -> tuple[_State, Draw]:
        """A stage, or nothing once they are over; and a particle."""
        working = (index < self.run.num_warmup) & (state.beta < 1.0)
        state = jax.lax.cond(
            working,
            lambda: self._stage(key, state),
            lambda: state._replace(sweeps=0 * state.sweeps, failed=0 * state.failed),
        )
        which = jnp.clip(index - self.run.num_warmup, 0, self.run.num_samples - 1)
        which = self.pilots + which * self.number // self.run.num_samples
        stats = {
            "lp": state.particles.posterior[which],
            "acceptance_rate": state.rate,
            "step_size": state.scale,
            "stage": state.stage,
            "inverse_temperature": state.beta,
            "n_steps": state.sweeps * self.total,
            "diverging": state.failed > 0,
            "failed_solves": state.failed,
        }
        return state, Draw(state.particles.position[which], stats)

    def adaptation(self, state: _State) -> dict[str, jax.Array]:
        """The evidence, and how far tempering has come."""
        return {"log_evidence": state.log_evidence, "inverse_temperature": state.beta}

    def _stage(self, key: jax.Array, state: _State) -> _State:
        """Raise the inverse temperature, resample, and move every particle."""
        key_fit, key_resample, key_moves = jax.random.split(key, 3)
        likelihood = jnp.split(state.particles.likelihood(), [self.pilots])
        wanted, left = self.settings.target_ess, 1.0 - state.beta
        rise = jnp.minimum(*(rise_of_temperature(x, wanted, left) for x in likelihood))
        beta = jnp.where(state.beta + rise > 1 - 1e-6, 1.0, state.beta + rise)
        log_weights = [jnp.where(jnp.isneginf(x), -jnp.inf, rise * x) for x in likelihood]
        pilots, draws = (jax.nn.softmax(x) for x in log_weights)
        # With the roots of the weights the pilots stand for an inverse temperature between the last
        # and this one: proposals should rather be too wide than too narrow.
        roots = jnp.sqrt(pilots)
        components = _COMPONENTS if self.target.dim <= _FEW else _COMPONENTS_OF_MANY
        positions = state.particles.position[: self.pilots]
        mixture = fitted(key_fit, positions, roots / jnp.sum(roots), components)
        keys = jax.random.split(key_resample)
        chosen = jnp.concatenate(
            [resampled(keys[0], pilots), self.pilots + resampled(keys[1], draws)]
        )
        particles = jax.tree.map(lambda x: x[chosen], state.particles)
        moved = self._moved(key_moves, mixture, particles, beta, state)
        return _State(
            moved.particles,
            beta,
            state.log_evidence + jax.nn.logsumexp(log_weights[1]) - jnp.log(self.number),
            moved.scale,
            moved.jumps,
            state.stage + 1,
            moved.rate,
            moved.done,
            moved.failed,
        )

    def _moved(
        self,
        key: jax.Array,
        mixture: Mixture,
        particles: Particles,
        beta: jax.Array,
        state: _State,
    ) -> _Sweeps:
        """Move all particles until most have gone far enough."""
        last = beta == 1.0
        far, most = jnp.where(last, _FAR_LAST, _FAR), jnp.where(last, _MOST_LAST, _MOST)
        limit = jnp.where(last, 4, 1) * self.settings.max_moves

        def going(now: _Sweeps) -> jax.Array:
            return (jnp.mean(jnp.minimum(now.gone / far, 1.0)) < most) & (now.done < limit)

        def sweep(now: _Sweeps) -> _Sweeps:
            return self._sweep(jax.random.fold_in(key, now.done), mixture, beta, now)

        parts, none = mixture.parts(particles.position), jnp.zeros((), jnp.int32)
        gone = jnp.zeros_like(particles.prior)
        begin = _Sweeps(
            particles, parts, gone, state.scale, state.jumps, 0 * beta, none, 0 * state.failed
        )
        return jax.lax.while_loop(going, sweep, begin)

    def _sweep(self, key: jax.Array, mixture: Mixture, beta: jax.Array, now: _Sweeps) -> _Sweeps:
        """Propose a move of every particle, accept or not, and adapt."""
        key_kind, key_jump, key_walk, key_accept = jax.random.split(key, 4)
        dim, dtype = self.target.dim, now.gone.dtype
        # As many jumps as they are worth: a walk takes some multiple of `dim` to go as far.
        part = jnp.clip(now.jumps / (now.jumps + 1 / (3 * dim)), 0.1, 0.8)
        jumping = jax.random.uniform(key_kind, (self.total,), dtype) < part
        jump = mixture.sample(key_jump, self.total)
        walk, component, distance = self._walk(key_walk, mixture, now)
        position = jnp.where(jumping[:, None], jump, walk)
        proposed = self._weighed(position)
        parts = mixture.parts(position)
        correction = jnp.where(
            jumping,
            jax.nn.logsumexp(now.parts, axis=1) - jax.nn.logsumexp(parts, axis=1),
            _belonging(parts, component) - _belonging(now.parts, component),
        )
        ratio = proposed.tempered(beta) - now.particles.tempered(beta) + correction
        chance = jnp.exp(jnp.minimum(jnp.where(jnp.isnan(ratio), -jnp.inf, ratio), 0.0))
        accepted = jax.random.uniform(key_accept, (self.total,), dtype) < chance

        def chosen(new: jax.Array, old: jax.Array) -> jax.Array:
            return jnp.where(accepted.reshape(-1, *(1,) * (new.ndim - 1)), new, old)

        return _Sweeps(
            jax.tree.map(chosen, proposed, now.particles),
            chosen(parts, now.parts),
            now.gone + jnp.where(accepted, jnp.where(jumping, 1.0, distance), 0.0),
            jnp.clip(now.scale * jnp.exp(_mean(chance, ~jumping) - _ACCEPTANCE), 1e-4, 10.0),
            0.5 * (now.jumps + _mean(chance, jumping)),
            jnp.mean(chance),
            now.done + 1,
            now.failed + jnp.sum(jnp.isneginf(proposed.posterior), dtype=jnp.int32),
        )

    def _walk(
        self, key: jax.Array, mixture: Mixture, now: _Sweeps
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Steps with the covariance of a component that a particle may belong to.

        The component is drawn anew for each step, by the mixture's own odds at the particle, and
        these odds are part of the density that decides. Half the squared distance a dimension is
        how far a particle goes.
        """
        key_which, key_scale, key_step = jax.random.split(key, 3)
        dtype = now.gone.dtype
        component = jax.random.categorical(key_which, now.parts, axis=1)
        scale = now.scale * jnp.exp(0.5 * jax.random.normal(key_scale, (self.total, 1), dtype))
        normal = scale * jax.random.normal(key_step, now.particles.position.shape, dtype)
        step = jnp.einsum("nij,nj->ni", mixture.factors[component], normal)
        return now.particles.position + step, component, 0.5 * jnp.mean(normal**2, axis=1)

    def _weighed(self, position: jax.Array) -> Particles:
        """Particles with their densities."""
        densities = jax.lax.map(self._densities, position, batch_size=self.batch)
        return Particles(position, *densities)

    def _densities(self, position: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The log prior, and the log posterior, −inf where it is not a number."""
        prior, posterior = self.target.logprior_fn(position), self.target.logdensity_fn(position)
        good = jnp.isfinite(prior) & jnp.isfinite(posterior)
        return jnp.where(jnp.isfinite(prior), prior, -jnp.inf), jnp.where(good, posterior, -jnp.inf)


def _belonging(parts: jax.Array, component: jax.Array) -> jax.Array:
    """The log odds that a position belongs to a component."""
    own = jnp.take_along_axis(parts, component[:, None], axis=1)[:, 0]
    return own - jax.nn.logsumexp(parts, axis=1)


def _mean(values: jax.Array, where: jax.Array) -> jax.Array:
    """The mean of some values, zero where there is none."""
    return jnp.sum(jnp.where(where, values, 0.0)) / jnp.maximum(jnp.sum(where), 1)
