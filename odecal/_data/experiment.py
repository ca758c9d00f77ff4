"""Observations of one or many individuals, checked and aligned: what models are compiled from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from odecal._system.groups import Individuals

# How many of the doses before a steady state may still be to come, or be running, at most.
MAX_PRIOR_DOSES = 256


@dataclass(frozen=True, eq=False)
class Series:
    """The values of one observable, of all individuals.

    Args:
        times: when each was measured, in units of time; not decreasing within an individual.
        values: what was measured; where missing, a stand-in that is valid; where censored, the
            bound that is known.
        present: which elements were measured.
        start: the beginning of the interval that each value covers.
        individual: whose value each is; not decreasing.
        upper: where censored, the upper bound, while `values` is the lower one: −inf and +inf for
            none. Equal to `values` where not censored. None where nothing is.
        after_dose: below which rank (`Doses.rank`) a value sees the doses of its time; None for 0.
        row: the row of the table that each value is in, counted from 0; None where there is no
            table.
    """

    times: Float[np.ndarray, " value"]
    values: Float[np.ndarray, " value *dims"]
    present: Bool[np.ndarray, " value *dims"]
    start: Float[np.ndarray, " value"]
    individual: Int[np.ndarray, " value"]
    upper: Float[np.ndarray, " value *dims"] | None = None
    after_dose: Int[np.ndarray, " value"] | None = None
    row: Int[np.ndarray, " value"] | None = None

    @property
    def complete(self) -> bool:
        """Whether no element is missing."""
        return bool(self.present.all())


@dataclass(frozen=True, eq=False)
class Doses:
    """What was given to whom, and resets: one row a dose, repeated doses written out.

    Args:
        individual: to whom; not decreasing.
        time: when; not decreasing within an individual.
        element: which element of the packed state it goes into; −1 for a reset alone.
        amount: how much, in the unit of the state.
        rate: of an infusion: 0 for a bolus, −1 where the system gives the rate, −2 where it gives
            the duration.
        duration: of an infusion that lasts for a given time; 0 for none.
        interval: between doses that had been given before, until a steady state; 0 for none.
        steady: 0 for none, 1 where the steady state replaces the state, 2 where it is added.
        reset: whether the state begins anew before the dose.
        rank: its place among what happens at the same time: from 0 in the order of the rows of a
            table in which that counts; −1 for additional doses, which come before them, and −2 for
            those that do not come if they are late; None where no order counts.
        recorded: the time of its record, which for an additional dose is that of the first one;
            None where it is that of the dose.
    """

    individual: Int[np.ndarray, " dose"]
    time: Float[np.ndarray, " dose"]
    element: Int[np.ndarray, " dose"]
    amount: Float[np.ndarray, " dose"]
    rate: Float[np.ndarray, " dose"]
    duration: Float[np.ndarray, " dose"]
    interval: Float[np.ndarray, " dose"]
    steady: Int[np.ndarray, " dose"]
    reset: Bool[np.ndarray, " dose"]
    rank: Int[np.ndarray, " dose"] | None = None
    recorded: Float[np.ndarray, " dose"] | None = None

    def __len__(self) -> int:
        return len(self.time)


@dataclass(frozen=True, eq=False)
class Samples:
    """An input as it was sampled.

    Args:
        individual: whose; not decreasing.
        times: when; rising within an individual.
        values: what was measured.
    """

    individual: Int[np.ndarray, " sample"]
    times: Float[np.ndarray, " sample"]
    values: Float[np.ndarray, " sample"]


@dataclass(frozen=True, eq=False)
class Experiment:
    """All observations, aligned to the times at which solves are needed.

    Args:
        t0: the initial time of each individual.
        series: the observations, by observable.
        individuals: who was observed.
        doses: what was given; None for nothing.
        inputs: what drives the system, by name.
    """

    t0: Float[np.ndarray, " individual"]
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
        ts: of each individual, sorted; the last is repeated where an individual has fewer.
        after_dose: below which rank each of them sees the doses of the same time; None for 0.
        index: which of these times each value of an observable was measured at.
        start: at which of them the interval of each value began.
        extra: which of them are the further ones asked for.
    """

    ts: Float[np.ndarray, "individual time"]
    after_dose: Int[np.ndarray, "individual time"] | None
    index: Mapping[str, Int[np.ndarray, " _value"]]
    start: Mapping[str, Int[np.ndarray, " _value"]]
    extra: Int[np.ndarray, "individual extra"]


def save_times_of(experiment: Experiment, extra: Float[np.ndarray, " extra"]) -> SaveTimes:
    """The times that solves must keep, with further ones for every individual.

    Those before the initial time of an individual count as that.
    """
    everyone = np.arange(len(experiment.individuals))
    # Of everything to keep: the individual, the time, and below which rank it sees doses.
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray | int]] = []
    for series in experiment.series.values():
        after_dose = 0 if series.after_dose is None else series.after_dose
        parts.append((series.individual, series.times, after_dose))
        parts.append((series.individual, series.start, 0))
    more = np.maximum(extra, experiment.t0[:, None])
    parts.append((np.repeat(everyone, len(extra)), more.ravel(), 0))
    without = np.setdiff1d(everyone, np.concatenate([individual for individual, _, _ in parts]))
    parts.append((without, experiment.t0[without], 0))
    rows = np.concatenate([np.stack(np.broadcast_arrays(*part), axis=1) for part in parts])
    unique, inverse = np.unique(rows, axis=0, return_inverse=True)
    individual = unique[:, 0].astype(int)
    first = np.searchsorted(individual, everyone)
    last = np.searchsorted(individual, everyone, side="right") - 1
    column = (np.arange(len(unique)) - first[individual])[inverse.reshape(-1)]
    columns = np.split(column, np.cumsum([len(part[0]) for part in parts[:-1]]))
    width = int((last - first).max()) + 1
    kept = unique[np.minimum(first[:, None] + np.arange(width), last[:, None])]
    ranks = kept[..., 2].astype(int)
    return SaveTimes(
        kept[..., 1],
        ranks if ranks.any() else None,
        dict(zip(experiment.series, columns[::2], strict=False)),
        dict(zip(experiment.series, columns[1::2], strict=False)),
        columns[-2].reshape(len(everyone), -1),
    )
