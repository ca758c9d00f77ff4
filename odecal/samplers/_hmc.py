"""Static Hamiltonian Monte Carlo, with the same warm-up as the no-U-turn sampler."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from odecal.samplers._base import AbstractSampler, Kernel, Run, Target, check_between
from odecal.samplers._metrics import AbstractMetric, default_metric
from odecal.samplers._warmup import Tuned, WindowedWarmup


class HMC(AbstractSampler):
    """Static Hamiltonian Monte Carlo of BlackJAX: leapfrog for a fixed time, accept or reject.

    A trajectory takes ⌈time / step size⌉ leapfrog steps. `sample_stats` has, besides what every
    sampler gives, `accepted` and `energy_error`, the energy at the end of the trajectory less
    that at its beginning: the proposal is accepted with probability min(1, exp(−error)).

    Sources: Duane, Kennedy, Pendleton and Roweth (1987),
    https://doi.org/10.1016/0370-2693(87)91197-X; Neal (2011), https://arxiv.org/abs/1206.1901.

    Args:
        integration_time: how long a trajectory lasts, in the units of the metric; the default is a
            quarter of a period of a Gaussian.
        target_acceptance_rate: what the step size is adapted to.
        max_integration_steps: the largest number of leapfrog steps of a trajectory.
        metric: how the metric is estimated; None chooses by dimension.

    Raises:
        SettingsError: if a setting cannot work.
    """

    integration_time: float = math.pi / 2
    target_acceptance_rate: float = 0.8
    max_integration_steps: int = 1024
    metric: AbstractMetric | None = None

    def __check_init__(self) -> None:
        check_between(self, "integration_time", 0, math.inf)
        check_between(self, "target_acceptance_rate", 0, 1)
        check_between(self, "max_integration_steps", 1, 2**20, whole=True)

    def kernel(self, target: Target, run: Run) -> Kernel:
        """Build the kernel. See the base class."""
        from odecal.samplers import _blackjax as blackjax

        metric = self.metric or default_metric(target.dim)
        warmup = WindowedWarmup(metric, run.num_warmup, self.target_acceptance_rate, target.dim)
        transition = blackjax.hmc_kernel()

        def move(key: jax.Array, old: Any, tuned: Tuned) -> tuple[Any, dict[str, jax.Array]]:
            wanted = jnp.ceil(self.integration_time / tuned.step_size)
            num_steps = jnp.clip(wanted, 1, self.max_integration_steps).astype(jnp.int32)
            chain, info = transition(
                key,
                old,
                target.logdensity_fn,
                tuned.step_size,
                tuned.inverse_mass_matrix,
                num_steps,
            )
            kinetic = blackjax.default_metric(tuned.inverse_mass_matrix).kinetic_energy(
                info.momentum
            )
            stats = {
                "lp": chain.logdensity,
                "energy": kinetic - old.logdensity,
                "energy_error": info.energy - (kinetic - old.logdensity),
                "accepted": info.is_accepted,
                "acceptance_rate": info.acceptance_rate,
                "n_steps": num_steps,
                "diverging": info.is_divergent,
                "failed_solves": jnp.isneginf(info.proposal.logdensity).astype(jnp.int32),
            }
            return chain, stats

        return warmup.kernel(move)
