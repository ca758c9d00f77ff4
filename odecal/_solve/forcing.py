"""Doses, inputs and events of one individual, as what happens to a solve on its way."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from odecal._solve.doses import Entry, dose_entries
from odecal._solve.forcing_data import ForcingData, ForcingFlags
from odecal._solve.steady_state import SteadyStates
from odecal._system.declaration import Declaration
from odecal._system.inputs import Event
from odecal._system.values import Values
from odecal.adjoints import Crossing, Jumps, Schedule

# Between a packed state and the states by name.
Pack = Callable[[Mapping[str, Any]], Float[Array, " element"]]
Unpack = Callable[[Float[Array, " element"]], Values]


@dataclass(frozen=True, eq=False)
class Forcing:
    """What drives a system, and changes its state, beside its vector field.

    Programs are made for what the doses of an experiment are like, and for how long it is.
    """

    declaration: Declaration
    flags: ForcingFlags = field(default_factory=ForcingFlags)
    span: float = 0.0

    @property
    def has_jumps(self) -> bool:
        """Whether anything happens on the way of a solve."""
        stepped = any(c.interpolation.jumps for c in self.declaration.inputs.values())
        return self.flags.doses or stepped or bool(self.declaration.events)

    def parameters_at(
        self, t: Any, p: Values, forcing_data: ForcingData | None, between: Any = None
    ) -> Values:
        """The record `p` with the inputs at a time, those that are constant from `between`."""
        if not self.declaration.inputs:
            return p
        assert forcing_data is not None
        values = dict(p)
        for name, c in self.declaration.inputs.items():
            if between is not None and name in between.inputs:
                values[name] = between.inputs[name]
            else:
                times, coefficients = forcing_data.inputs[name]
                values[name] = c.interpolation(t, times, coefficients)
        return Values(values, "parameter")

    def jumps(
        self, pack: Pack, unpack: Unpack, steady: SteadyStates, after_dose: jax.Array | None
    ) -> Jumps:
        """What happens on the way of a solve, whose parameters are `(p, forcing_data)`.

        Times to keep see those doses of the same time whose rank is below `after_dose`.
        """
        schedule = partial(_schedule, self, pack, steady)
        crossings = tuple(
            self._crossing(event, pack, unpack) for event in self.declaration.events.values()
        )
        return Jumps(schedule, _changed, after_dose, crossings)

    def _crossing(self, event: Event, pack: Pack, unpack: Unpack) -> Crossing:
        def inside(t: Any, y: jax.Array, args: Any) -> tuple[Any, Values, Values]:
            (p, forcing_data), between = args
            return t, unpack(y), self.parameters_at(t, p, forcing_data, between)

        def condition(t: Any, y: jax.Array, args: Any) -> jax.Array:
            return jnp.asarray(event.condition(*inside(t, y, args)), y.dtype)

        def change(t: Any, y: jax.Array, args: Any) -> jax.Array:
            t, states, p = inside(t, y, args)
            new = event.change(t, states, p)
            return pack({name: new.get(name, states[name]) for name in states}).astype(y.dtype)

        return Crossing(condition, change)


class Change(NamedTuple):
    """y⁺ = keep y⁻ + add, element by element."""

    keep: Float[Array, " element"]
    add: Float[Array, " element"]


class Between(NamedTuple):
    """What holds between changes."""

    rate: Float[Array, " element"]  # of infusion; empty where there is none
    inputs: dict[str, Float[Array, ""]]  # those that hold their value


def _changed(
    t: Any, y: Float[Array, " element"], args: Any, change: Change
) -> Float[Array, " element"]:
    del t, args
    return change.keep * y + change.add


def _schedule(forcing: Forcing, pack: Pack, steady: SteadyStates, args: Any) -> Schedule:
    """Everything that happens at known times, in order."""
    p, forcing_data = args
    y0 = pack(forcing.declaration.initial_state(p))
    if not (forcing.flags.resets or forcing.flags.steady):
        y0 = jnp.zeros_like(y0)  # nothing begins anew, and nothing is to depend on it
    parts = []
    if forcing.flags.doses:
        p_at = partial(forcing.parameters_at, p=p, forcing_data=forcing_data)
        parts = dose_entries(forcing.declaration, forcing.flags, y0, p, forcing_data, steady, p_at)
    knots = [
        forcing_data.inputs[name][0]
        for name, c in forcing.declaration.inputs.items()
        if c.interpolation.jumps
    ]
    parts += [_nothing_at(times, y0) for times in knots]
    if not parts:
        throughout = Between(jnp.zeros((1, 0), y0.dtype), {})
        return Schedule(jnp.zeros(0, y0.dtype), Change(y0[None][:0], y0[None][:0]), throughout)
    entries = jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
    order = jnp.lexsort((entries.rank, jax.lax.stop_gradient(entries.time)))
    entries = jax.tree.map(lambda x: x[order], entries)
    times = entries.time
    rate = _rates(entries) if forcing.flags.infusions else jnp.zeros((len(times) + 1, 0), y0.dtype)
    begins = jnp.concatenate([jnp.full(1, -jnp.inf, times.dtype), jax.lax.stop_gradient(times)])
    inputs = {
        name: jax.vmap(lambda t, n=name, c=c: c.interpolation.after(t, *forcing_data.inputs[n]))(
            begins
        )
        for name, c in forcing.declaration.inputs.items()
        if c.interpolation.jumps
    }
    ranks = entries.rank if forcing.flags.ordered else None
    return Schedule(times, Change(entries.keep, entries.add), Between(rate, inputs), ranks)


def _nothing_at(times: Float[Array, " entry"], y0: Float[Array, " element"]) -> Entry:
    """Stops at which the state does not change."""
    zero = jnp.zeros((len(times), len(y0)), y0.dtype)
    none = jnp.zeros(len(times), y0.dtype)
    return Entry(times.astype(y0.dtype), none, zero + 1, zero, zero, none)


def _rates(entries: Entry) -> Float[Array, "interval element"]:
    """The rate of infusion before the first entry, between each and the next, and after the last.

    An end that comes after what had begun was cleared takes nothing away: so each entry's rise
    counts from the last clearing only, and an end counts with its beginning.
    """

    def after(rate: jax.Array, entry: Entry) -> tuple[jax.Array, jax.Array]:
        rate = rate * (1 - entry.clears) + entry.rate
        return rate, rate

    start = jnp.zeros(entries.rate.shape[1], entries.rate.dtype)
    _, rates = jax.lax.scan(after, start, entries)
    return jnp.concatenate([start[None], rates])
