"""MEADS: an ensemble that tunes generalised Hamiltonian Monte Carlo."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from odecal._errors import SettingsError
from odecal.samplers._base import AbstractEnsemble, Draw, Kernel, Run, Start, Target, check_between
from odecal.samplers._whitening import Whitening


class MEADS(AbstractEnsemble):
    """Generalised Hamiltonian Monte Carlo of BlackJAX, tuned by maximum eigenvalues of an ensemble.

    A draw is `steps_per_draw` transitions, each of a single leapfrog step with a momentum that
    persists; so all chains cost the same. The chains are in folds: each fold's step size, scales
    and damping come from another fold's spread, and chains change folds now and then. After
    warm-up all is fixed, the mean over folds. Coordinates are those in which the first guess of
    the covariance is round.

    Source: Hoffman and Sountsov (2022), https://proceedings.mlr.press/v151/hoffman22a.html.

    Args:
        num_folds: the number of folds, which divides the number of chains.
        steps_per_draw: leapfrog steps of a draw.
        step_size_multiplier: the step size, as a part of the largest stable one.

    Raises:
        SettingsError: if a setting cannot work.
    """

    num_folds: int = 4
    steps_per_draw: int = 10
    step_size_multiplier: float = 0.5

    def __check_init__(self) -> None:
        check_between(self, "num_folds", 2, 1024, whole=True)
        check_between(self, "steps_per_draw", 1, 10_000, whole=True)
        check_between(self, "step_size_multiplier", 0, 10)

    def check_run(self, run: Run) -> None:
        """Refuse a run without an ensemble. See the base class."""
        if run.num_chains % self.num_folds or run.num_chains < 4 * self.num_folds:
            raise SettingsError(
                f"MEADS(num_folds={self.num_folds}) learns from an ensemble and expects num_chains "
                f"to be a multiple of {self.num_folds} and at least {4 * self.num_folds}. "
                f"Got {run.num_chains}. For few chains take odecal.samplers.NUTS()."
            )

    def kernel(self, target: Target, run: Run) -> Kernel:
        """Build the kernel. See the base class."""
        ensemble = _Ensemble(self, target, run)
        return Kernel(ensemble.init, ensemble.step, ensemble.adaptation)


class _Ensemble:
    """All chains of one run, in folds."""

    def __init__(self, settings: MEADS, target: Target, run: Run) -> None:
        from odecal.samplers import _blackjax as blackjax

        self.settings = settings
        self.target = target
        self.run = run
        self.size = run.num_chains // settings.num_folds
        self.state_type = blackjax.GHMCState
        self.transition = blackjax.ghmc_kernel()
        self.meads_init, self.meads_update = blackjax.meads_adaptation(
            settings.num_folds, settings.step_size_multiplier
        )

    def init(self, key: jax.Array, start: Start) -> "_State":
        """Chains at their starts, in coordinates in which the guessed covariance is round."""
        key_momentum, key_slice = jax.random.split(key)
        whitening = Whitening.of(start.covariance)
        position, gradient = whitening.whiten(start.position), whitening.gradient(start.gradient)
        shape, dtype = position.shape, position.dtype
        chains = self.state_type(
            position,
            jax.random.normal(key_momentum, shape, dtype),
            start.logdensity,
            gradient,
            jax.random.uniform(key_slice, shape[:1], dtype, minval=-1.0),
        )
        adapted = self.meads_init(position, gradient)
        return _State(chains, adapted._replace(current_iteration=jnp.asarray(0)), whitening)

    def step(self, key: jax.Array, state: "_State", index: jax.Array) -> tuple["_State", Draw]:
        """Move every chain by some leapfrog steps; in warm-up, adapt."""
        warming, num_steps = index < self.run.num_warmup, self.settings.steps_per_draw
        key_fold, key_moves = jax.random.split(key)
        how = self._how(state.adapted, warming)
        chains, accepted, diverging, failed = self._moved(key_moves, state, how)
        stats = {
            "lp": chains.logdensity,
            "acceptance_rate": accepted / num_steps,
            "step_size": how[0],
            "n_steps": jnp.full(self.run.num_chains, num_steps, jnp.int32),
            "diverging": diverging,
            "failed_solves": failed,
        }
        draw = Draw(state.whitening.unwhiten(chains.position), stats)
        state = state._replace(chains=chains)
        state = jax.lax.cond(warming, lambda: self._adapt(key_fold, state, index), lambda: state)
        return state, draw

    def adaptation(self, state: "_State") -> dict[str, jax.Array]:
        """The metric in the target's own coordinates, and the damping."""
        sigma = state.adapted.position_sigma.mean(axis=0)
        matrix = state.whitening.factor * sigma**2 @ state.whitening.factor.T
        return {"inverse_mass_matrix": matrix, "damping": state.adapted.alpha.mean()}

    def _how(self, adapted: Any, warming: jax.Array) -> tuple[jax.Array, ...]:
        """Step size, scales, damping and slice of every chain."""
        fields = (adapted.step_size, adapted.position_sigma, adapted.alpha, adapted.delta)
        return tuple(
            jnp.repeat(jnp.where(warming, x, x.mean(axis=0, keepdims=True)), self.size, axis=0)
            for x in fields
        )

    def _moved(self, key: jax.Array, state: "_State", how: tuple[jax.Array, ...]) -> Any:
        """All chains after the leapfrog steps of one draw, and what happened in these.

        That is the sum of their acceptance rates, whether one diverged, and how many solves failed.
        """
        num_chains = self.run.num_chains
        density = state.whitening.density(self.target.logdensity_fn)
        move = jax.vmap(lambda key, chain, *how: self.transition(key, chain, density, *how))

        def one(i: jax.Array, carry: Any) -> Any:
            chains, accepted, diverging, failed = carry
            keys = jax.random.split(jax.random.fold_in(key, i), num_chains)
            chains, info = move(keys, chains, *how)
            failed += jnp.isneginf(info.proposal.logdensity).astype(jnp.int32)
            return chains, accepted + info.acceptance_rate, diverging | info.is_divergent, failed

        none = jnp.zeros(num_chains, state.chains.position.dtype)
        begin = (state.chains, none, none > 0, jnp.zeros(num_chains, jnp.int32))
        return jax.lax.fori_loop(0, self.settings.steps_per_draw, one, begin)

    def _adapt(self, key: jax.Array, state: "_State", index: jax.Array) -> "_State":
        """Adapt one fold to the others; shuffle all after the last."""
        folds = self.settings.num_folds
        fold = index % folds
        own = jax.tree.map(
            lambda x: x.reshape(folds, self.size, *x.shape[1:])[fold],
            (state.chains.position, state.chains.logdensity_grad),
        )
        adapted = self.meads_update(state.adapted, *own, fold)
        order = jnp.where(
            fold == folds - 1,
            jax.random.permutation(key, self.run.num_chains),
            jnp.arange(self.run.num_chains),
        )
        chains = jax.tree.map(lambda x: x[order], state.chains)
        return _State(chains, adapted, state.whitening)


class _State(NamedTuple):
    chains: Any
    adapted: Any
    whitening: Whitening
