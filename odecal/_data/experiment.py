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
    """The values of one observable, of all individuals."""

    times: Float[np.ndarray, " value"]  # not decreasing within an individual
    # Where missing, a stand-in that is valid; where censored, the bound that is known.
    values: Float[np.ndarray, " value *dims"]
    present: Bool[np.ndarray, " value *dims"]  # which elements were measured
    start: Float[np.ndarray, " value"]  # of the interval that each value covers
    individual: Int[np.ndarray, " value"]  # not decreasing
    # Where censored, the upper bound, while `values` is the lower one: −inf and +inf for none.
    # Equal to `values` where not censored. None where nothing is.
    upper: Float[np.ndarray, " value *dims"] | None = None
    # Below which rank (`Doses.rank`) a value sees the doses of its time; None for 0.
    after_dose: Int[np.ndarray, " value"] | None = None
    row: Int[np.ndarray, " value"] | None = None  # of the table, from 0; None without a table

    @property
    def complete(self) -> bool:
        """Whether no element is missing."""
        return bool(self.present.all())


@dataclass(frozen=True, eq=False)
class Doses:
    """What was given to whom, and resets: one row a dose, repeated doses written out."""

    individual: Int[np.ndarray, " dose"]  # not decreasing
    time: Float[np.ndarray, " dose"]  # not decreasing within an individual
    element: Int[np.ndarray, " dose"]  # of the packed state; −1 for a reset alone
    amount: Float[np.ndarray, " dose"]  # in the unit of the state
    # Of an infusion: 0 for a bolus, −1 where the system gives the rate, −2 the duration.
    rate: Float[np.ndarray, " dose"]
    duration: Float[np.ndarray, " dose"]  # of an infusion that lasts for a given time; 0 for none
    interval: Float[np.ndarray, " dose"]  # of earlier doses, until a steady state; 0 for none
    steady: Int[np.ndarray, " dose"]  # 0 for none, 1 where it replaces the state, 2 where added
    reset: Bool[np.ndarray, " dose"]  # whether the state begins anew before the dose
    # Its place among what happens at the same time: from 0 in the order of the rows of a table in
    # which that counts; −1 for additional doses, which come before them, and −2 for those that do
    # not come if they are late; None where no order counts.
    rank: Int[np.ndarray, " dose"] | None = None
    # The time of its record, of an additional dose that of the first one; None if always `time`.
    recorded: Float[np.ndarray, " dose"] | None = None

    def __len__(self) -> int:
        return len(self.time)


@dataclass(frozen=True, eq=False)
class Samples:
    """An input as it was sampled."""

    individual: Int[np.ndarray, " sample"]  # not decreasing
    times: Float[np.ndarray, " sample"]  # rising within an individual
    values: Float[np.ndarray, " sample"]


@dataclass(frozen=True, eq=False)
class Experiment:
    """All observations, aligned to the times at which solves are needed."""

    t0: Float[np.ndarray, " individual"]
    series: Mapping[str, Series]  # by observable
    individuals: Individuals = field(default_factory=Individuals)
    doses: Doses | None = None
    inputs: Mapping[str, Samples] = field(default_factory=dict)

    @cached_property
    def save_times(self) -> "SaveTimes":
        """Every time that solves must keep."""
        return save_times_of(self, np.zeros(0))


@dataclass(frozen=True, eq=False)
class SaveTimes:
    """The times that solves keep, and where to find those of every value."""

    ts: Float[np.ndarray, "individual time"]  # sorted; the last repeated where there are fewer
    # Below which rank each of them sees the doses of the same time; None for 0.
    after_dose: Int[np.ndarray, "individual time"] | None
    # At which of these times each value of an observable was measured, and its interval began.
    index: Mapping[str, Int[np.ndarray, " _value"]]
    start: Mapping[str, Int[np.ndarray, " _value"]]
    extra: Int[np.ndarray, "individual extra"]  # which of them are the further ones asked for


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
