"""What was measured of one observable, or sampled of one input, ordered by individual."""

import warnings
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int

from odecal._data.columns import ColumnRoles
from odecal._data.experiment import Samples, Series
from odecal._data.individuals import IndividualsTable
from odecal._data.numbers import first_true, numbers
from odecal._data.parsed import Rows
from odecal._errors import ObservationError
from odecal._system.components import Observable

if TYPE_CHECKING:
    import pandas as pd


def series_of(
    name: str,
    rows: Rows,
    t0: Float[np.ndarray, " individual"],
    observable: Observable,
    subjects: IndividualsTable,
) -> Series:
    """The measured rows of one observable, ordered by individual."""
    measured = ~np.isnan(rows.lower).all(axis=tuple(range(1, rows.lower.ndim)))
    if not measured.any():
        raise ObservationError(
            f"The column `{name}` holds no value. Expected at least one. Drop the observable from "
            f"the system by setting {name}=None if it was not measured."
        )
    chosen = np.flatnonzero(measured)
    chosen = chosen[np.argsort(rows.individual[chosen], kind="stable")]
    ordered = rows.take(chosen)
    individual, times = ordered.individual, ordered.times
    if (at := first_true(times < t0[individual])) is not None:
        raise ObservationError(
            f"The first time of `{name}`{subjects.of(individual[at])} is {times[at]:g}, before the "
            f"initial time t0 = {t0[individual[at]]:g}. Expected times at or after it. Set t0 of "
            "the system, or drop the rows."
        )
    start = times
    if observable.over_interval:
        start = _starts(name, individual, times, t0, observable, subjects)
        if observable.interval is None:
            _warn_if_uneven(name, rows, measured, t0, subjects)
    present = ~np.isnan(ordered.lower)
    lower, upper = _filled(ordered.lower, ordered.upper, present)
    return Series(
        times,
        lower,
        present,
        start,
        individual,
        upper=None if np.array_equal(lower, upper) else upper,
        after_dose=ordered.after_dose,
        row=ordered.row,
    )


def _filled(
    lower: Float[np.ndarray, " value *dims"],
    upper: Float[np.ndarray, " value *dims"],
    present: Bool[np.ndarray, " value *dims"],
) -> tuple[Float[np.ndarray, " value *dims"], Float[np.ndarray, " value *dims"]]:
    """Bounds with a valid stand-in where they are missing: a number if there is any."""
    known = np.flatnonzero(lower == upper)
    at = known[0] if known.size else np.flatnonzero(present)[0]
    return np.where(present, lower, lower.flat[at]), np.where(present, upper, upper.flat[at])


def _starts(
    name: str,
    individual: Int[np.ndarray, " value"],
    times: Float[np.ndarray, " value"],
    t0: Float[np.ndarray, " individual"],
    observable: Observable,
    subjects: IndividualsTable,
) -> Float[np.ndarray, " value"]:
    """When the interval of each value began, of one individual after the other."""
    every, first = np.unique(individual, return_index=True)
    return np.concatenate(
        [
            interval_starts(name, own, float(t0[i]), observable, subjects.of(i))
            for i, own in zip(every, np.split(times, first[1:]), strict=True)
        ]
    )


def _warn_if_uneven(
    name: str,
    rows: Rows,
    measured: Bool[np.ndarray, " row"],
    t0: Float[np.ndarray, " individual"],
    subjects: IndividualsTable,
) -> None:
    """Say that an interval next to a missing value reaches back to the value before it."""
    # Where an individual has a row without a value, at a time that has none in other rows either.
    for i in np.unique(rows.individual[~measured]):
        own = rows.individual == i
        every, times = np.unique(rows.times[own]), np.unique(rows.times[own & measured])
        every = every[every >= t0[i]]
        if not times.size or np.isin(every, times).all():
            continue
        if every[0] != times[0]:
            times = np.concatenate([[t0[i]], times])
        gaps = np.diff(times)
        if gaps.size and np.ptp(gaps) > 1e-6 * gaps.max():
            widest = int(np.argmax(gaps))
            warnings.warn(
                f"`{name}`{subjects.of(i)} has missing values, and each of its values covers the "
                f"time since the one before: the value at {times[widest + 1]:g} covers "
                f"{gaps[widest]:g} where others cover {gaps.min():g}. If every value covers a "
                "fixed length, say so by Observable(..., interval=...).",
                stacklevel=2,
            )
            return


def interval_starts(
    name: str,
    times: Float[np.ndarray, " value"],
    t0: float,
    observable: Observable,
    whose: str = "",
) -> Float[np.ndarray, " value"]:
    """When the interval of each value began; the time itself where there is no interval.

    The values are of one individual, sorted; `whose` says of which, for messages: ` of subject 3`.
    """
    if not observable.over_interval:
        return times
    if observable.interval is not None:
        starts = times - observable.interval
        if starts[0] < t0 - 1e-12 * max(1.0, abs(t0)):
            raise ObservationError(
                f"The first value of `{name}`{whose}, at {times[0]:g}, covers an interval of "
                f"{observable.interval:g} that begins before the initial time t0 = {t0:g}. "
                "Expected one that begins at or after it. Set an earlier t0 of the system, or drop "
                "the row."
            )
        return np.maximum(starts, t0)
    unique = np.unique(times)
    previous = np.concatenate([[t0], unique[:-1]])
    if unique[0] == t0:
        raise ObservationError(
            f"The first value of `{name}`{whose} is at the initial time t0 = {t0:g}, so that there "
            "is no interval before it. Expected times after it. Set an earlier t0 of the system, "
            "or drop the row."
        )
    return previous[np.searchsorted(unique, times)]


def read_samples(
    table: "pd.DataFrame",
    roles: ColumnRoles,
    subjects: IndividualsTable,
    times: Float[np.ndarray, " row"],
) -> dict[str, Samples]:
    """The samples of every input."""
    return {
        name: _samples(name, table[column], subjects, times)
        for name, column in roles.inputs.items()
    }


def _samples(
    name: str,
    column: "pd.Series",
    subjects: IndividualsTable,
    times: Float[np.ndarray, " row"],
) -> Samples:
    values = numbers(column)
    rows = np.flatnonzero(~np.isnan(values))
    rows = rows[np.argsort(subjects.index[rows], kind="stable")]
    individual = subjects.index[rows]
    without = np.setdiff1d(np.arange(len(subjects)), individual)
    if without.size:
        raise ObservationError(
            f"The input `{name}`{subjects.of(without[0])} has no value. Expected at least one "
            f"number in the column `{column.name}`. Fill it in, or drop the individual."
        )
    again = (np.diff(individual) == 0) & (np.diff(times[rows]) == 0)
    if (at := first_true(again & (np.diff(values[rows]) != 0))) is not None:
        one, other = rows[at : at + 2]
        raise ObservationError(
            f"The input `{name}`{subjects.of(individual[at])} has two values at time "
            f"{times[one]:g}: {values[one]:g} in row {one + 1} and {values[other]:g} in row "
            f"{other + 1}. Expected one. Correct them, or make one empty."
        )
    rows = rows[np.append(True, ~again)]
    return Samples(subjects.index[rows], times[rows], values[rows])
