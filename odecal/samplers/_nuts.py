"""The no-U-turn sampler of BlackJAX, with Stan's windowed warm-up."""

from typing import Any

import jax
import jax.numpy as jnp

from odecal.samplers._base import AbstractSampler, Kernel, Run, Target, check_between
from odecal.samplers._metrics import AbstractMetric, default_metric
from odecal.samplers._warmup import Tuned, WindowedWarmup


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

        def move(key: jax.Array, old: Any, tuned: Tuned) -> tuple[Any, dict[str, jax.Array]]:
            chain, info = transition(
                key,
                old,
                target.logdensity_fn,
                tuned.step_size,
                tuned.inverse_mass_matrix,
                self.max_tree_depth,
            )
            stats = {
                "lp": chain.logdensity,
                "energy": info.energy,
                "acceptance_rate": info.acceptance_rate,
                "n_steps": info.num_integration_steps,
                "tree_depth": info.num_trajectory_expansions,
                "diverging": info.is_divergent,
            }
            return chain, stats | _failures(info)

        return warmup.kernel(move)


def _failures(info: Any) -> dict[str, jax.Array]:
    """How many solves failed in a transition, and how many gradients of finite log densities.

    A failed solve has log density −inf, which ends the trajectory, as a gradient does that is no
    number; so there is at most one, at one of its ends.
    """
    ends = info.trajectory_leftmost_state, info.trajectory_rightmost_state
    solves = [jnp.isneginf(end.logdensity) for end in ends]
    gradients = [
        jnp.isfinite(end.logdensity) & ~jnp.all(jnp.isfinite(end.logdensity_grad)) for end in ends
    ]
    failures = {"failed_solves": solves, "failed_gradients": gradients}
    return {
        name: (info.is_divergent & (left | right)).astype(jnp.int32)
        for name, (left, right) in failures.items()
    }
