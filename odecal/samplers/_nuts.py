"""The no-U-turn sampler of BlackJAX, with Stan's windowed warm-up."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from odecal.samplers._base import (
    AbstractSampler,
    Draw,
    Kernel,
    LogDensity,
    check_nuts,
    first_step_size,
    use_dense,
)


class NUTS(AbstractSampler):
    """The no-U-turn sampler of BlackJAX.

    Multinomial sampling on dynamically grown trajectories, with a step size by dual averaging and
    a metric from the draws of growing windows.

    Sources: Hoffman and Gelman (2014), https://jmlr.org/papers/v15/hoffman14a.html; Betancourt
    (2017), https://arxiv.org/abs/1701.02434; the warm-up is Stan's.

    Args:
        target_acceptance_rate: what the step size is adapted to; higher is safer and slower.
        max_tree_depth: the largest number of doublings of a trajectory.
        dense_mass: whether the metric is a dense matrix; None takes a dense one up to 50
            dimensions.

    Raises:
        SettingsError: if a setting cannot work.
    """

    target_acceptance_rate: float = 0.8
    max_tree_depth: int = 10
    dense_mass: bool | None = None

    def __check_init__(self) -> None:
        check_nuts(self.target_acceptance_rate, self.max_tree_depth)

    def kernel(self, logdensity_fn: LogDensity, dim: int, num_warmup: int) -> Kernel:
        """Build the kernel. See the base class."""
        import blackjax  # starts JAX, after which its number of devices is fixed

        warmup = _Warmup(num_warmup, self.target_acceptance_rate, use_dense(self.dense_mass, dim))
        transition = blackjax.nuts.build_kernel()

        def init(key: jax.Array, position: jax.Array) -> _State:
            del key
            return _State(blackjax.nuts.init(position, logdensity_fn), warmup.init(dim))

        def step(key: jax.Array, state: _State, index: jax.Array) -> tuple[_State, Draw]:
            tuned = state.tuned
            chain, info = transition(
                key,
                state.chain,
                logdensity_fn,
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
            }
            tuned = jax.lax.cond(
                index < num_warmup,
                lambda: warmup.update(tuned, chain, info.acceptance_rate, index),
                lambda: tuned,
            )
            return _State(chain, tuned), Draw(chain.position, stats)

        return Kernel(init, step)


class _Tuned(NamedTuple):
    """What warm-up adapts."""

    step_size: jax.Array
    inverse_mass_matrix: jax.Array
    dual_averaging: Any
    metric: Any


class _State(NamedTuple):
    chain: Any
    tuned: _Tuned


def _failed(info: Any) -> jax.Array:
    """How many solves failed in a transition.

    A failed solve has log density −inf, which ends the trajectory; so there is at most one, at one
    of its ends.
    """
    ends = (info.trajectory_leftmost_state, info.trajectory_rightmost_state)
    failed = [jnp.isneginf(end.logdensity) for end in ends]
    return (info.is_divergent & (failed[0] | failed[1])).astype(jnp.int32)


class _Warmup:
    """Stan's windowed adaptation, a step at a time, from BlackJAX's parts."""

    def __init__(self, num_warmup: int, target_acceptance_rate: float, dense: bool) -> None:
        from blackjax.adaptation.mass_matrix import mass_matrix_adaptation
        from blackjax.adaptation.staged_adaptation import build_schedule
        from blackjax.adaptation.step_size import dual_averaging_adaptation

        self.num_warmup = num_warmup
        self.averaging = dual_averaging_adaptation(target_acceptance_rate)
        self.metric = mass_matrix_adaptation(is_diagonal_matrix=not dense)
        schedule = np.zeros((num_warmup + 1, 2), bool)  # one more, for an index past the end
        if num_warmup:
            schedule[:-1] = np.asarray(build_schedule(num_warmup), bool)
        self.in_slow_window, self.ends_window = schedule.T

    def init(self, dim: int) -> _Tuned:
        averaging_init, metric_init = self.averaging[0], self.metric[0]
        metric = metric_init(dim)
        step_size = jnp.asarray(first_step_size(self.num_warmup), jnp.result_type(float))
        return _Tuned(step_size, metric.inverse_mass_matrix, averaging_init(step_size), metric)

    def update(
        self, tuned: _Tuned, chain: Any, acceptance_rate: jax.Array, index: jax.Array
    ) -> _Tuned:
        averaging_init, averaging_update, averaging_final = self.averaging
        _, metric_update, metric_final = self.metric
        averaging = averaging_update(tuned.dual_averaging, acceptance_rate)
        metric = jax.lax.cond(
            jnp.asarray(self.in_slow_window)[index],
            lambda: metric_update(tuned.metric, chain.position, chain.logdensity_grad),
            lambda: tuned.metric,
        )
        metric, averaging = jax.lax.cond(
            jnp.asarray(self.ends_window)[index],
            lambda: (metric_final(metric), averaging_init(averaging_final(averaging))),
            lambda: (metric, averaging),
        )
        last = index == self.num_warmup - 1
        step_size = jnp.where(last, averaging_final(averaging), jnp.exp(averaging.log_step_size))
        return _Tuned(step_size, metric.inverse_mass_matrix, averaging, metric)
