"""The measured values of one observable, with the interval that each covers."""

import warnings
from typing import Any

import numpy as np

from odecal._data.experiment import Series
from odecal._data.individuals import IndividualsTable
from odecal._data.parsed import Rows
from odecal._errors import ObservationError


def series_of(
    name: str, rows: Rows, t0: np.ndarray, observable: Any, people: IndividualsTable
) -> Series:
    """The measured rows of one observable, ordered by individual.

    Args:
        name: of the observable.
        rows: those of the table.
        t0: the initial time of each individual.
        observable: its declaration.
        people: the individuals.

    Raises:
        ObservationError: if there is none, or one is before the initial time.
    """
    there = ~np.isnan(rows.lower).all(axis=tuple(range(1, rows.lower.ndim)))
    if not there.any():
        raise ObservationError(
            f"The column `{name}` holds no value. Expected at least one. Drop the observable from "
            f"the system by setting {name}=None if it was not measured."
        )
    keep = np.flatnonzero(there)
    keep = keep[np.argsort(rows.individual[keep], kind="stable")]
    who, times, lower, upper = (
        part[keep] for part in (rows.individual, rows.times, rows.lower, rows.upper)
    )
    if (times < t0[who]).any():
        at = int(np.argmax(times < t0[who]))
        raise ObservationError(
            f"The first time of `{name}`{people.of(who[at])} is {times[at]:g}, before the initial "
            f"time t0 = {t0[who[at]]:g}. Expected times at or after it. Set t0 of the system, or "
            "drop the rows."
        )
    start = times
    if observable.over_interval:
        start = _starts(name, who, times, t0, observable, people)
        if observable.interval is None:
            _warn_if_uneven(name, rows, there, t0, people)
    present = ~np.isnan(lower)
    lower, upper = _filled(lower, upper, present)
    return Series(
        times,
        lower,
        present,
        start,
        who,
        upper=None if np.array_equal(lower, upper) else upper,
        after_dose=None if rows.after_dose is None else rows.after_dose[keep],
        row=None if rows.row is None else rows.row[keep],
    )


def _filled(
    lower: np.ndarray, upper: np.ndarray, present: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Bounds with a valid stand-in where they are missing: a number if there is any."""
    known = np.flatnonzero(lower == upper)
    at = known[0] if known.size else np.flatnonzero(present)[0]
    return np.where(present, lower, lower.flat[at]), np.where(present, upper, upper.flat[at])


def _starts(
    name: str,
    who: np.ndarray,
    times: np.ndarray,
    t0: np.ndarray,
    observable: Any,
    people: IndividualsTable,
) -> np.ndarray:
    """When the interval of each value began, of one individual after the other."""
    found, first = np.unique(who, return_index=True)
    parts = zip(found, np.split(times, first[1:]), strict=True)
    return np.concatenate(
        [interval_starts(name, own, float(t0[i]), observable, people.of(i)) for i, own in parts]
    )


def _warn_if_uneven(
    name: str, rows: Rows, there: np.ndarray, t0: np.ndarray, people: IndividualsTable
) -> None:
    """Say that an interval next to a missing value reaches back to the value before it."""
    # Where an individual has a row without a value, at a time that has none in other rows either.
    for i in np.unique(rows.individual[~there]):
        own = rows.individual == i
        every, times = np.unique(rows.times[own]), np.unique(rows.times[own & there])
        every = every[every >= t0[i]]
        if not times.size or np.isin(every, times).all():
            continue
        if every[0] != times[0]:
            times = np.concatenate([[t0[i]], times])
        gaps = np.diff(times)
        if gaps.size and np.ptp(gaps) > 1e-6 * gaps.max():
            widest = int(np.argmax(gaps))
            warnings.warn(
                f"`{name}`{people.of(i)} has missing values, and each of its values covers the "
                f"time since the one before: the value at {times[widest + 1]:g} covers "
                f"{gaps[widest]:g} where others cover {gaps.min():g}. If every value covers a "
                "fixed length, say so by Observable(..., interval=...).",
                stacklevel=2,
            )
            return


def interval_starts(
    name: str, times: np.ndarray, t0: float, observable: Any, whose: str = ""
) -> np.ndarray:
    """When the interval of each value began; the time itself where there is no interval.

    Args:
        name: of the observable.
        times: of its values, of one individual, not decreasing.
        t0: the initial time.
        observable: its declaration.
        whose: the values are, for messages: ` of subject 3`.

    Raises:
        ObservationError: if the first interval would begin before the initial time.
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
