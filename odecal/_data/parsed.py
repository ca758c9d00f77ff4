"""What a table holds, row by row, before it is aligned: where tidy and other tables meet."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from odecal._data.dose_records import DoseRecords
from odecal._data.individuals import IndividualsTable
from odecal._errors import ObservationError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of one observable.

    Args:
        individual: whose, of shape (row,).
        times: when, of shape (row,).
        lower: the lower bounds of the values, of shape (row, *dims), as in `Bounds`.
        upper: the upper ones.
        after_dose: below which rank each sees the doses of the same time, as in `Series`.
        row: the row of the table that each is, counted from 0, of shape (row,).
    """

    individual: np.ndarray
    times: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    after_dose: np.ndarray | None = None
    row: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class ParsedTable:
    """What a table holds.

    Args:
        table: the table, whose index numbers the rows from 0.
        people: who was observed.
        time: the name of its time column.
        times: of each row.
        rows: those of each observable.
        records: the doses among them; None for none.
    """

    table: "pd.DataFrame"
    people: IndividualsTable
    time: str
    times: np.ndarray
    rows: Mapping[str, Rows]
    records: DoseRecords | None = None


def check_known_times(times: np.ndarray) -> None:
    """Refuse times that are missing."""
    missing = np.flatnonzero(np.isnan(times))
    if missing.size:
        raise ObservationError(
            f"The time of row {missing[0] + 1} is missing. Expected a time in every row. "
            "Fill it in, or drop the row."
        )


def together(times: np.ndarray) -> np.ndarray:
    """Times, in which those of rows one after the other that differ by rounding are the same."""
    scale = 1e-12 * np.maximum(np.abs(times[1:]), np.abs(times[:-1]))
    first = np.append(True, np.abs(np.diff(times)) > scale)
    same: np.ndarray = times[np.flatnonzero(first)[np.cumsum(first) - 1]]
    return same


def check_times(times: np.ndarray, name: str, people: IndividualsTable, who: np.ndarray) -> None:
    """Refuse times that are missing or go back within an individual.

    Args:
        times: of each row of a table.
        name: of the time column.
        people: the individuals.
        who: the individual of each row.
    """
    check_known_times(times)
    order = np.argsort(who, kind="stable")
    falls = (np.diff(times[order]) < 0) & (np.diff(who[order]) == 0)
    if not falls.any():
        return
    at = int(np.argmax(falls))
    before, row = order[at], order[at + 1]
    dim = people.individuals.dim
    within = " within an individual" if dim else ""
    columns = f"['{dim}', '{name}']" if dim else f"'{name}'"
    raise ObservationError(
        f"The times{people.of(who[row])} are not sorted: row {row + 1} has {times[row]:g} after "
        f"{times[before]:g}{f' in row {before + 1}' if dim else ''}. Expected times that never go "
        f"back{within}; replicates may repeat one. Sort the table, for example "
        f"table.sort_values({columns}{'' if dim else ', kind="stable"'})."
    )
