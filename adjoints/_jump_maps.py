"""The changes on the way of a solve, as functions of the state as a vector and of what moves it."""

from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.lax import stop_gradient
from odecal.adjoints._erk.tableau import row
from odecal.adjoints._jumps import Jumps, Schedule, changed_on_time, rows_at
from odecal.adjoints._problem import Problem

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

    def condition(self, n: int, t: jax.Array, y: jax.Array, between: Any) -> jax.Array:
        """The n-th condition."""
        crossing = self._jumps.crossings[n]
        return crossing.condition(t, self._unravel(y), (self._args, between))

    def known(self, i: jax.Array) -> Move:
        """The i-th known change."""

        def move(y: jax.Array, schedule: Schedule, args: Any) -> jax.Array:
            t, changes = row(schedule.times, i), rows_at(schedule.changes, i)
            fields = self._around(t, schedule, args, i, 1)

            def change(t: jax.Array, y: jax.Array) -> jax.Array:
                return self._flat(self._jumps.change(t, self._unravel(y), args, changes), y)

            return changed_on_time(fields, t, y, change)

        return move

    def crossed(self, n: int, i: jax.Array, t: jax.Array) -> Move:
        """The change where the n-th condition falls at a time t, after i known changes.

        The time moves with what moves the condition c: δ = −δc / ċ, along the flow.
        """
        crossing = self._jumps.crossings[n]

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
