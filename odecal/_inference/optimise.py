"""Climbs to modes, and evaluations: one program, whose steps count in scales of the prior."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix

from odecal._jax.backend import usable_devices
from odecal._jax.programs import Compiler, jit_sharded, map_or_vmap, padded
from odecal.samplers import Target
from odecal.samplers._base import covariance_shape

# A climb ends where this little, in nats, is to be gained by a step.
_LITTLE = 1e-4


class Climb(NamedTuple):
    """The end of a climb, and what is known there.

    Args:
        end: the position, of shape (dim,).
        curvature: the optimiser's estimate of the inverse curvature, of shape (dim, dim), in
            scales; ones, of shape (dim,), where dimensions are many.
        logdensity: the log density.
        gradient: its gradient, of shape (dim,).
        stopped: whether there was little to be gained by a further step.
        steps: how many steps it took, each of which evaluates density and gradient.
    """

    end: Any
    curvature: Any
    logdensity: Any
    gradient: Any
    stopped: Any
    steps: Any


class Climber:
    """The compiled program that climbs from many positions.

    Args:
        target: the density; all to be called within its precision.
        compiler: compiles the program.
        count: how many climbs there are at a time.
    """

    def __init__(self, target: Target, compiler: Compiler, count: int) -> None:
        devices = usable_devices(count)
        self.batch = padded(count, len(devices))
        self._dtype = np.dtype(jnp.result_type(float))

        def climb(positions: jax.Array, steps: jax.Array, scale: jax.Array) -> Climb:
            return map_or_vmap(partial(_climb, target.logdensity_fn, scale))(positions, steps)

        self._program = compiler(
            jit_sharded(climb, devices, batched=2, replicated=1),
            jax.ShapeDtypeStruct((self.batch, target.dim), self._dtype),
            jax.ShapeDtypeStruct((self.batch,), np.int32),
            jax.ShapeDtypeStruct((target.dim,), self._dtype),
        )

    def wait(self) -> None:
        """Wait until the program is compiled."""
        self._program.wait()

    def __call__(self, positions: np.ndarray, scale: np.ndarray, max_steps: int) -> Climb:
        """Climb.

        Args:
            positions: where from, of shape (n, dim).
            scale: the scale of each dimension, of shape (dim,).
            max_steps: the most steps of a climb. The first evaluates, and does not move.

        Returns:
            The ends, with a leading axis of climbs.
        """
        positions = positions.astype(self._dtype)
        index = np.resize(np.arange(len(positions)), padded(len(positions), self.batch))
        steps, scale = np.full(self.batch, max_steps, np.int32), scale.astype(self._dtype)
        parts = [
            jax.tree.map(
                np.asarray, self._program(positions[index[i : i + self.batch]], steps, scale)
            )
            for i in range(0, len(index), self.batch)
        ]
        return Climb(*(np.concatenate(x)[: len(positions)] for x in zip(*parts, strict=True)))

    def evaluate(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The log density and gradient of positions, of shapes (n,) and (n, dim)."""
        found = self(positions, np.ones(positions.shape[1]), 1)
        return found.logdensity, found.gradient


def _climb(
    logdensity_fn: Callable[[jax.Array], jax.Array],
    scale: jax.Array,
    position: jax.Array,
    max_steps: jax.Array,
) -> Climb:
    """Climb from a position by BFGS, or by its kind of limited memory where dimensions are many.

    The number of steps is an argument, so that the same program also evaluates a position.
    """
    dense = len(covariance_shape(len(position))) == 2
    kind = optimistix.BFGS if dense else optimistix.LBFGS
    solver: Any = kind(rtol=0.0, atol=_LITTLE)

    def objective(z: jax.Array, args: Any) -> tuple[jax.Array, None]:
        del args
        return -logdensity_fn(position + scale * z), None

    fixed: Any = (None, {})  # neither arguments nor options
    scalar, here = jax.ShapeDtypeStruct((), position.dtype), jnp.zeros_like(position)
    state = solver.init(objective, here, *fixed, scalar, None, frozenset())
    arrays, rest = eqx.partition(state, eqx.is_array)

    def climbing(carry: Any) -> jax.Array:
        _, _, _, steps, stopped = carry
        return (steps < max_steps) & ~stopped

    def step(carry: Any) -> Any:
        z, arrays, radius, steps, _ = carry
        z, state, _ = solver.step(objective, z, *fixed, eqx.combine(arrays, rest), frozenset())
        still, _ = solver.terminate(objective, z, *fixed, state, frozenset())
        state, radius, stopped = _within(z, state, radius, still)
        return z, eqx.filter(state, eqx.is_array), radius, steps + 1, stopped

    one = jnp.ones((), position.dtype)
    begin = (here, arrays, one, jnp.zeros((), jnp.int32), jnp.zeros((), bool))
    z, arrays, _, steps, stopped = jax.lax.while_loop(climbing, step, begin)
    found = eqx.combine(arrays, rest).f_info
    curvature = found.hessian_inv.as_matrix() if dense else jnp.ones_like(position)
    return Climb(position + scale * z, curvature, -found.f, -found.grad / scale, stopped, steps)


def _within(
    z: jax.Array, state: Any, radius: jax.Array, still: jax.Array
) -> tuple[Any, jax.Array, jax.Array]:
    """An optimiser's state whose next step is within a radius; the next radius; whether to stop.

    The first guess of the curvature can send a step far out, where solves fail, at length. A radius
    is a scale of the prior; it is doubled for as long as whole steps of that length are taken.
    """
    newton, gradient = state.descent_state.newton, state.f_info.grad
    # Where a step would gain much, and yet nothing moves, the curvature is wrong: straight up.
    stopped = still & (gradient @ newton < 1.0)
    newton = jnp.where(still, gradient, newton)
    accepted, length = state.search_state.step_size == 1.0, jnp.max(jnp.abs(newton))
    newton = jnp.where(accepted, jnp.minimum(1.0, radius / length), 1.0) * newton
    radius = jnp.where(accepted & (length > radius), 2.0 * radius, 1.0)
    ahead = z - state.search_state.step_size * newton
    state = eqx.tree_at(lambda s: (s.y_eval, s.descent_state.newton), state, (ahead, newton))
    return state, radius, stopped
