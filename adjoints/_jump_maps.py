"""The jumps of one solve as differentiable maps of the state, as a vector."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.lax import stop_gradient
from jaxtyping import Array, Float
from odecal.adjoints._jumps import Jumps, Schedule
from odecal.adjoints._rows import row_at

# The state after a jump, of the state before, the schedule and the parameters: all that it may be
# differentiated by.
JumpMap = Callable[[jax.Array, Schedule, Any], jax.Array]


@dataclass(frozen=True, eq=False)
class JumpMaps:
    """The jumps of one solve, as they are declared, and their schedule, computed."""

    terms: diffrax.ODETerm
    unravel: Callable[[jax.Array], Any]
    jumps: Jumps
    args: Any
    schedule: Schedule

    def condition(self, n: int, t: jax.Array, y: jax.Array, between: Any) -> jax.Array:
        """The n-th condition."""
        crossing = self.jumps.crossings[n]
        return crossing.condition(t, self.unravel(y), (self.args, between))

    def at_time(self, i: jax.Array) -> JumpMap:
        """The jump at the i-th known time."""

        def jump(y: jax.Array, schedule: Schedule, args: Any) -> jax.Array:
            t, changes = row_at((schedule.times, schedule.changes), i)
            field = self._field_around(t, schedule, args, (i, i + 1))

            def change(y: jax.Array) -> jax.Array:
                return self._ravel(self.jumps.change(t, self.unravel(y), args, changes), y)

            return _following_time(field, t, y, change)

        return jump

    def at_event(self, n: int, i: jax.Array, t: jax.Array) -> JumpMap:
        """The jump where the n-th condition c falls at a time t, after i known jumps.

        The time moves with the condition, along the flow: δt = −δc / ċ.
        """
        crossing = self.jumps.crossings[n]

        def jump(y: jax.Array, schedule: Schedule, args: Any) -> jax.Array:
            given = (args, row_at(schedule.between, i))
            field = self._field_around(t, schedule, args, (i, i))

            def condition(t: jax.Array, y: jax.Array) -> jax.Array:
                return crossing.condition(t, self.unravel(y), given)

            value, slope = jax.jvp(condition, (t, y), (jnp.ones_like(t), field(y, False)))
            shift = (value - stop_gradient(value)) / stop_gradient(slope)
            moved = t - shift

            def change(y: jax.Array) -> jax.Array:
                return self._ravel(crossing.change(moved, self.unravel(y), given), y)

            return _following_time(field, moved, y, change)

        return jump

    def _field_around(
        self, t: jax.Array, schedule: Schedule, args: Any, rows: tuple[jax.Array, jax.Array]
    ) -> Callable[[jax.Array, bool], jax.Array]:
        """The derivative of the state before and after a jump, by the rows of `between`."""

        def field(y: jax.Array, after: bool) -> jax.Array:
            given = (args, row_at(schedule.between, rows[after]))
            return self._ravel(self.terms.vector_field(t, self.unravel(y), given), y)

        return field

    def _ravel(self, state: Any, like: jax.Array) -> jax.Array:
        return ravel_pytree(state)[0].astype(like.dtype)


def _following_time(
    field: Callable[[jax.Array, bool], jax.Array],
    t: jax.Array,
    y: Float[Array, " element"],
    change: Callable[[jax.Array], jax.Array],
) -> Float[Array, " element"]:
    """The state after a jump, with its derivative by the time of the jump.

    The solve before stops at a time of which it does not know that it may move. Moved by δ, the
    state before moves by f δ with the flow before, and the jump moves the start of the flow
    after: so δ, which is zero but has a derivative, shifts the state along both.

        y⁺ = g(y⁻ + f(t, y⁻) δ) − f⁺(t, y⁺) δ,    δ = t − stop_gradient(t)

    `field` is the derivative of a state, and of whether it is the one after; `change` is g.
    """
    shift = (t - stop_gradient(t)).astype(y.dtype)
    after = change(y + field(y, False) * shift)
    return after - field(after, True) * shift
