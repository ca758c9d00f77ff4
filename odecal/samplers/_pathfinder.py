"""Pathfinder alone: a Gaussian approximation along an optimiser's path."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from odecal.samplers._base import AbstractSampler, Draw, Kernel, Run, Start, Target, check_between
from odecal.samplers._whitening import Whitening


class Pathfinder(AbstractSampler):
    """Draws from the Gaussian that Pathfinder of BlackJAX finds. An approximation, marked as such.

    From each chain's start an optimiser (L-BFGS) climbs, in coordinates in which the guess of the
    covariance is round; of the Gaussians that its steps imply, the
    one with the largest evidence lower bound is drawn from. There is no warm-up and no correction:
    `sample_stats` has `log_approximation`, the log density of the approximation, by which
    `lp − log_approximation` are importance weights; their Pareto k̂ is in the summary.

    Source: Zhang, Carpenter, Gelman and Vehtari (2022),
    https://jmlr.org/papers/v23/21-0889.html.

    Args:
        num_elbo_draws: draws that estimate the evidence lower bound of each step.
        max_steps: the largest number of steps of the optimiser.

    Raises:
        SettingsError: if a setting cannot work.
    """

    num_elbo_draws: int = 50
    max_steps: int = 30

    approximate = True

    def __check_init__(self) -> None:
        check_between(self, "num_elbo_draws", 1, 100_000, whole=True)
        check_between(self, "max_steps", 1, 10_000, whole=True)

    def kernel(self, target: Target, run: Run) -> Kernel:
        """Build the kernel. See the base class."""
        from odecal.samplers import _blackjax as blackjax

        del run

        def init(key: jax.Array, start: Start) -> _State:
            whitening = Whitening.of(start.covariance[None])
            found, _ = blackjax.pathfinder.approximate(
                key,
                lambda z: target.logdensity_fn(start.position + whitening.unwhiten(z)),
                jnp.zeros_like(start.position),
                self.num_elbo_draws,
                maxiter=self.max_steps,
            )
            return _State(found, start.position, whitening)

        def step(key: jax.Array, state: _State, index: jax.Array) -> tuple[_State, Draw]:
            del index
            z, log_approximation = blackjax.pathfinder.sample(key, state.found)
            position = state.origin + state.whitening.unwhiten(z)
            log_approximation -= jnp.log(jnp.diag(state.whitening.factor)).sum()
            density = target.logdensity_fn(position)
            stats = {
                "lp": density,
                "log_approximation": log_approximation,
                "acceptance_rate": jnp.ones_like(density),
                "n_steps": jnp.ones((), jnp.int32),
                "diverging": jnp.zeros((), bool),
                "failed_solves": jnp.isneginf(density).astype(jnp.int32),
            }
            return state, Draw(position, stats)

        return Kernel(init, step, lambda state: {"evidence_lower_bound": state.found.elbo})


class _State(NamedTuple):
    found: Any
    origin: jax.Array
    whitening: Whitening
