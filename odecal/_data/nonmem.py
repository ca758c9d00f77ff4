"""Pharmacometric tables as they are: doses and observations in one."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from odecal._data.columns import ColumnRoles, check_columns, check_ignored
from odecal._data.dose_checks import check_records
from odecal._data.individuals import IndividualsTable, read_individuals
from odecal._data.labels import read_labels
from odecal._data.nonmem_events import TABLE, read_kinds, read_records
from odecal._data.nonmem_individuals import check_clock, restarted
from odecal._data.nonmem_observations import read_values
from odecal._data.numbers import times_of
from odecal._data.parsed import ParsedTable, check_known_times, together
from odecal._errors import ObservationError, listed, suggestion

if TYPE_CHECKING:
    import pandas as pd

# What they mean is in the user's guide of NONMEM; for CENS and LIMIT, in that of Monolix.
_NAMES = (
    *("ID", "TIME", "DV", "EVID", "AMT", "RATE", "ADDL", "II", "SS", "CMT"),
    *("MDV", "CENS", "LLOQ", "LIMIT", "DVID"),
)


def is_nonmem(table: "pd.DataFrame", roles: ColumnRoles) -> bool:
    """Whether a table has TIME and DV, and a column that tells what its rows are."""
    names = {name.upper() for name in table.columns if name not in roles.ignore}
    taken = {name.upper() for name in (*roles.values, *roles.covariates.values())}
    return {"TIME", "DV"} <= names and "DV" not in taken and bool(names & {"EVID", "AMT", "MDV"})


def read_nonmem(table: "pd.DataFrame", roles: ColumnRoles) -> ParsedTable:
    """Read a pharmacometric table.

    Args:
        table: whose index numbers the rows from 0.
        roles: what the system reads beside the columns that such tables have.

    Raises:
        ObservationError: if the table does not fit the system, with the row.
    """
    if len(table) == 0:
        raise ObservationError("The table has no rows. Expected at least one observation.")
    names = _names(table, roles)
    table = _with_individual(_without_dots(table), roles, names)
    _check_known(table, roles, names)
    time = _time_column(table, roles, names)
    times = times_of(table[time], time)
    check_known_times(times)
    times = together(times)
    cells = {role: table[name] for role, name in names.items()}
    kinds = read_kinds(cells)
    table, own = restarted(table, roles, times, kinds)
    people = read_individuals(table, own)
    if "ID" in names and not roles.nested:
        _check_one_id(table[names["ID"]], names["ID"], people)
    _check_together(people)
    check_clock(times, names | {"TIME": time}, people, own is not roles)
    records = read_records(cells, roles.declaration, people, times, kinds)
    if len(records):
        check_records(records, roles.declaration, TABLE)
    rows = read_values(cells, roles.declaration, people, times, kinds)
    return ParsedTable(table, people, time, times, rows, records if len(records) else None)


def _names(table: "pd.DataFrame", roles: ColumnRoles) -> dict[str, str]:
    """The columns that pharmacometric tables have, by their usual names in capitals."""
    names: dict[str, str] = {}
    for name in table.columns:
        role = name.upper()
        if role not in _NAMES or name in roles.ignore:
            continue
        if role in names:
            raise ObservationError(
                f"The table has the columns `{names[role]}` and `{name}`. Expected one {role}. "
                "Rename or drop the other, or leave it out by ignored_columns in the class, or "
                "Observations(..., ignore=...)."
            )
        names[role] = name
    return names


def _without_dots(table: "pd.DataFrame") -> "pd.DataFrame":
    """The table, in which a dot is a missing cell."""
    import pandas as pd

    def missing(cell: object) -> bool:
        return isinstance(cell, str) and cell.strip() in ("", ".")

    text = [name for name in table.columns if not pd.api.types.is_numeric_dtype(table[name])]
    return table.assign(**{name: table[name].mask(table[name].map(missing)) for name in text})


def _with_individual(
    table: "pd.DataFrame", roles: ColumnRoles, names: Mapping[str, str]
) -> "pd.DataFrame":
    """The table, in which ID takes the place of a column of individuals that is not there."""
    if len(roles.individual) == 1 and roles.individual[0] not in table and "ID" in names:
        return table.assign(**{roles.individual[0]: table[names["ID"]]})
    return table


def _check_known(table: "pd.DataFrame", roles: ColumnRoles, names: Mapping[str, str]) -> None:
    check_ignored(table.columns, roles)
    known: set[str | None] = {
        *names.values(),
        *roles.labels,
        *roles.covariates.values(),
        *roles.inputs.values(),
    }
    known |= {*roles.ignore, roles.time, roles.usual_time}
    unknown = [name for name in table.columns if name not in known]
    check_columns(roles, table.columns, unknown, observables=False)
    if unknown:
        raise ObservationError(
            f"The column `{unknown[0]}` is not known. Expected those of a pharmacometric table "
            f"({', '.join(_NAMES)}), and covariates, inputs or labels of "
            f"{roles.declaration.name}."
            + suggestion(unknown[0], [*_NAMES, *roles.claimed])
            + f" Declare it, such as {unknown[0]} = Covariate(), or leave it out by "
            "ignored_columns in the class, or Observations(..., ignore=...)."
        )


def _time_column(table: "pd.DataFrame", roles: ColumnRoles, names: Mapping[str, str]) -> str:
    asked = roles.time
    if asked is not None and asked.upper() != "TIME":
        if asked not in table:
            raise ObservationError(
                f"The table has no time column `{asked}`. Expected one of this name. Got the "
                f"columns: {listed(table.columns)}."
                + suggestion(asked, table.columns)
                + " Correct the name."
            )
        return asked
    usual = roles.usual_time
    return usual if usual is not None and usual in table else names["TIME"]


def _check_one_id(column: "pd.Series", name: str, people: IndividualsTable) -> None:
    """Refuse a table of several subjects where the system knows of none, or of others."""
    ids = read_labels(column.ffill().bfill(), name)
    first = np.unique(people.who, return_index=True)[1]
    other = np.flatnonzero(ids != ids[first[people.who]])
    if other.size:
        row = int(other[0])
        raise ObservationError(
            f"The table has more than one {name}: {ids[first[people.who[row]]]}, and {ids[row]} in "
            f"row {row + 1}. Expected one, since the system does not tell individuals apart by it. "
            f'Set individual = "{name}" in the class.'
        )


def _check_together(people: IndividualsTable) -> None:
    """Refuse an individual whose rows are interrupted: two subjects that share an ID."""
    starts = np.flatnonzero(np.diff(people.who, prepend=-1))
    again = np.ones(len(starts), bool)
    again[np.unique(people.who[starts], return_index=True)[1]] = False
    if again.any():
        row = int(starts[np.argmax(again)])
        raise ObservationError(
            f"Row {row + 1} of the table goes back to {people.called(people.who[row])}, after rows "
            f"of {people.called(people.who[row - 1])}. Expected the rows of each together. If it "
            "is the same one, sort the table by individual alone, keeping the order of its rows: "
            'table.sort_values("ID", kind="stable"). If not, give it another label.'
        )
