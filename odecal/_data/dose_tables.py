"""Tables of doses by themselves."""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Int

from odecal._data.columns import ColumnRoles
from odecal._data.dose_checks import check_doses
from odecal._data.dose_records import DoseRecords, element_of, state_elements
from odecal._data.frame import read_frame
from odecal._data.individuals import IndividualsTable
from odecal._data.labels import row_keys
from odecal._data.numbers import first_true, numbers
from odecal._data.times import read_times
from odecal._errors import ObservationError, listed, suggestion
from odecal._system.declaration import Declaration

if TYPE_CHECKING:
    import pandas as pd

TABLE = "the table of doses"
_HINT = f" This is in {TABLE}."
# The columns that may be left out, by the fields of `DoseRecords`; an empty cell is 0.
_OPTIONAL = {
    "rate": "rate",
    "duration": "duration",
    "interval": "interval",
    "additional": "additional",
    "steady": "steady_state",
    "reset": "reset",
}


def read_doses(
    data: Any, roles: ColumnRoles, subjects: IndividualsTable, time: str | None
) -> DoseRecords:
    """The doses of a table by themselves, whose time column is called `time` or "time"."""
    table = read_frame(data, "Doses")
    time = _time_column(table, roles, time)
    times = read_times(table[time], _HINT)
    _check_given(np.isnan(times), f"no {time}", "when the dose was given")
    individual = _individuals(table, roles, subjects)
    optional = {
        part: np.nan_to_num(numbers(table[name], _HINT)) if name in table else np.zeros(len(table))
        for part, name in _OPTIONAL.items()
    }
    amount = numbers(table["amount"], _HINT)
    blank = np.isnan(amount)
    alone = (optional["reset"] == 1) & (blank | (amount == 0))
    for name, part in optional.items():
        alone &= (part == 0) | (name == "reset")
    _check_given(blank & ~alone, "no amount", "how much was given; 0 for a reset alone")
    element = _elements(table, roles.declaration, needed=~alone)
    records = DoseRecords(
        np.arange(len(table)),
        individual,
        times,
        element,
        np.nan_to_num(amount),
        **optional,
        rank=np.full(len(table), -1),
    )
    check_doses(records, roles.declaration, TABLE)
    return records


def _time_column(table: "pd.DataFrame", roles: ColumnRoles, time: str | None) -> str:
    """The name of the time column; refuses unknown and missing columns on the way."""
    names = list(table.columns)
    time = time if time in names else "time"
    needed = [*roles.individual, time, "amount"]
    known = [*needed, "state", *_OPTIONAL.values()]
    unknown = [name for name in names if name not in known and name not in roles.ignore]
    for name in needed:
        if name not in names:
            raise ObservationError(
                f"{TABLE.capitalize()} has no column `{name}`. Got the columns: {listed(names)}."
                + suggestion(name, unknown)
                + " Add or rename the column."
            )
    if unknown:
        raise ObservationError(
            f"The column `{unknown[0]}` of {TABLE} is not known. Expected some of: {listed(known)}."
            + suggestion(unknown[0], known)
            + " Rename or drop it."
        )
    return time


def _check_given(missing: Bool[np.ndarray, " row"], what: str, expected: str) -> None:
    if (row := first_true(missing)) is not None:
        raise ObservationError(
            f"Row {row + 1} of {TABLE} has {what}. Expected {expected}. Fill it in, or "
            "drop the row."
        )


def _individuals(
    table: "pd.DataFrame", roles: ColumnRoles, subjects: IndividualsTable
) -> Int[np.ndarray, " row"]:
    """To whom each dose was given."""
    keys = row_keys(table, roles.individual, f" of {TABLE}")
    unknown = next((row for row, key in enumerate(keys) if key not in subjects.by_label), None)
    if unknown is not None:
        name = f"{subjects.individuals.dim} {'/'.join(keys[unknown])}"
        raise ObservationError(
            f"Row {unknown + 1} of {TABLE} is for {name}, of whom the table of observations has no "
            f"row. Expected one of its individuals: {listed(subjects.individuals.labels[:5])}"
            f"{', …' if len(subjects) > 5 else ''}. Correct the label, drop the row, or add a row "
            "without a value there."
        )
    return np.asarray([subjects.by_label[key] for key in keys], int)


def _elements(
    table: "pd.DataFrame", declaration: Declaration, needed: Bool[np.ndarray, " row"]
) -> Int[np.ndarray, " row"]:
    """Which element of the packed state each dose goes into; −1 where it goes into none."""
    names = state_elements(declaration)
    if "state" not in table:
        if len(names) > 1 and needed.any():
            raise ObservationError(
                f"{TABLE.capitalize()} has no column `state`, and {declaration.name} has several: "
                f"{listed(names)}. Expected into which each dose goes. Add the column."
            )
        return np.where(needed, 0, -1)
    cells = table["state"]
    _check_given(cells.isna().to_numpy() & needed, "no state", "into which the dose goes")
    elements = np.full(len(table), -1)
    for row in np.flatnonzero(needed):
        where = f"Row {row + 1} of {TABLE}"
        elements[row] = element_of(str(cells.iloc[row]).strip(), names, declaration, where)
    return elements
