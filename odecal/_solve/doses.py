"""Doses, as entries in the schedule of a solve."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import stop_gradient
from jaxtyping import Array, Bool, Float, Int

from odecal._solve.forcing_data import ForcingData, ForcingFlags
from odecal._solve.steady_state import Cycle, SteadyStates
from odecal._system.declaration import Declaration
from odecal._system.inputs import Dosing
from odecal._system.values import Values


class Entry(NamedTuple):
    """Entries of a schedule: what happens, each at a time of its own."""

    time: Float[Array, " entry"]
    rank: Float[Array, " entry"]  # in which order of those at the same time
    keep: Float[Array, "entry element"]  # y⁺ = keep y⁻ + add
    add: Float[Array, "entry element"]
    rate: Float[Array, "entry element"]  # by which that of infusion rises
    clears: Float[Array, " entry"]  # whether infusions that had begun end there


class Dose(NamedTuple):
    """What arrives of every dose: at once, or at a rate for as long as it lasts."""

    bolus: Float[Array, " dose"]
    infused: Bool[Array, " dose"]
    rate: Float[Array, " dose"]  # 0 for a bolus
    lasts: Float[Array, " dose"]


def dose_entries(
    declaration: Declaration,
    flags: ForcingFlags,
    y0: Float[Array, " element"],
    p: Values,
    forcing_data: ForcingData,
    steady: SteadyStates,
    p_at: Callable[[jax.Array], Values],
) -> list[Entry]:
    """Resets, steady states, doses, and the ends of infusions.

    From the packed initial state, `p`, and a function that gives `p` with the inputs at a time.
    """
    doses = forcing_data.doses
    element = doses["element"].astype(int)
    own = _of_each(declaration, p, p_at, doses, y0.dtype)
    into = jax.nn.one_hot(element, len(y0), dtype=y0.dtype)  # of no element for a reset alone
    one, none = jnp.ones_like(into), jnp.zeros(len(element), y0.dtype)
    dose = _dose(doses, own)
    recorded = doses["rank"] if flags.ordered else none
    arrivals = []
    parts = []
    if flags.resets:
        again = jnp.where(doses["reset"] > 0, doses["time"], jnp.inf)
        parts.append(Entry(again, recorded, one * 0, one * y0, one * 0, none + 1))
    if flags.steady:
        first = jnp.argsort(doses["steady"] == 0, stable=True)[: flags.steady]
        cycles = _cycles(doses, own["lag"], dose, into, first)
        states = jnp.stack([steady(cycle, p, forcing_data, y0) for cycle in cycles])
        if flags.before:
            arrivals.append(_before(flags, doses, own["lag"], dose, into, first))
        states = jnp.where(_reaches(flags, cycles)[:, None], states, jnp.nan)
        parts.append(_steady_entry(doses, recorded, first, states))
    begins = jnp.where(element >= 0, doses["time"], jnp.inf)
    time, rank = _arrival(flags, begins, own["lag"], recorded)
    rise = into * dose.rate[:, None]
    ends = jnp.where(dose.infused, time + dose.lasts, jnp.inf)
    arrivals.append((Entry(time, rank, one, into * dose.bolus[:, None], rise, none), ends))
    clearings = [(part.time, part.rank, part.clears) for part in parts]
    parts += [begin for begin, _ in arrivals]
    if flags.infusions:
        parts += [_ends(begin, ends, clearings) for begin, ends in arrivals]
    return parts


def _arrival(
    flags: ForcingFlags,
    start: Float[Array, " dose"],
    delay: Float[Array, " dose"],
    rank: Float[Array, " dose"],
) -> tuple[Float[Array, " dose"], Float[Array, " dose"]]:
    """When doses arrive, and in which order of what happens at the same time.

    Where order counts, one that is late comes before all else at its time, as in PREDPP: earlier by
    a few roundings, since an observation meant to meet it has a time of its own rounding.
    """
    time = start + delay
    if not flags.ordered:
        return time, rank
    slack = 8 * jnp.finfo(time.dtype).eps * jnp.where(jnp.isfinite(time), jnp.abs(time), 0.0)
    earlier = time - stop_gradient(slack)
    delayed = stop_gradient(earlier > start)
    time = jnp.where(delayed, jnp.where(rank < -1, jnp.inf, earlier), time)
    return time, jnp.where(delayed, -1.0, rank)


def _ends(
    begin: Entry, ends: Float[Array, " entry"], clearings: Sequence[tuple[jax.Array, ...]]
) -> Entry:
    """The ends of infusions; never for those that a clearing has ended before."""
    cleared = jnp.zeros(len(ends), bool)
    for time, rank, clears in clearings:
        before = begin.time[:, None] < time
        before |= (begin.time[:, None] == time) & (begin.rank[:, None] < rank)
        cleared |= (before & (time <= ends[:, None]) & (clears > 0)).any(axis=1)
    time, none = jnp.where(cleared, jnp.inf, ends), jnp.zeros_like(begin.rank)
    return Entry(time, none, begin.keep, begin.add * 0, -begin.rate, none)


def _reaches(flags: ForcingFlags, cycles: list[Cycle]) -> Bool[Array, " steady"]:
    """Whether all doses before each steady state are reckoned with."""
    infused = jnp.stack([jnp.any(cycle.rate != 0) for cycle in cycles])
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *cycles)
    reach = stacked.lag + jnp.where(infused, stacked.lasts, 0.0)
    return (stacked.interval <= 0) | (reach < (flags.before + 1) * stacked.interval)


def _before(
    flags: ForcingFlags,
    doses: Mapping[str, Float[Array, " dose"]],
    lag: Float[Array, " dose"],
    dose: Dose,
    into: Float[Array, "dose element"],
    first: Int[Array, " steady"],
) -> tuple[Entry, Float[Array, " entry"]]:
    """Doses before a steady state that are still to come or run, and when their infusions end.

    Of the n-th before it, which was given n intervals II before the dose, a lag longer than n II is
    still to pass; and its infusion runs on if lag and duration together are longer than that.
    `first` numbers the doses that may be at a steady state; rows of `into` are of the unit matrix.
    """
    which = jnp.repeat(first, flags.before)
    n = jnp.tile(jnp.arange(1, flags.before + 1, dtype=lag.dtype), len(first))
    bolus, infused, rate, lasts = (part[which] for part in dose)
    lag, interval, into = lag[which], doses["interval"][which], into[which]
    regular = (doses["steady"][which] > 0) & (interval > 0)
    time = jnp.where(regular, doses["time"][which], jnp.inf)
    rank = doses["rank"][which] if flags.ordered else jnp.zeros_like(lag)
    delay = lag - n * interval
    pending = regular & (delay >= 0)
    runs = regular & infused & (delay + lasts > 0)
    arrives, rank = _arrival(flags, time, jnp.where(pending, delay, 0.0), rank)
    counts = pending | runs
    entry = Entry(
        jnp.where(counts, arrives, jnp.inf),
        rank,
        jnp.ones_like(into),
        into * jnp.where(pending, bolus, 0.0)[:, None],
        into * jnp.where(runs, rate, 0.0)[:, None],
        jnp.zeros_like(lag),
    )
    return entry, jnp.where(runs, time + delay + lasts, jnp.inf)


def _dose(
    doses: Mapping[str, Float[Array, " dose"]], own: Mapping[str, Float[Array, " dose"]]
) -> Dose:
    """What arrives of every dose: of an infusion at a given rate, for less long if less arrives."""
    amount = doses["amount"] * own["bioavailability"]
    asked, given_duration = doses["rate"], doses["duration"]
    at_rate = (asked > 0) | (asked == -1)
    for_duration = (given_duration > 0) | (asked == -2)
    rate = jnp.where(asked == -1, own["rate"], jnp.where(asked > 0, asked, 1.0))
    lasts = jnp.where(
        asked == -2, own["duration"], jnp.where(given_duration > 0, given_duration, 1.0)
    )
    infused = at_rate | for_duration
    # Each by itself before one is chosen, so that neither divides by zero where it is not.
    rate, lasts = (
        jnp.where(at_rate, rate, amount / jnp.where(at_rate, 1.0, lasts)),
        jnp.where(at_rate, amount / rate, lasts),
    )
    return Dose(jnp.where(infused, 0.0, amount), infused, jnp.where(infused, rate, 0.0), lasts)


def _of_each(
    declaration: Declaration,
    p: Values,
    p_at: Callable[[jax.Array], Values],
    doses: Mapping[str, Float[Array, " dose"]],
    dtype: Any,
) -> dict[str, Float[Array, " dose"]]:
    """Lag, bioavailability, rate and duration of every dose, by the inputs in its record."""
    element = doses["element"].astype(int)
    if not declaration.inputs:
        return {name: x[element] for name, x in _dosing_of(declaration, p, dtype).items()}
    recorded = doses["recorded"] if "recorded" in doses else doses["time"]
    recorded = jnp.where(jnp.isfinite(recorded), recorded, 0.0)
    values = jax.vmap(lambda t: _dosing_of(declaration, p_at(t), dtype))(recorded)
    return {name: x[jnp.arange(len(element)), element] for name, x in values.items()}


def _dosing_of(
    declaration: Declaration, p: Values, dtype: Any
) -> dict[str, Float[Array, " element"]]:
    """Lag, bioavailability, rate and duration of doses into every element of the state."""

    def value(dosing: Dosing, name: str) -> jax.Array:
        declared = getattr(dosing, name)
        declared = 1.0 if declared is None else declared
        return jnp.asarray(declared(p) if callable(declared) else declared, dtype)

    return {
        name: jnp.concatenate(
            [
                jnp.broadcast_to(value(state.dosing, name), (int(np.prod(declaration.shape(key))),))
                for key, state in declaration.states.items()
            ]
        )
        for name in ("lag", "bioavailability", "rate", "duration")
    }


def _steady_entry(
    doses: Mapping[str, Float[Array, " dose"]],
    rank: Float[Array, " dose"],
    first: Int[Array, " steady"],
    states: Float[Array, "steady element"],
) -> Entry:
    """The steady states that doses had brought about before: of those numbered `first`."""
    kind = doses["steady"][first]
    time = jnp.where(kind > 0, doses["time"][first], jnp.inf)
    add = jnp.where((kind > 0)[:, None], states, 0.0)
    keep = jnp.where(kind == 1, 0.0, 1.0)[:, None] * jnp.ones_like(states)
    clears = jnp.where(kind == 1, 1.0, 0.0).astype(states.dtype)
    return Entry(time, rank[first], keep, add, jnp.zeros_like(add), clears)


def _cycles(
    doses: Mapping[str, Float[Array, " dose"]],
    lag: Float[Array, " dose"],
    dose: Dose,
    into: Float[Array, "dose element"],
    first: Int[Array, " steady"],
) -> list[Cycle]:
    """The cycles of doses that may be at a steady state."""
    rate = jnp.where(doses["amount"] > 0, dose.rate, doses["rate"])
    cycles = Cycle(
        jnp.where(doses["steady"] > 0, doses["time"], 0.0),
        doses["interval"],
        lag,
        into * dose.bolus[:, None],
        into * rate[:, None],
        dose.lasts,
    )
    return [jax.tree.map(lambda x, i=i: x[i], cycles) for i in first]
