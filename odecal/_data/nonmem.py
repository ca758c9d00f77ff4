"""NONMEM's tables as they are: doses and observations in one."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from odecal._data.columns import ColumnRoles, check_columns, check_ignored, no_time_column
from odecal._data.dose_checks import check_doses
from odecal._data.individuals import read_individuals
from odecal._data.nonmem_events import TABLE, NonmemRows, read_dose_records, read_evid
from odecal._data.nonmem_individuals import (
    check_clock,
    check_one_id,
    check_together,
    split_at_restarts,
    with_individual,
)
from odecal._data.nonmem_observations import read_values
from odecal._data.parsed import ParsedTable
from odecal._data.times import check_given, merge_rounded, read_times
from odecal._errors import ObservationError, suggestion

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
    """Read a NONMEM table."""
    if len(table) == 0:
        raise ObservationError("The table has no rows. Expected at least one observation.")
    names = _names(table, roles)
    table = with_individual(_without_dots(table), roles, names)
    _check_known(table, roles, names)
    time = _time_column(table, roles, names)
    times = read_times(table[time])
    check_given(times)
    times = merge_rounded(times)
    cells = {role: table[name] for role, name in names.items()}
    evid = read_evid(cells)
    table, split = split_at_restarts(table, roles, times, evid)
    subjects = read_individuals(table, split)
    if "ID" in names and not roles.nested:
        check_one_id(cells["ID"], subjects)
    check_together(subjects)
    check_clock(times, names | {"TIME": time}, subjects, split is not roles)
    rows = NonmemRows(cells, subjects, times, evid)
    records = read_dose_records(rows, roles.declaration)
    check_doses(records, roles.declaration, TABLE)
    values = read_values(rows, roles.declaration)
    return ParsedTable(table, subjects, time, times, values, records if len(records) else None)


def _names(table: "pd.DataFrame", roles: ColumnRoles) -> dict[str, str]:
    """The columns that NONMEM tables have, by their usual names in capitals."""
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


def without_dots(column: "pd.Series") -> "pd.Series":
    """A column, in which a dot is a missing cell."""
    dots = column.map(lambda cell: isinstance(cell, str) and cell.strip() in ("", "."))
    return column.mask(dots.astype(bool))


def _without_dots(table: "pd.DataFrame") -> "pd.DataFrame":
    import pandas as pd

    text = [name for name in table.columns if not pd.api.types.is_numeric_dtype(table[name])]
    return table.assign(**{name: without_dots(table[name]) for name in text})


def _check_known(table: "pd.DataFrame", roles: ColumnRoles, names: Mapping[str, str]) -> None:
    """Refuse a table with a column that is unknown, or without one of the system's."""
    check_ignored(table.columns, roles)
    known = {*names.values(), *roles.labels, *roles.covariates.values(), *roles.inputs.values()}
    known |= {*roles.ignore, *filter(None, (roles.time, roles.usual_time))}
    unknown = [name for name in table.columns if name not in known]
    check_columns(roles, table.columns, unknown, observables=False)
    if unknown:
        raise ObservationError(
            f"The column `{unknown[0]}` is not known. Expected those of a pharmacometric table "
            f"({', '.join(_NAMES)}), and covariates, inputs or labels of "
            f"{roles.declaration.name}."
            + suggestion(unknown[0], [*_NAMES, *roles.columns])
            + f" Declare it, such as {unknown[0]} = Covariate(), or leave it out by "
            "ignored_columns in the class, or Observations(..., ignore=...)."
        )


def _time_column(table: "pd.DataFrame", roles: ColumnRoles, names: Mapping[str, str]) -> str:
    """The name of the time column: what the user gave, what is usual for the system, or TIME."""
    if roles.time is not None and roles.time.upper() != "TIME":
        if roles.time not in table:
            raise no_time_column(roles.time, table.columns, table.columns)
        return roles.time
    usual = roles.usual_time
    return usual if usual is not None and usual in table else names["TIME"]
