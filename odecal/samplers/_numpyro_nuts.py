"""The no-U-turn sampler of NumPyro."""

from typing import Any

import jax
import jax.numpy as jnp
from numpyro.infer.hmc import hmc, momentum_generator
from numpyro.infer.hmc_util import (
    IntegratorState,
    build_tree,
    euclidean_kinetic_energy,
    velocity_verlet,
)
from numpyro.infer.util import ParamInfo

from odecal.samplers._base import (
    AbstractSampler,
    Draw,
    Kernel,
    LogDensity,
    check_nuts,
    first_step_size,
    use_dense,
)


class NumPyroNUTS(AbstractSampler):
    """The no-U-turn sampler of NumPyro: an independent implementation of the same method.

    Sources: Phan, Pradhan and Jankowiak (2019), https://arxiv.org/abs/1912.11554; Hoffman and
    Gelman (2014), https://jmlr.org/papers/v15/hoffman14a.html.

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

        def potential_fn(position: jax.Array) -> jax.Array:
            return -logdensity_fn(position)

        def set_up(start: Any, key: jax.Array) -> tuple[Any, Any]:
            init_kernel, sample_kernel = hmc(potential_fn, algo="NUTS")
            state = init_kernel(
                start,
                num_warmup,
                step_size=first_step_size(num_warmup),
                dense_mass=use_dense(self.dense_mass, dim),
                target_accept_prob=self.target_acceptance_rate,
                max_tree_depth=self.max_tree_depth,
                rng_key=key,
            )
            return state, sample_kernel

        def init(key: jax.Array, position: jax.Array) -> Any:
            return set_up(position, key)[0]

        def step(key: jax.Array, state: Any, index: jax.Array) -> tuple[Any, Draw]:
            del index  # the state counts for itself
            # The kernel keeps arrays of its set-up, which belong to one trace: set up in this one.
            here = ParamInfo(state.z, state.potential_energy, state.z_grad)
            _, sample_kernel = set_up(here, key)
            state = state._replace(rng_key=key)
            new = sample_kernel(state)
            failed = jax.lax.cond(
                new.diverging, lambda: self._failed(state, potential_fn), lambda: jnp.int32(0)
            )
            stats = {
                "lp": -new.potential_energy,
                "energy": new.energy,
                "acceptance_rate": new.accept_prob,
                "step_size": state.adapt_state.step_size,
                "n_steps": new.num_steps,
                "tree_depth": _depth(new.num_steps),
                "diverging": new.diverging,
                "failed_solves": failed,
            }
            return new, Draw(new.z, stats)

        return Kernel(init, step)

    def _failed(self, state: Any, potential_fn: Any) -> jax.Array:
        """How many solves failed in a divergent transition: 1 or 0.

        NumPyro does not tell, so the same trajectory is grown again from the same key. A failed
        solve ends it, and so is at one of its ends.
        """
        _, key_momentum, key_transition = jax.random.split(state.rng_key, 3)
        adapted = state.adapt_state
        momentum = momentum_generator(state.z, adapted.mass_matrix_sqrt, key_momentum)
        _, update = velocity_verlet(potential_fn, euclidean_kinetic_energy)
        tree = build_tree(
            update,
            euclidean_kinetic_energy,
            IntegratorState(state.z, momentum, state.potential_energy, state.z_grad),
            adapted.inverse_mass_matrix,
            adapted.step_size,
            key_transition,
            max_tree_depth=self.max_tree_depth,
        )
        ends = jax.vmap(potential_fn)(jnp.stack([tree.z_left, tree.z_right]))
        return jnp.any(jnp.isposinf(ends)).astype(jnp.int32)


def _depth(num_steps: jax.Array) -> jax.Array:
    """The number of doublings that gave a trajectory of so many steps."""
    return jnp.floor(jnp.log2(jnp.maximum(num_steps, 1))).astype(jnp.int32) + 1
