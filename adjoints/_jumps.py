"""What happens to a solve on its way: changes of the state, at known times or where it crosses."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from odecal.adjoints._erk.tableau import row


class Schedule(NamedTuple):
    """Known times at which a solve stops, changes its state, and goes on.

    All are floating-point arrays. They may depend on what is differentiated by: the gradient
    follows the times as well as the changes.

    Args:
        times: when, sorted, of shape (n,); infinity for none.
        changes: what each change needs, a pytree with a leading axis of n.
        between: what the vector field is given before the first change, between each and the
            next, and after the last: a pytree with a leading axis of n + 1.
        ranks: the order of changes at the same time, not decreasing among these, of shape (n,);
            None for 0.
    """

    times: jax.Array
    changes: Any
    between: Any
    ranks: jax.Array | None = None

    @property
    def order(self) -> jax.Array:
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
    """All that happens to a solve on its way.

    With it, the vector field is given `(args, between)`, the row of `Schedule.between` of the
    stretch that it is in, instead of `args` alone; so are the functions of a crossing.

    Args:
        schedule: the known times, a function of `args`; None for none.
        change: the state after a known time, a function of (t, y, args, the row of
            `Schedule.changes`).
        late: below which rank each of the times to keep sees the changes at the same time, of
            shape (time,); None for 0.
        crossings: what happens where a condition falls below zero.
    """

    schedule: Callable[[Any], Schedule] = eqx.field(static=True)
    change: Callable[[Any, Any, Any, Any], Any] = eqx.field(static=True)
    late: jax.Array | None = None
    crossings: tuple[Crossing, ...] = ()


def rows_at(tree: Any, i: jax.Array) -> Any:
    """The i-th row of every array of a tree."""
    return jax.tree.map(lambda x: row(x, i), tree)


def changed_on_time(
    field: Callable[[Any, Any], Any], t: jax.Array, y: jax.Array, change: Callable[[Any, Any], Any]
) -> jax.Array:
    """The state after a change, with the derivative by the time of the change.

    A solve is integrated to a time of which it does not know that it may move. Moved by δ, the
    state before moves by f δ with the flow before, and the change moves the start of the flow
    after: so δ, which is zero but has a derivative, shifts the state along both.

        y⁺ = g(y⁻ + f(t, y⁻) δ) − f⁺(t, y⁺) δ,    δ = t − stop_gradient(t)

    Args:
        field: the derivative of the state, of a state and of whether it is the one after.
        t: the time.
        y: the state before, of shape (d,).
        change: the state after, of the time and the state before.
    """
    shift = (t - jax.lax.stop_gradient(t)).astype(y.dtype)
    after = change(t, y + field(y, False) * shift)
    return after - field(after, True) * shift
