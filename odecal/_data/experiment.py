"""Observations of one or many individuals, checked and aligned: what models are compiled from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from odecal._system.groups import Individuals

# How many of the doses before a steady state may still be to come, or be running, at most.
MAX_PRIOR_DOSES = 256


@dataclass(frozen=True, eq=False)
class Series:
    """The values of one observable, of all individuals.

    Args:
        times: when each was measured, of shape (n,), in units of time; not decreasing within an
            individual.
        values: what was measured, of shape (n, *dims); where missing, a stand-in that is valid;
            where censored, the bound that is known.
        present: which elements were measured, of the same shape.
        start: the beginning of the interval that each value covers, of shape (n,).
        individual: whose value each is, of shape (n,); not decreasing.
        upper: where censored, the upper bound, of the shape of values, while `values` is the
            lower one: −inf and +inf for none. Equal to `values` where not censored. None where
            nothing is.
        after_dose: below which rank (`Doses.rank`) a value sees the doses of its time, of shape
            (n,); None for 0.
        row: the row of the table that each value is in, counted from 0, of shape (n,); None where
            there is no table.
    """

    times: np.ndarray
    values: np.ndarray
    present: np.ndarray
    start: np.ndarray
    individual: np.ndarray
    upper: np.ndarray | None = None
    after_dose: np.ndarray | None = None
    row: np.ndarray | None = None

    @property
    def complete(self) -> bool:
        """Whether no element is missing."""
        return bool(self.present.all())

    @property
    def doses_before(self) -> np.ndarray:
        """`after_dose`, also where there is none."""
        none = np.zeros(len(self.times), int)
        return none if self.after_dose is None else self.after_dose.astype(int)


@dataclass(frozen=True, eq=False)
class Doses:
    """What was given to whom, and resets: one row a dose, repeated doses written out.

    Args:
        individual: to whom, of shape (n,); not decreasing.
        time: when, of shape (n,); not decreasing within an individual.
        element: which element of the packed state it goes into, of shape (n,); −1 for a reset
            alone.
        amount: how much, in the unit of the state, of shape (n,).
        rate: of an infusion, of shape (n,): 0 for a bolus, −1 where the system gives the rate,
            −2 where it gives the duration.
        duration: of an infusion that lasts for a given time, of shape (n,); 0 for none.
        interval: between doses that had been given before, until a steady state, of shape (n,); 0
            for none.
        steady: 0 for none, 1 where the steady state replaces the state, 2 where it is added.
        reset: whether the state begins anew before the dose, of shape (n,).
        rank: its place among what happens at the same time, of shape (n,): from 0 in the order of
            the rows of a table in which that counts; −1 for additional doses, which come before
            them, and −2 for those that do not come if they are late; None where no order counts.
        recorded: the time of its record, which for an additional dose is that of the first one, of
            shape (n,); None where it is that of the dose.
    """

    individual: np.ndarray
    time: np.ndarray
    element: np.ndarray
    amount: np.ndarray
    rate: np.ndarray
    duration: np.ndarray
    interval: np.ndarray
    steady: np.ndarray
    reset: np.ndarray
    rank: np.ndarray | None = None
    recorded: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.time)


@dataclass(frozen=True, eq=False)
class Samples:
    """An input as it was sampled.

    Args:
        individual: whose, of shape (n,); not decreasing.
        times: when, of shape (n,); rising within an individual.
        values: of shape (n,).
    """

    individual: np.ndarray
    times: np.ndarray
    values: np.ndarray


@dataclass(frozen=True, eq=False)
class Experiment:
    """All observations, aligned to the times at which solves are needed.

    Args:
        t0: the initial time of each individual, of shape (individual,).
        series: the observations, by observable.
        individuals: who was observed.
        doses: what was given; None for nothing.
        inputs: what drives the system, by name.
    """

    t0: np.ndarray
    series: Mapping[str, Series]
    individuals: Individuals = field(default_factory=Individuals)
    doses: Doses | None = None
    inputs: Mapping[str, Samples] = field(default_factory=dict)

    @cached_property
    def save_times(self) -> "SaveTimes":
        """Every time that solves must keep."""
        return save_times_of(self, np.zeros(0))


@dataclass(frozen=True, eq=False)
class SaveTimes:
    """The times that solves keep, and where to find those of every value.

    Args:
        ts: of each individual, of shape (individual, time), sorted; the last is repeated where an
            individual has fewer.
        after_dose: below which rank each of them sees the doses of the same time; None for 0.
        index: which of these times each value of an observable was measured at, of shape (n,).
        start: at which of them the interval of each value began.
        extra: which of them are the further ones asked for, of shape (individual, extra).
    """

    ts: np.ndarray
    after_dose: np.ndarray | None
    index: Mapping[str, np.ndarray]
    start: Mapping[str, np.ndarray]
    extra: np.ndarray


def save_times_of(experiment: Experiment, extra: np.ndarray) -> SaveTimes:
    """The times that solves must keep.

    Args:
        experiment: the observations.
        extra: further times, for every individual, of shape (extra,); those before the initial
            time of an individual count as that.
    """
    count = len(experiment.individuals)
    keys: list[list[np.ndarray]] = [[] for _ in range(count)]  # pairs of a time and a rank
    for series in experiment.series.values():
        for times, after in (
            (series.times, series.doses_before),
            (series.start, series.doses_before * 0),
        ):
            pairs = np.stack([times, after], axis=1)
            for i, part in rows_by_individual(series.individual, pairs):
                keys[i].append(part)
    more = [np.maximum(extra, t0) for t0 in experiment.t0]
    unique = []
    for i in range(count):
        begin = np.array([[experiment.t0[i], 0.0]])
        own = np.concatenate([*keys[i], np.stack([more[i], more[i] * 0.0], axis=1)])
        unique.append(np.unique(own if len(own) else begin, axis=0))
    width = max(len(own) for own in unique)
    ts = np.stack([np.pad(own[:, 0], (0, width - len(own)), mode="edge") for own in unique])
    after_dose = np.stack([np.pad(own[:, 1], (0, width - len(own)), mode="edge") for own in unique])

    def found(individual: np.ndarray, times: np.ndarray, after: np.ndarray) -> np.ndarray:
        index = np.zeros(len(times), int)
        for i, rows in rows_by_individual(individual, np.arange(len(times))):
            own = unique[i]
            index[rows] = np.searchsorted(_code(own), _code(np.stack([times, after], 1)[rows]))
        return index

    index, start = {}, {}
    for name, series in experiment.series.items():
        index[name] = found(series.individual, series.times, series.doses_before)
        start[name] = found(series.individual, series.start, series.doses_before * 0)
    nobody = np.repeat(np.arange(count), len(extra))
    where = found(nobody, np.concatenate(more), np.zeros(count * len(extra), int))
    return SaveTimes(
        ts,
        after_dose.astype(int) if after_dose.any() else None,
        index,
        start,
        where.reshape(count, -1),
    )


def _code(pairs: np.ndarray) -> np.ndarray:
    """Pairs of a time and a rank as complex numbers, which NumPy sorts likewise."""
    return pairs[:, 0] + 1j * pairs[:, 1]


def rows_by_individual(individual: np.ndarray, rows: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """The rows of each individual that has any."""
    who, first = np.unique(individual, return_index=True)
    return list(zip(who.tolist(), np.split(rows, first[1:]), strict=True)) if len(who) else []
