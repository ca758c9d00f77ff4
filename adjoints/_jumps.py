"""Jumps of the state during a solve: at known times, or where a condition falls below zero."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped


class Schedule(NamedTuple):
    """Known times at which a solve stops, changes its state, and goes on.

    All are floating-point arrays. They may depend on what is differentiated by: the gradient
    follows the times as well as the changes.

    Args:
        times: when, sorted; infinity for none.
        changes: what each change needs, a pytree with a leading axis of n.
        between: what the vector field is given before the first change, between each and the
            next, and after the last: a pytree with a leading axis of n + 1.
        ranks: the order of changes at the same time, not decreasing among these; None for 0.
    """

    times: Float[Array, " n"]
    changes: Any
    between: Any
    ranks: Float[Array, " n"] | None = None

    @property
    def order(self) -> Float[Array, "*batch n"]:
        """The ranks, also where there are none."""
        return jnp.zeros_like(self.times) if self.ranks is None else self.ranks


class Crossing(eqx.Module):
    """A change of the state wherever a condition on it falls below zero.

    Args:
        condition: a scalar function of (t, y, args), positive before.
        change: the state after, a function of (t, y, args).
    """

    condition: Callable[[Any, Any, Any], jax.Array] = eqx.field(static=True)
    change: Callable[[Any, Any, Any], Any] = eqx.field(static=True)


class Jumps(eqx.Module):
    """All changes of the state during a solve.

    With it, the vector field is given `(args, between)` instead of `args` alone, where `between`
    is the row of `Schedule.between` in force; so are the functions of a crossing.

    Args:
        schedule: the known times, a function of `args`.
        change: the state after a known time, a function of (t, y, args, the row of
            `Schedule.changes`).
        save_ranks: each saved time sees those changes at the same time whose rank is below this;
            None for 0, which is the state before all of them.
        crossings: what happens where a condition falls below zero.
    """

    schedule: Callable[[Any], Schedule] = eqx.field(static=True)
    change: Callable[[Any, Any, Any, Any], Any] = eqx.field(static=True)
    save_ranks: Shaped[Array, " time"] | None = None
    crossings: tuple[Crossing, ...] = ()
