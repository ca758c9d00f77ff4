"""Observations of a system: what was measured when, checked and aligned."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from odecal._errors import ObservationError
from odecal._tables import Layout, Rows, read_rows

if TYPE_CHECKING:
    from odecal._system import System


@dataclass(frozen=True, eq=False)
class Observations:
    """A table of observations and how to read it.

    Most calls take the table itself; this says more about it where that is needed.

    Args:
        data: a `pandas.DataFrame` or the path of a CSV file, with a time column and a column an
            observable (`name[label]` for each element of a vector-valued one), or an
            `xarray.Dataset` with a time dimension and a variable an observable. NaN is missing;
            rows (or a dimension `replicate`) of the same time are replicates.
        time: the name of the time column; None takes the system's `time_column`, or finds it.
        ignore: columns to leave out, beside the system's `ignored_columns`.
    """

    data: Any
    time: str | None = None
    ignore: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class Series:
    """The values of one observable.

    Args:
        times: when each was measured, of shape (n,), in units of time, not decreasing.
        values: what was measured, of shape (n, *dims); where missing, a stand-in that is valid.
        present: which elements were measured, of the same shape.
        start: the beginning of the interval that each value covers, of shape (n,).
    """

    times: np.ndarray
    values: np.ndarray
    present: np.ndarray
    start: np.ndarray

    @property
    def complete(self) -> bool:
        """Whether no element is missing."""
        return bool(self.present.all())


@dataclass(frozen=True, eq=False)
class Experiment:
    """All observations of one experiment, aligned to the times at which a solve is needed.

    Args:
        t0: the initial time.
        series: the observations, by observable.
    """

    t0: float
    series: Mapping[str, Series]

    @cached_property
    def ts(self) -> np.ndarray:
        """Every time that a solve must keep, sorted, of shape (time,)."""
        times = [s.times for s in self.series.values()] + [s.start for s in self.series.values()]
        return np.unique(np.concatenate(times))


def read_experiment(data: Any, system: "System") -> Experiment:
    """Read and check a table of observations of a system.

    Args:
        data: `Observations`, or what it takes as data.
        system: the system that was observed.

    Returns:
        The observations, aligned.

    Raises:
        ObservationError: if the table does not fit the system.
    """
    source = data if isinstance(data, Observations) else Observations(data)
    ignore = (*source.ignore, *system.ignored_columns)
    declaration = system.declaration
    if not declaration.observables:
        raise ObservationError(
            f"{declaration.name} has no observable. Expected at least one, such as "
            "Observable(lambda t, y, p: odecal.noise.Normal(y.amount, p.sigma))."
        )
    layout = Layout(source.time, system.time_column, ignore, source.ignore)
    rows = read_rows(source.data, declaration, layout)
    for name, row in rows.items():
        _check_times(row.times, name)
    t0 = system.t0
    if t0 is None:
        t0 = min(float(row.times[0]) for row in rows.values())
    series = {
        name: _series(name, row, t0, declaration.observables[name]) for name, row in rows.items()
    }
    return Experiment(float(t0), series)


def _check_times(times: np.ndarray, name: str) -> None:
    missing = np.flatnonzero(np.isnan(times))
    if missing.size:
        raise ObservationError(
            f"The time of row {missing[0] + 1} is missing. Expected a time in every row. "
            "Fill it in, or drop the row."
        )
    fall = np.flatnonzero(np.diff(times) < 0)
    if fall.size:
        row = int(fall[0]) + 1
        raise ObservationError(
            f"The times are not sorted: row {row + 1} has {times[row]:g} after {times[row - 1]:g} "
            f"(of `{name}`). Expected times that never go back; replicates may repeat one. Sort "
            "the table, for example table.sort_values('time')."
        )


def _series(name: str, rows: Rows, t0: float, observable: Any) -> Series:
    """The measured rows of one observable, with the interval that each covers."""
    present = ~np.isnan(rows.values)
    keep = present.reshape(len(rows.times), -1).any(axis=1)
    if not keep.any():
        raise ObservationError(
            f"The column `{name}` holds no value. Expected at least one. Drop the observable from "
            f"the system by setting {name}=None if it was not measured."
        )
    times, values, present = rows.times[keep], rows.values[keep], present[keep]
    if times[0] < t0:
        raise ObservationError(
            f"The first time of `{name}` is {times[0]:g}, before the initial time t0 = {t0:g}. "
            "Expected times at or after it. Set t0 of the system, or drop the rows."
        )
    if observable.over_interval and observable.interval is None and not keep.all():
        lost_first = not keep[0]
        _warn_if_uneven(name, np.concatenate([[t0], times]) if lost_first else times)
    stand_in = values[present][0]
    values = np.where(present, values, stand_in)
    return Series(times, values, present, interval_starts(name, times, t0, observable))


def _warn_if_uneven(name: str, times: np.ndarray) -> None:
    """Say that an interval next to a missing value reaches back to the value before it."""
    gaps = np.diff(np.unique(times))
    if gaps.size and np.ptp(gaps) > 1e-6 * gaps.max():
        widest = int(np.argmax(gaps))
        warnings.warn(
            f"`{name}` has missing values, and each of its values covers the time since the one "
            f"before: the value at {np.unique(times)[widest + 1]:g} covers {gaps[widest]:g} "
            f"where others cover {gaps.min():g}. If every value covers a fixed length, say so by "
            "Observable(..., interval=...).",
            stacklevel=2,
        )


def interval_starts(name: str, times: np.ndarray, t0: float, observable: Any) -> np.ndarray:
    """When the interval of each value began; the time itself where there is no interval."""
    if not observable.over_interval:
        return times
    if observable.interval is not None:
        starts = times - observable.interval
        if starts[0] < t0 - 1e-12 * max(1.0, abs(t0)):
            raise ObservationError(
                f"The first value of `{name}`, at {times[0]:g}, covers an interval of "
                f"{observable.interval:g} that begins before the initial time t0 = {t0:g}. "
                "Set an earlier t0 of the system, or drop the row."
            )
        return np.maximum(starts, t0)
    unique = np.unique(times)
    previous = np.concatenate([[t0], unique[:-1]])
    if unique[0] == t0:
        raise ObservationError(
            f"The first value of `{name}` is at the initial time t0 = {t0:g}, so that there is no "
            "interval before it. Set an earlier t0 of the system, or drop the row."
        )
    return previous[np.searchsorted(unique, times)]
