"""Doses, as entries in the schedule of a solve."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from odecal._declaration import Declaration
from odecal._driving import Dosing
from odecal._given import Given, Kinds
from odecal._steady import Cycle, SteadyStates
from odecal._values import Values


class Entry(NamedTuple):
    """Things that happen, each at a time of its own: fields have a leading axis of them.

    Args:
        time: when.
        keep: what is kept of the state, of shape (n, element).
        add: what is added, likewise.
        rate: by how much the rate of infusion rises, likewise.
        clears: whether infusions that had begun end there.
    """

    time: jax.Array
    keep: jax.Array
    add: jax.Array
    rate: jax.Array
    clears: jax.Array


def dose_entries(
    declaration: Declaration,
    kinds: Kinds,
    y0: jax.Array,
    p: Values,
    given: Given,
    steady: SteadyStates,
) -> list[Entry]:
    """Resets, steady states, doses, and the ends of infusions.

    Args:
        declaration: the system.
        kinds: what the doses are like.
        y0: the initial state, packed, of shape (element,).
        p: parameters, constants and initial values.
        given: the doses and inputs.
        steady: finds the states that doses have brought about.
    """
    doses = given.doses
    element = doses["element"].astype(int)
    own = {name: values[element] for name, values in _dosing_of(declaration, p, y0.dtype).items()}
    into = jax.nn.one_hot(element, len(y0), dtype=y0.dtype)  # of no element for a reset alone
    one, none = jnp.ones_like(into), jnp.zeros(len(element), y0.dtype)
    dose = _dose(doses, own)
    rise = into * dose.rate[:, None]
    arrives = jnp.where(element >= 0, doses["time"] + own["lag"], jnp.inf)
    parts, clearings = [], []
    if kinds.resets:
        again = jnp.where(doses["reset"] > 0, doses["time"], jnp.inf)
        parts.append(Entry(again, one * 0, one * y0, one * 0, none + 1))
        clearings.append(again)
    if kinds.steady:
        first = jnp.argsort(doses["steady"] == 0, stable=True)[: kinds.steady]
        cycles = _cycles(doses, own["lag"], dose, into, first)
        states = jnp.stack([steady(cycle, p, given, y0) for cycle in cycles])
        entry = _steady_entry(doses, first, states)
        parts.append(entry)
        clearings.append(jnp.where(entry.clears > 0, entry.time, jnp.inf))
    parts.append(Entry(arrives, one, into * dose.bolus[:, None], rise, none))
    if kinds.infusions:
        ends = jnp.where(dose.infused, arrives + dose.lasts, jnp.inf)
        ended = [(arrives[:, None] < c) & (c <= ends[:, None]) for c in clearings]
        cleared = jnp.concatenate([*ended, jnp.zeros((len(element), 1), bool)], axis=1).any(axis=1)
        parts.append(Entry(jnp.where(cleared, jnp.inf, ends), one, one * 0, -rise, none))
    return parts


class Dose(NamedTuple):
    """What arrives of every dose, of shape (dose,).

    Args:
        bolus: at once.
        infused: whether it is an infusion.
        rate: the rate of the infusion, 0 for a bolus.
        lasts: how long it lasts.
    """

    bolus: jax.Array
    infused: jax.Array
    rate: jax.Array
    lasts: jax.Array


def _dose(doses: Mapping[str, jax.Array], own: Mapping[str, jax.Array]) -> Dose:
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


def _dosing_of(declaration: Declaration, p: Values, dtype: Any) -> dict[str, jax.Array]:
    """Lag, bioavailability, rate and duration of doses into every element of the state."""

    def value(dosing: Dosing, name: str) -> jax.Array:
        given = getattr(dosing, name)
        given = 1.0 if given is None else given
        return jnp.asarray(given(p) if callable(given) else given, dtype)

    return {
        name: jnp.concatenate(
            [
                jnp.broadcast_to(value(state.dosing, name), (int(np.prod(declaration.shape(key))),))
                for key, state in declaration.states.items()
            ]
        )
        for name in ("lag", "bioavailability", "rate", "duration")
    }


def _steady_entry(doses: Mapping[str, jax.Array], first: jax.Array, states: jax.Array) -> Entry:
    """The steady states that doses had brought about before.

    Args:
        doses: the columns of the doses.
        first: the numbers of those that may be at a steady state.
        states: the steady states of these, of shape (n, element).
    """
    kind = doses["steady"][first]
    time = jnp.where(kind > 0, doses["time"][first], jnp.inf)
    add = jnp.where((kind > 0)[:, None], states, 0.0)
    keep = jnp.where(kind == 1, 0.0, 1.0)[:, None] * jnp.ones_like(states)
    return Entry(time, keep, add, jnp.zeros_like(add), jnp.where(kind == 1, 1.0, 0.0))


def _cycles(
    doses: Mapping[str, jax.Array],
    lag: jax.Array,
    dose: Dose,
    into: jax.Array,
    first: jax.Array,
) -> list[Cycle]:
    """The cycles of doses that may be at a steady state."""
    rate = jnp.where(doses["amount"] > 0, dose.rate, doses["rate"])
    every = Cycle(
        jnp.where(doses["steady"] > 0, doses["time"], 0.0),
        doses["interval"],
        lag,
        into * dose.bolus[:, None],
        into * rate[:, None],
        dose.lasts,
    )
    return [jax.tree.map(lambda x, i=i: x[i], every) for i in first]
