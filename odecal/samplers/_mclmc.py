"""Adjusted microcanonical Langevin Monte Carlo."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from odecal._errors import SettingsError
from odecal.samplers._base import AbstractSampler, Kernel, Run, Target, check_between
from odecal.samplers._metrics import AbstractMetric, DenseMetric, DiagonalMetric, LowRankMetric
from odecal.samplers._warmup import Tuned, WindowedWarmup


class AdjustedMCLMC(AbstractSampler):
    """Metropolis-adjusted microcanonical Langevin Monte Carlo of BlackJAX.

    The momentum has a fixed length, so a trajectory moves at constant speed: with dim dimensions
    made round by the metric, ⌈u × length × √dim / step size⌉ steps, u uniform on (0, 2). The step
    size and metric are adapted as for the no-U-turn sampler; steps are of fourth order, with two
    gradients each.

    Sources: Robnik, De Luca, Silverstein and Seljak (2023),
    https://jmlr.org/papers/v24/22-1450.html; Robnik, Cohn-Gordon and Seljak (2025),
    https://arxiv.org/abs/2503.01707.

    Args:
        length: the mean length of a trajectory over √dim, in the units of the metric.
        target_acceptance_rate: what the step size is adapted to.
        max_integration_steps: the largest number of steps of a trajectory.
        metric: `DenseMetric()`, `ShrunkMetric()` or `DiagonalMetric()`; None takes a dense one up
            to 50 dimensions.

    Raises:
        SettingsError: if a setting cannot work.
    """

    length: float = 1.5
    target_acceptance_rate: float = 0.9
    max_integration_steps: int = 1024
    metric: AbstractMetric | None = None

    def __check_init__(self) -> None:
        check_between(self, "length", 0, math.inf)
        check_between(self, "target_acceptance_rate", 0, 1)
        check_between(self, "max_integration_steps", 1, 2**20, whole=True)
        if isinstance(self.metric, LowRankMetric):
            raise SettingsError(
                "AdjustedMCLMC(metric=...) expects DenseMetric(), ShrunkMetric() or "
                f"DiagonalMetric(). Got {self.metric!r}."
            )

    def kernel(self, target: Target, run: Run) -> Kernel:
        """Build the kernel. See the base class."""
        from odecal.samplers import _blackjax as blackjax

        if target.dim < 2:
            raise SettingsError(
                "AdjustedMCLMC() turns a momentum of fixed length and expects at least two "
                f"dimensions. Got {target.dim}. Take odecal.samplers.NUTS()."
            )
        metric = self.metric or (DenseMetric() if target.dim <= 50 else DiagonalMetric())
        warmup = WindowedWarmup(metric, run.num_warmup, self.target_acceptance_rate, target.dim)
        transition = blackjax.adjusted_mclmc_kernel()
        mean_length = self.length * math.sqrt(target.dim)

        def move(key: jax.Array, old: Any, tuned: Tuned) -> tuple[Any, dict[str, jax.Array]]:
            # The microcanonical integrator takes no dense metric: move in coordinates made round.
            spread, pull, unpull = _round(tuned.inverse_mass_matrix)

            def rounded(z: jax.Array) -> jax.Array:
                return target.logdensity_fn(old.position + spread(z))

            key_steps, key_transition = jax.random.split(key)
            mean_steps = mean_length / tuned.step_size
            num_steps = jnp.ceil(jax.random.uniform(key_steps, maxval=2.0) * mean_steps)
            num_steps = jnp.clip(num_steps, 1, self.max_integration_steps).astype(jnp.int32)
            here = blackjax.HMCState(
                jnp.zeros_like(old.position), old.logdensity, pull(old.logdensity_grad)
            )
            moved, info = transition(key_transition, here, rounded, tuned.step_size, (num_steps,))
            position = old.position + spread(moved.position)
            # With the gradient in the chain's own coordinates, for the next metric.
            chain = blackjax.HMCState(position, moved.logdensity, unpull(moved.logdensity_grad))
            rate = jnp.where(jnp.isfinite(info.acceptance_rate), info.acceptance_rate, 0.0)
            stats = {
                "lp": chain.logdensity,
                "acceptance_rate": rate,
                "accepted": info.is_accepted,
                "n_steps": 2 * num_steps,
                "diverging": info.is_divergent,
                "failed_solves": jnp.isneginf(info.proposal.logdensity).astype(jnp.int32),
            }
            return chain, stats

        return warmup.kernel(move)


def _round(matrix: jax.Array) -> tuple[Any, Any, Any]:
    """From round coordinates to the chain's; gradients the other way; and these back."""
    if matrix.ndim == 1:
        scale = jnp.sqrt(matrix)
        return lambda z: scale * z, lambda g: scale * g, lambda g: g / jnp.sqrt(matrix)
    factor = jnp.linalg.cholesky(matrix)
    back = partial(jax.scipy.linalg.solve_triangular, factor.T)
    return lambda z: factor @ z, lambda g: factor.T @ g, back
