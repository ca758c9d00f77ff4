"""Warm-up in windows, a transition at a time: step size, metric, and their trace."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from odecal.samplers._base import Covariance, Draw, Kernel, Start
from odecal.samplers._metrics import AbstractMetric

# Transitions after the last window, for the step size: as in Stan, in a short warm-up fewer.
_SETTLING_DOWN = 50


class Tuned(NamedTuple):
    """What warm-up adapts."""

    step_size: jax.Array
    inverse_mass_matrix: Any  # in a form that BlackJAX takes
    averaging: Any  # the state of the dual averaging of the step size
    estimate: Any  # the state of the estimate of the metric
    window: jax.Array  # how many windows have ended
    history: Any  # the step size and metric at the end of each window


class Warming(NamedTuple):
    """The state of a chain, BlackJAX's, and what has been adapted."""

    chain: Any
    tuned: Tuned


# One transition of BlackJAX: its chain, and the statistics of the draw.
Move = Callable[[jax.Array, Any, Tuned], tuple[Any, dict[str, jax.Array]]]


class WindowedWarmup:
    """Stan's adaptation in growing windows, from BlackJAX's parts.

    Sources: Hoffman and Gelman (2014), https://jmlr.org/papers/v15/hoffman14a.html, for the step
    size; the Stan reference manual, https://mc-stan.org/docs/reference-manual/mcmc.html, for the
    windows. It differs in that the first metric is a guess of the covariance, not the identity, and
    in that the metric tells where the first window begins and how long it is.
    """

    def __init__(
        self, metric: AbstractMetric, num_warmup: int, target_acceptance_rate: float, dim: int
    ) -> None:
        from odecal.samplers import _blackjax as blackjax

        self.num_warmup = num_warmup
        averaging = blackjax.dual_averaging_adaptation(target_acceptance_rate)
        self.averaging_init, self.averaging_update, self.averaging_final = averaging
        schedule = np.zeros((num_warmup + 1, 2), bool)  # one more, for an index past the end
        if num_warmup:
            windows = blackjax.build_schedule(
                num_warmup,
                initial_buffer_size=metric.settling,
                final_buffer_size=min(_SETTLING_DOWN, num_warmup // 3),
                first_window_size=metric.first_window,
            )
            schedule[:-1] = np.asarray(windows, bool)
        self.in_slow_window, self.ends_window = schedule.T
        self.window_ends = np.flatnonzero(self.ends_window)
        begin = int(np.argmax(self.in_slow_window)) - 1
        longest = int(np.diff(self.window_ends, prepend=begin).max(initial=0))
        self.estimator = metric.estimator(dim, longest)

    def kernel(self, move: Move) -> Kernel:
        """The kernel of chains whose every transition is `move(key, chain, tuned)`."""
        from odecal.samplers import _blackjax as blackjax

        def init(key: jax.Array, start: Start) -> Warming:
            del key
            chain = blackjax.HMCState(start.position, start.logdensity, start.gradient)
            return Warming(chain, self.init(start.covariance))

        def step(key: jax.Array, state: Warming, index: jax.Array) -> tuple[Warming, Draw]:
            chain, stats = move(key, state.chain, state.tuned)
            tuned = jax.lax.cond(
                index < self.num_warmup,
                lambda: self._adapt(state.tuned, chain, stats["acceptance_rate"], index),
                lambda: state.tuned,
            )
            stats["step_size"] = state.tuned.step_size
            return Warming(chain, tuned), Draw(chain.position, stats)

        return Kernel(init, step, _trace)

    def init(self, covariance: Covariance) -> Tuned:
        """The step size and metric to begin with, from a guess of the covariance."""
        estimate = self.estimator.init(covariance)
        # The guess makes the density round, for which this is about right.
        step_size = jnp.asarray(0.8 / len(covariance) ** 0.25, covariance.dtype)
        matrix = estimate.inverse_mass_matrix
        count = max(1, len(self.window_ends))
        history = jax.tree.map(
            lambda x: jnp.full((count, *x.shape), jnp.nan, x.dtype), (step_size, matrix)
        )
        return Tuned(
            step_size, matrix, self.averaging_init(step_size), estimate, jnp.asarray(0), history
        )

    def _adapt(
        self, tuned: Tuned, chain: Any, acceptance_rate: Float[Array, ""], index: Int[Array, ""]
    ) -> Tuned:
        """Adapt to a transition of warm-up."""
        averaging = self.averaging_update(tuned.averaging, acceptance_rate)
        estimate = jax.lax.cond(
            jnp.asarray(self.in_slow_window)[index],
            lambda: self.estimator.update(tuned.estimate, chain.position, chain.logdensity_grad),
            lambda: tuned.estimate,
        )
        tuned = tuned._replace(averaging=averaging, estimate=estimate)
        tuned = jax.lax.cond(
            jnp.asarray(self.ends_window)[index], self._end_window, lambda tuned: tuned, tuned
        )
        last = index == self.num_warmup - 1
        averaging = tuned.averaging
        averaged, now = self.averaging_final(averaging), jnp.exp(averaging.log_step_size)
        return tuned._replace(step_size=jnp.where(last, averaged, now))

    def _end_window(self, tuned: Tuned) -> Tuned:
        step_size = self.averaging_final(tuned.averaging)
        estimate = self.estimator.final(tuned.estimate)
        matrix = estimate.inverse_mass_matrix
        history = jax.tree.map(
            lambda kept, x: kept.at[tuned.window].set(x), tuned.history, (step_size, matrix)
        )
        return tuned._replace(
            averaging=self.averaging_init(step_size),
            estimate=estimate,
            inverse_mass_matrix=matrix,
            window=tuned.window + 1,
            history=history,
        )


def _trace(state: Warming) -> dict[str, jax.Array]:
    """The trace of warm-up, by name: step size and metric at the end of each window."""
    step_size, matrix = state.tuned.history
    return {
        "window_step_size": step_size,
        **_named(matrix, "window_"),
        **_named(state.tuned.inverse_mass_matrix, ""),
    }


def _named(matrix: Any, prefix: str) -> dict[str, jax.Array]:
    """An inverse mass matrix, or the factors of one of low rank, by name."""
    if not hasattr(matrix, "_fields"):
        return {f"{prefix}inverse_mass_matrix": matrix}
    names = {"sigma": "metric_scale", "U": "metric_directions", "lam": "metric_eigenvalues"}
    return {f"{prefix}{name}": getattr(matrix, field) for field, name in names.items()}
