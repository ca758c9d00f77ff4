"""Tables of doses by themselves."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from odecal._data.columns import ColumnRoles, elements
from odecal._data.dose_checks import check_records
from odecal._data.dose_records import DoseRecords, element_names
from odecal._data.frame import read_frame
from odecal._data.individuals import IndividualsTable
from odecal._data.labels import row_keys
from odecal._data.numbers import numbers, times_of
from odecal._errors import ObservationError, listed, suggestion
from odecal._system.declaration import Declaration

if TYPE_CHECKING:
    import pandas as pd

TABLE = "the table of doses"
_HINT = f" This is in {TABLE}."
# The columns that may be left out, and what their cells are where they are empty: none.
_OPTIONAL = {
    "rate": "rate",
    "duration": "duration",
    "interval": "interval",
    "additional": "additional",
    "steady": "steady_state",
    "reset": "reset",
}


def read_doses(
    data: Any, roles: ColumnRoles, people: IndividualsTable, time: str | None
) -> DoseRecords:
    """Read a table of doses.

    Args:
        data: a CSV path or a `pandas.DataFrame`.
        roles: what the system reads from its tables.
        people: the individuals of the table of observations.
        time: the name of the time column there, which is `time` here otherwise.

    Raises:
        ObservationError: if the table does not fit, with its row.
    """
    table = read_frame(data, "Doses")
    time = _time_column(table, roles, time)
    times = times_of(table[time], time, _HINT)
    _check_given(np.isnan(times), f"no {time}", "when the dose was given")
    who = _individuals(table, roles, people)
    optional = {
        part: np.nan_to_num(numbers(table[name], name, _HINT))
        if name in table
        else np.zeros(len(table))
        for part, name in _OPTIONAL.items()
    }
    amount = numbers(table["amount"], "amount", _HINT)
    blank = np.isnan(amount)
    alone = (optional["reset"] == 1) & (blank | (amount == 0))
    for name, part in optional.items():
        alone &= (part == 0) | (name == "reset")
    _check_given(blank & ~alone, "no amount", "how much was given; 0 for a reset alone")
    element = _elements(table, roles.declaration, needed=~alone)
    rows = np.arange(len(table))
    unordered = np.full(len(table), -1)
    records = DoseRecords(
        rows, who, times, element, np.nan_to_num(amount), **optional, rank=unordered
    )
    check_records(records, roles.declaration, TABLE)
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


def _check_given(missing: np.ndarray, what: str, expected: str) -> None:
    if missing.any():
        raise ObservationError(
            f"Row {int(np.argmax(missing)) + 1} of {TABLE} has {what}. Expected {expected}. Fill "
            "it in, or drop the row."
        )


def _individuals(table: "pd.DataFrame", roles: ColumnRoles, people: IndividualsTable) -> np.ndarray:
    """To whom each dose was given."""
    if not roles.individual:
        return np.zeros(len(table), int)
    keys = row_keys(table, roles.individual, f" of {TABLE}")
    stranger = next((row for row, key in enumerate(keys) if key not in people.found), None)
    if stranger is not None:
        who = f"{people.individuals.dim} {'/'.join(keys[stranger])}"
        raise ObservationError(
            f"Row {stranger + 1} of {TABLE} is for {who}, of whom the table of observations has no "
            f"row. Expected one of its individuals: {listed(people.individuals.labels[:5])}"
            f"{', …' if len(people) > 5 else ''}. Correct the label, drop the row, or add a row "
            "without a value there."
        )
    return np.fromiter((people.found[key] for key in keys), int, len(keys))


def _elements(table: "pd.DataFrame", declaration: Declaration, needed: np.ndarray) -> np.ndarray:
    """Which element of the packed state each dose goes into; −1 where it goes into none."""
    names = element_names(declaration)
    if "state" not in table:
        if len(names) > 1 and needed.any():
            raise ObservationError(
                f"{TABLE.capitalize()} has no column `state`, and {declaration.name} has several: "
                f"{listed(names)}. Expected into which each dose goes. Add the column."
            )
        return np.where(needed, 0, -1)
    found = {name: i for i, name in enumerate(names)}
    cells = table["state"]
    _check_given(cells.isna().to_numpy() & needed, "no state", "into which the dose goes")
    return np.asarray(
        [
            element_of(str(cell).strip(), found, declaration, f"Row {row + 1} of {TABLE}")
            if wanted
            else -1
            for row, (cell, wanted) in enumerate(zip(cells, needed, strict=True))
        ],
        int,
    )


def element_of(name: str, found: Mapping[str, int], declaration: Declaration, where: str) -> int:
    """The element of the packed state that a table names.

    Args:
        name: a state, or `name[label]` for an element of one.
        found: the elements by their names.
        declaration: the system.
        where: which row names it, for messages.

    Raises:
        ObservationError: if it is none.
    """
    if name in found:
        return found[name]
    if name in declaration.states:
        raise ObservationError(
            f"{where} names the state `{name}`, which is a vector. Expected one of its elements: "
            f"{listed(elements(declaration, name))}. Name that."
        )
    raise ObservationError(
        f"{where} names the state `{name}`, which {declaration.name} does not have. Expected one "
        f"of: {listed(found)}." + suggestion(name, found) + " Correct it."
    )
