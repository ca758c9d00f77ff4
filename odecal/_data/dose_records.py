"""Doses as they are recorded, checked, and written out one by one."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from odecal._data.columns import column_names
from odecal._data.experiment import Doses
from odecal._data.numbers import first_true
from odecal._errors import ObservationError, listed, suggestion
from odecal._system.declaration import Declaration

# Times that differ by less, relatively, are the same: 3 · 0.7 is not quite 2.1.
_SAME_TIME = 1e-9
# Additional doses of a record, at each of which a solve stops: of more than the first number, those
# after the last time of the tables are left out; more than the second are refused.
_MAX_BEYOND_THE_END, _MAX_ADDITIONAL = 1000, 100_000


@dataclass(frozen=True, eq=False)
class DoseRecords:
    """Doses as they are recorded: one a row of a table. Codes are those of `Doses`."""

    row: Int[np.ndarray, " record"]  # of the table, counted from 0
    individual: Int[np.ndarray, " record"]
    time: Float[np.ndarray, " record"]  # of the first one
    element: Int[np.ndarray, " record"]  # of the packed state
    amount: Float[np.ndarray, " record"]
    rate: Float[np.ndarray, " record"]  # 0, positive, −1 or −2
    duration: Float[np.ndarray, " record"]  # 0 or positive
    interval: Float[np.ndarray, " record"]  # of repeated doses, or those before a steady state
    additional: Float[np.ndarray, " record"]  # how many more are given
    steady: Float[np.ndarray, " record"]  # 0, 1 or 2
    reset: Float[np.ndarray, " record"]  # 1 where the state begins anew before it, else 0
    rank: Int[np.ndarray, " record"]  # among records of the same time, from 0; −1 if not counted

    def __len__(self) -> int:
        return len(self.row)

    def take(self, index: Int[np.ndarray, " _taken"]) -> "DoseRecords":
        """Some of them, or some repeatedly."""
        return DoseRecords(*(column[index] for column in vars(self).values()))

    @property
    def nothing(self) -> Bool[np.ndarray, " record"]:
        """Which put nothing into a state: resets alone, or mistakes."""
        rest = (self.rate, self.duration, self.interval, self.additional, self.steady)
        return (self.amount == 0) & np.all([part == 0 for part in rest], axis=0)

    @property
    def at_rest(self) -> Bool[np.ndarray, " record"]:
        """Which are constant infusions that have come to rest; of rate 0, the system by itself."""
        steady = (self.amount == 0) & (self.steady > 0) & (self.interval == 0)
        return steady & (self.rate >= 0) & (self.duration == 0) & (self.additional == 0)


def state_elements(declaration: Declaration) -> dict[str, int]:
    """The elements of the packed state, by the names that tables give them."""
    names = (name for state in declaration.states for name in column_names(declaration, state))
    return {name: i for i, name in enumerate(names)}


def element_of(name: str, elements: Mapping[str, int], declaration: Declaration, where: str) -> int:
    """The element of the packed state that a table names."""
    if name in elements:
        return elements[name]
    if name in declaration.states:
        raise ObservationError(
            f"{where} names the state `{name}`, which is a vector. Expected one of its elements: "
            f"{listed(column_names(declaration, name))}. Name that."
        )
    raise ObservationError(
        f"{where} names the state `{name}`, which {declaration.name} does not have. Expected one "
        f"of: {listed(elements)}." + suggestion(name, elements) + " Correct it."
    )


def expand_doses(
    records: DoseRecords, individual: Int[np.ndarray, " row"], times: Float[np.ndarray, " row"]
) -> Doses:
    """Every dose of checked records by itself, sorted by individual and time.

    One that is additional and meant to be at the time of an observation is at exactly that time.
    """
    counts = 1 + _additional_counts(records, times)
    source = np.repeat(np.arange(len(records)), counts)
    each = records.take(source)
    ends = np.cumsum(counts)
    order = np.arange(len(each)) - np.repeat(ends - counts, counts)
    time = each.time + order * each.interval
    time = np.where(order > 0, _moved_to_observations(time, each, individual, times), time)
    first = order == 0
    cancelled, last = _cancelled(records, source, first, time)
    rank = np.where(first, each.rank, np.where(last, -2, -1))
    sort = np.lexsort((rank, time, each.individual))
    sort = sort[~cancelled[sort]]
    steady = np.where(first, each.steady, 0)
    recorded = each.time[sort]
    each = replace(each, time=time, steady=steady, rank=rank).take(sort)
    return Doses(
        each.individual,
        each.time,
        np.where(each.nothing, -1, each.element),
        each.amount,
        each.rate,
        each.duration,
        np.where(each.steady > 0, each.interval, 0.0),
        each.steady.astype(int),
        (each.reset == 1) & first[sort],
        each.rank if (records.rank >= 0).any() else None,
        recorded if (recorded != each.time).any() else None,
    )


def _additional_counts(
    records: DoseRecords, times: Float[np.ndarray, " row"]
) -> Int[np.ndarray, " record"]:
    """How many additional doses of each record are given; of many, those before all tables end."""
    end = np.max([*times, *records.time], initial=-np.inf)
    every = np.where(records.interval > 0, records.interval, np.inf)
    number = np.ceil((end - records.time) / every * (1 + 1e-9))
    number = np.where(
        records.additional > _MAX_BEYOND_THE_END,
        np.minimum(number, records.additional),
        records.additional,
    )
    if (at := first_true(number > _MAX_ADDITIONAL)) is not None:
        raise ObservationError(
            f"Row {records.row[at] + 1} has additional doses at an interval of "
            f"{records.interval[at]:g}, {number[at]:g} of them until {end:g}, the last time of the "
            f"tables. Expected {_MAX_ADDITIONAL} at most. Correct the interval (II), or give an "
            "infusion of the amount over the interval as its rate."
        )
    return number.astype(int)


def _cancelled(
    records: DoseRecords,
    source: Int[np.ndarray, " dose"],
    first: Bool[np.ndarray, " dose"],
    time: Float[np.ndarray, " dose"],
) -> tuple[Bool[np.ndarray, " dose"], Bool[np.ndarray, " dose"]]:
    """Which additional doses a later reset, or a steady state that replaces the state, cancels.

    So PREDPP does: https://nmhelp.tingjieguo.com/ss.html on SS 1. And which it wipes out, since
    they come at the same time: those come unless they are late by a lag.
    """
    cancelled, last = np.zeros(len(source), bool), np.zeros(len(source), bool)
    for k in np.flatnonzero((records.reset == 1) | (records.steady == 1)):
        same = records.individual[source] == records.individual[k]
        cancelled |= same & ~first & (source < k) & (time >= records.time[k])
        if records.rank[k] >= 0:  # it comes before the record, and an observation may come between
            last |= cancelled & same & (time == records.time[k])
    return cancelled & ~last, last


def _moved_to_observations(
    dose_times: Float[np.ndarray, " dose"],
    records: DoseRecords,
    individual: Int[np.ndarray, " row"],
    times: Float[np.ndarray, " row"],
) -> Float[np.ndarray, " dose"]:
    """Times of doses, moved by rounding errors to the observations that they are meant to meet.

    Whether an observation sees a dose of the same time is not to be left to rounding.
    """
    # NumPy sorts complex numbers as pairs, here of an individual and a time.
    known = np.unique(individual + 1j * times)
    at = np.searchsorted(known, records.individual + 1j * dose_times)
    result = dose_times
    for near in (known[np.clip(at - 1, 0, None)], known[np.clip(at, None, len(known) - 1)]):
        scale = np.maximum(np.abs(dose_times), records.interval)
        close = np.abs(near.imag - dose_times) <= _SAME_TIME * scale
        result = np.where(close & (near.real == records.individual), near.imag, result)
    return result
