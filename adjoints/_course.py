"""The changes on the way of a solve, as functions of the state as a vector and of what moves it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.lax import stop_gradient
from odecal.adjoints._explicit_loop import Lanes, Stops
from odecal.adjoints._jumps import Crossing, Jumps, Schedule, changed_on_time, rows_at
from odecal.adjoints._problem import Problem
from odecal.adjoints._runge_kutta import row

# The state after a change, of the state before, the schedule and the parameters: all that it may
# be differentiated by.
Move = Callable[[jax.Array, Schedule, Any], jax.Array]


class Course:
    """The changes on the way of one solve.

    Args:
        problem: the problem.
        unravel: from a vector of all elements of the state to the state as it was given.
        jumps: what happens on the way.
        args: the parameters.
        schedule: what happens at known times, where it has been computed already.
    """

    def __init__(
        self,
        problem: Problem,
        unravel: Callable[[jax.Array], Any],
        jumps: Jumps,
        args: Any,
        schedule: Schedule | None = None,
    ) -> None:
        self._terms: diffrax.ODETerm = problem.terms
        self._unravel = unravel
        self._jumps = jumps
        self._args = args
        self.schedule = jumps.schedule(args) if schedule is None else schedule

    def between(self, i: jax.Array) -> Any:
        """What the vector field is given after i known changes, beside the parameters."""
        return rows_at(self.schedule.between, i)

    def stops(
        self,
        lanes_after: Callable[[Move, Lanes], Lanes],
        between: Callable[[jax.Array], Any],
        of_state: Callable[[Any], Any] = lambda within: within,
    ) -> Stops:
        """Where lanes change.

        Args:
            lanes_after: the lanes after a change of the state, of that change and the lanes before.
            between: what the field of the lanes is given after so many known changes.
            of_state: of this, what the field of the state alone is given.
        """

        def leap(i: jax.Array, t: jax.Array, z: Lanes) -> Lanes:
            del t
            return lanes_after(self.known(i), z)

        def cross(which: jax.Array, i: jax.Array, t: jax.Array, z: Lanes) -> Lanes:
            found = [lanes_after(self._crossed(c, i, t), z) for c in self._jumps.crossings]
            return jnp.stack(found)[which]

        def condition(crossing: Crossing, t: jax.Array, y: jax.Array, within: Any) -> jax.Array:
            return crossing.condition(t, self._unravel(y), (self._args, of_state(within)))

        conditions = tuple(partial(condition, crossing) for crossing in self._jumps.crossings)
        late = self._jumps.late
        return Stops(self.schedule.times, between, leap, late, conditions, cross, of_state)

    def known(self, i: jax.Array) -> Move:
        """The i-th known change."""

        def move(y: jax.Array, schedule: Schedule, args: Any) -> jax.Array:
            t, changes = row(schedule.times, i), rows_at(schedule.changes, i)
            fields = self._around(t, schedule, args, i, 1)

            def change(t: jax.Array, y: jax.Array) -> jax.Array:
                return self._flat(self._jumps.change(t, self._unravel(y), args, changes), y)

            return changed_on_time(fields, t, y, change)

        return move

    def _crossed(self, crossing: Crossing, i: jax.Array, t: jax.Array) -> Move:
        """The change at a crossing at a time t, after i known changes.

        The time moves with what moves the condition c: δ = −δc / ċ, along the flow.
        """

        def move(y: jax.Array, schedule: Schedule, args: Any) -> jax.Array:
            given = (args, rows_at(schedule.between, i))
            fields = self._around(t, schedule, args, i, 0)

            def condition(t: jax.Array, y: jax.Array) -> jax.Array:
                return crossing.condition(t, self._unravel(y), given)

            value, slope = jax.jvp(condition, (t, y), (jnp.ones_like(t), fields(y, False)))
            moved = (value - stop_gradient(value)) / stop_gradient(slope)

            def change(t: jax.Array, y: jax.Array) -> jax.Array:
                return self._flat(crossing.change(t, self._unravel(y), given), y)

            return changed_on_time(fields, t - moved, y, change)

        return move

    def _around(
        self, t: jax.Array, schedule: Schedule, args: Any, i: jax.Array, more: int
    ) -> Callable[[jax.Array, bool], jax.Array]:
        """The derivative of the state before and after a change, with `more` known ones behind."""

        def field(y: jax.Array, after: bool) -> jax.Array:
            between = rows_at(schedule.between, i + (more if after else 0))
            return self._flat(self._terms.vector_field(t, self._unravel(y), (args, between)), y)

        return field

    def _flat(self, state: Any, like: jax.Array) -> jax.Array:
        return ravel_pytree(state)[0].astype(like.dtype)
