"""Pathfinder alone: a Gaussian approximation along an optimiser's path."""

from typing import Any

import jax
import jax.numpy as jnp

from odecal.samplers._base import AbstractSampler, Draw, Kernel, Run, Start, Target, check_between


class Pathfinder(AbstractSampler):
    """Draws from the Gaussian that Pathfinder of BlackJAX finds. An approximation, marked as such.

    From each chain's start an optimiser (L-BFGS) climbs; of the Gaussians that its steps imply, the
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
        from blackjax.vi import pathfinder

        del run

        def init(key: jax.Array, start: Start) -> Any:
            found, _ = pathfinder.approximate(
                key,
                target.logdensity_fn,
                start.position,
                self.num_elbo_draws,
                maxiter=self.max_steps,
            )
            return found

        def step(key: jax.Array, state: Any, index: jax.Array) -> tuple[Any, Draw]:
            del index
            position, log_approximation = pathfinder.sample(key, state)
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

        return Kernel(init, step, lambda state: {"evidence_lower_bound": state.elbo})
