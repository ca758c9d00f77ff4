"""The no-U-turn sampler of BlackJAX, with Stan's windowed warm-up."""

from typing import Any

import jax
import jax.numpy as jnp

from odecal.samplers._base import (
    AbstractSampler,
    Draw,
    Kernel,
    Run,
    Target,
    check_between,
    no_gradient,
)
from odecal.samplers._metrics import AbstractMetric, default_metric
from odecal.samplers._warmup import Warming, WindowedWarmup


class NUTS(AbstractSampler):
    """The no-U-turn sampler of BlackJAX.

    Multinomial sampling on dynamically grown trajectories, with a step size by dual averaging and
    a metric from the draws of growing windows.

    Sources: Hoffman and Gelman (2014), https://jmlr.org/papers/v15/hoffman14a.html; Betancourt
    (2017), https://arxiv.org/abs/1701.02434; the warm-up is Stan's.

    Args:
        target_acceptance_rate: what the step size is adapted to; higher is safer and slower.
        max_tree_depth: the largest number of doublings of a trajectory.
        metric: how the metric is estimated; None chooses by dimension.

    Raises:
        SettingsError: if a setting cannot work.
    """

    target_acceptance_rate: float = 0.8
    max_tree_depth: int = 10
    metric: AbstractMetric | None = None

    def __check_init__(self) -> None:
        check_between(self, "target_acceptance_rate", 0, 1)
        check_between(self, "max_tree_depth", 1, 20, whole=True)

    def kernel(self, target: Target, run: Run) -> Kernel:
        """Build the kernel. See the base class."""
        from odecal.samplers import _blackjax as blackjax

        metric = self.metric or default_metric(target.dim)
        warmup = WindowedWarmup(metric, run.num_warmup, self.target_acceptance_rate, target.dim)
        transition = blackjax.nuts_kernel()

        def step(key: jax.Array, state: Warming, index: jax.Array) -> tuple[Warming, Draw]:
            tuned = state.tuned
            chain, info = transition(
                key,
                state.chain,
                target.logdensity_fn,
                tuned.step_size,
                tuned.inverse_mass_matrix,
                self.max_tree_depth,
            )
            stats = {
                "lp": chain.logdensity,
                "energy": info.energy,
                "acceptance_rate": info.acceptance_rate,
                "step_size": tuned.step_size,
                "n_steps": info.num_integration_steps,
                "tree_depth": info.num_trajectory_expansions,
                "diverging": info.is_divergent,
                "failed_solves": _failed(info),
                "failed_gradients": _failed_gradients(info),
            }
            tuned = warmup.update(
                tuned, chain.position, chain.logdensity_grad, info.acceptance_rate, index
            )
            return Warming(chain, tuned), Draw(chain.position, stats)

        return Kernel(warmup.begin, step, warmup.adaptation)


def _failed(info: Any) -> jax.Array:
    """How many solves failed in a transition.

    A failed solve has log density −inf, which ends the trajectory; so there is at most one, at one
    of its ends.
    """
    failed = [jnp.isneginf(end.logdensity) for end in _ends(info)]
    return (info.is_divergent & (failed[0] | failed[1])).astype(jnp.int32)


def _failed_gradients(info: Any) -> jax.Array:
    """How many gradients of a finite log density were no numbers: as above, 1 or 0."""
    failed = [no_gradient(end.logdensity, end.logdensity_grad) for end in _ends(info)]
    return (info.is_divergent & (failed[0] | failed[1])).astype(jnp.int32)


def _ends(info: Any) -> tuple[Any, Any]:
    return info.trajectory_leftmost_state, info.trajectory_rightmost_state
