"""The no-U-turn sampler of NumPyro."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from odecal._errors import SettingsError
from odecal.samplers._base import (
    AbstractSampler,
    Draw,
    Kernel,
    Run,
    Start,
    Target,
    as_diagonal,
    as_matrix,
    check_between,
)
from odecal.samplers._metrics import AbstractMetric, DenseMetric, DiagonalMetric


class NumPyroNUTS(AbstractSampler):
    """The no-U-turn sampler of NumPyro: an independent implementation of the same method.

    A solve that fails ends a trajectory as a divergence; NumPyro does not tell the two apart, so
    `sample_stats` has no `failed_solves`.

    Sources: Phan, Pradhan and Jankowiak (2019), https://arxiv.org/abs/1912.11554; Hoffman and
    Gelman (2014), https://jmlr.org/papers/v15/hoffman14a.html.

    Args:
        target_acceptance_rate: what the step size is adapted to; higher is safer and slower.
        max_tree_depth: the largest number of doublings of a trajectory.
        metric: `DenseMetric()` or `DiagonalMetric()`, estimated by NumPyro; None takes a dense one
            up to 50 dimensions.

    Raises:
        SettingsError: if a setting cannot work.
    """

    target_acceptance_rate: float = 0.8
    max_tree_depth: int = 10
    metric: AbstractMetric | None = None

    def __check_init__(self) -> None:
        check_between(self, "target_acceptance_rate", 0, 1)
        check_between(self, "max_tree_depth", 1, 20, whole=True)
        if self.metric is not None and not isinstance(self.metric, (DenseMetric, DiagonalMetric)):
            raise SettingsError(
                "NumPyroNUTS(metric=...) expects DenseMetric() or DiagonalMetric(), which NumPyro "
                f"has. Got {self.metric!r}. odecal.samplers.NUTS takes every metric."
            )

    def kernel(self, target: Target, run: Run) -> Kernel:
        """Build the kernel. See the base class."""
        from numpyro.infer.hmc import hmc
        from numpyro.infer.util import ParamInfo

        dense = isinstance(self.metric or (target.dim <= 50 and DenseMetric()), DenseMetric)

        def set_up(
            here: Any, covariance: jax.Array, scale: jax.Array, key: jax.Array
        ) -> tuple[Any, Any]:
            # NumPyro draws every metric towards the identity: so in units of the guessed scales.
            init_kernel, sample_kernel = hmc(
                lambda z: -target.logdensity_fn(scale * z), algo="NUTS"
            )
            matrix = as_matrix(covariance) / (scale[:, None] * scale)
            state = init_kernel(
                here,
                run.num_warmup,
                step_size=0.8 / target.dim**0.25,
                inverse_mass_matrix=matrix if dense else jnp.ones_like(scale),
                dense_mass=dense,
                target_accept_prob=self.target_acceptance_rate,
                max_tree_depth=self.max_tree_depth,
                rng_key=key,
            )
            return state, sample_kernel

        def init(key: jax.Array, start: Start) -> _State:
            scale = jnp.sqrt(as_diagonal(start.covariance))
            here = ParamInfo(start.position / scale, -start.logdensity, -start.gradient * scale)
            chain, _ = set_up(here, start.covariance, scale, key)
            return _State(chain, start.covariance, scale)

        def step(key: jax.Array, state: _State, index: jax.Array) -> tuple[_State, Draw]:
            del index  # the state counts for itself
            key_set_up, key = jax.random.split(key)
            old = state.chain._replace(rng_key=key)
            # The kernel keeps arrays of its set-up, which belong to one trace: set up in this one.
            here = ParamInfo(old.z, old.potential_energy, old.z_grad)
            _, sample_kernel = set_up(here, state.covariance, state.scale, key_set_up)
            new = sample_kernel(old)
            stats = {
                "lp": -new.potential_energy,
                "energy": new.energy,
                "acceptance_rate": new.accept_prob,
                "step_size": old.adapt_state.step_size,
                "n_steps": new.num_steps,
                "tree_depth": jnp.log2(jnp.maximum(new.num_steps, 1)).astype(jnp.int32) + 1,
                "diverging": new.diverging,
            }
            return state._replace(chain=new), Draw(state.scale * new.z, stats)

        def adaptation(state: _State) -> dict[str, jax.Array]:
            matrix, scale = state.chain.adapt_state.inverse_mass_matrix, state.scale
            return {"inverse_mass_matrix": scale * matrix * (scale[:, None] if dense else scale)}

        return Kernel(init, step, adaptation)


class _State(NamedTuple):
    chain: Any
    covariance: jax.Array
    scale: jax.Array
