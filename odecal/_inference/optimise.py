"""Maximising a log density from many positions, and evaluating it: one compiled program.

Steps are taken in units of the scales of the prior.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
from jaxtyping import Array, Bool, Float, Int

from odecal._jax.backend import usable_devices
from odecal._jax.programs import Compiler, jit_sharded, map_or_vmap, padded
from odecal.samplers import Target
from odecal.samplers._base import covariance_shape

# An optimisation ends where a step would gain less than this, in nats.
_MIN_GAIN = 1e-4


class Optimum(NamedTuple):
    """Where optimisations ended, or a single one."""

    position: Float[Any, "*n dim"]
    # The optimiser's estimate of the inverse Hessian, in units of the scales; ones where dimensions
    # are many.
    curvature: Float[Any, "*n dim dim"] | Float[Any, "*n dim"]
    logdensity: Float[Any, "*n"]
    gradient: Float[Any, "*n dim"]
    converged: Bool[Any, "*n"]  # whether a further step would have gained little
    steps: Int[Any, "*n"]  # each of which evaluates density and gradient


class Optimiser:
    """The compiled program that maximises a log density from `count` positions at a time.

    All is to be called within the precision of the density.
    """

    def __init__(self, target: Target, compiler: Compiler, count: int) -> None:
        devices = usable_devices(count)
        self.batch = padded(count, len(devices))
        self._dtype = np.dtype(jnp.result_type(float))

        def ascend(positions: jax.Array, steps: jax.Array, scale: jax.Array) -> Optimum:
            return map_or_vmap(partial(_ascend, target.logdensity_fn, scale))(positions, steps)

        self._program = compiler(
            jit_sharded(ascend, devices, batched=2, replicated=1),
            jax.ShapeDtypeStruct((self.batch, target.dim), self._dtype),
            jax.ShapeDtypeStruct((self.batch,), np.int32),
            jax.ShapeDtypeStruct((target.dim,), self._dtype),
        )

    def wait(self) -> None:
        """Wait until the program is compiled."""
        self._program.wait()

    def __call__(
        self,
        positions: Float[np.ndarray, "n dim"],
        scale: Float[np.ndarray, " dim"],
        max_steps: int,
    ) -> Optimum:
        """Maximise from each position. The first of all steps evaluates, and does not move."""
        positions = positions.astype(self._dtype)
        index = np.resize(np.arange(len(positions)), padded(len(positions), self.batch))
        steps, scale = np.full(self.batch, max_steps, np.int32), scale.astype(self._dtype)
        parts = [
            jax.tree.map(
                np.asarray, self._program(positions[index[i : i + self.batch]], steps, scale)
            )
            for i in range(0, len(index), self.batch)
        ]
        return Optimum(*(np.concatenate(x)[: len(positions)] for x in zip(*parts, strict=True)))

    def evaluate(
        self, positions: Float[np.ndarray, "n dim"]
    ) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n dim"]]:
        """The log density and gradient of positions."""
        found = self(positions, np.ones(positions.shape[1]), 1)
        return found.logdensity, found.gradient


def _ascend(
    logdensity_fn: Callable[[jax.Array], jax.Array],
    scale: Float[Array, " dim"],
    position: Float[Array, " dim"],
    max_steps: Int[Array, ""],
) -> Optimum:
    """Maximise from a position by BFGS, or by L-BFGS where dimensions are many.

    The number of steps is an argument, so that the same program also evaluates a position.
    """
    dense = len(covariance_shape(len(position))) == 2
    kind = optimistix.BFGS if dense else optimistix.LBFGS
    solver: Any = kind(rtol=0.0, atol=_MIN_GAIN)

    def objective(z: jax.Array, args: Any) -> tuple[jax.Array, None]:
        del args
        return -logdensity_fn(position + scale * z), None

    nothing: Any = (None, {})  # neither arguments nor options
    scalar, origin = jax.ShapeDtypeStruct((), position.dtype), jnp.zeros_like(position)
    state = solver.init(objective, origin, *nothing, scalar, None, frozenset())
    arrays, rest = eqx.partition(state, eqx.is_array)

    def running(carry: Any) -> jax.Array:
        _, _, _, steps, converged = carry
        return (steps < max_steps) & ~converged

    def step(carry: Any) -> Any:
        z, arrays, radius, steps, _ = carry
        z, state, _ = solver.step(objective, z, *nothing, eqx.combine(arrays, rest), frozenset())
        settled, _ = solver.terminate(objective, z, *nothing, state, frozenset())
        state, radius, converged = _within_radius(z, state, radius, settled)
        return z, eqx.filter(state, eqx.is_array), radius, steps + 1, converged

    one = jnp.ones((), position.dtype)
    begin = (origin, arrays, one, jnp.zeros((), jnp.int32), jnp.zeros((), bool))
    z, arrays, _, steps, converged = jax.lax.while_loop(running, step, begin)
    found = eqx.combine(arrays, rest).f_info
    curvature = found.hessian_inv.as_matrix() if dense else jnp.ones_like(position)
    return Optimum(position + scale * z, curvature, -found.f, -found.grad / scale, converged, steps)


def _within_radius(
    z: Float[Array, " dim"], state: Any, radius: Float[Array, ""], settled: Bool[Array, ""]
) -> tuple[Any, Float[Array, ""], Bool[Array, ""]]:
    """An optimiser's state whose next step is within a radius; the next radius; whether to stop.

    The first guess of the curvature can send a step far out, where solves fail after many steps.
    The radius begins at one scale of the prior, and is doubled while whole steps of that length are
    accepted.
    """
    newton, gradient = state.descent_state.newton, state.f_info.grad
    # Where a step would gain much, and yet nothing moves, the curvature is wrong: follow the
    # gradient.
    converged = settled & (gradient @ newton < 1.0)
    newton = jnp.where(settled, gradient, newton)
    accepted, length = state.search_state.step_size == 1.0, jnp.max(jnp.abs(newton))
    newton = jnp.where(accepted, jnp.minimum(1.0, radius / length), 1.0) * newton
    radius = jnp.where(accepted & (length > radius), 2.0 * radius, 1.0)
    ahead = z - state.search_state.step_size * newton
    state = eqx.tree_at(lambda s: (s.y_eval, s.descent_state.newton), state, (ahead, newton))
    return state, radius, converged
