"""Who the rows of a NONMEM table are of: an ID, and anew where a reset sets the clock back."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Shaped

from odecal._data.columns import ColumnRoles
from odecal._data.individuals import IndividualsTable
from odecal._data.labels import numbered, read_labels, row_keys
from odecal._data.nonmem_events import RESET, RESET_AND_DOSE
from odecal._data.numbers import first_true
from odecal._data.times import first_fall
from odecal._errors import ObservationError

if TYPE_CHECKING:
    import pandas as pd


def with_individual(
    table: "pd.DataFrame", roles: ColumnRoles, names: Mapping[str, str]
) -> "pd.DataFrame":
    """The table, in which ID takes the place of a column of individuals that is not there."""
    if len(roles.individual) == 1 and roles.individual[0] not in table and "ID" in names:
        return table.assign(**{roles.individual[0]: table[names["ID"]]})
    return table


def check_one_id(column: "pd.Series", subjects: IndividualsTable) -> None:
    """Refuse a table of several subjects where the system knows of none, or of others."""
    ids = read_labels(column.ffill().bfill())
    expected = ids[np.unique(subjects.index, return_index=True)[1]][subjects.index]
    if (row := first_true(ids != expected)) is not None:
        raise ObservationError(
            f"The table has more than one {column.name}: {expected[row]}, and {ids[row]} in "
            f"row {row + 1}. Expected one, since the system does not tell individuals apart by it. "
            f'Set individual = "{column.name}" in the class.'
        )


def check_together(subjects: IndividualsTable) -> None:
    """Refuse an individual whose rows are interrupted: two subjects that share an ID."""
    # Individuals are numbered in the order in which they appear.
    if (at := first_true(np.diff(subjects.index) < 0)) is not None:
        before, after = subjects.index[at : at + 2]
        raise ObservationError(
            f"Row {at + 2} of the table goes back to {subjects.name(after)}, after rows "
            f"of {subjects.name(before)}. Expected the rows of each together. If it "
            "is the same one, sort the table by individual alone, keeping the order of its rows: "
            'table.sort_values("ID", kind="stable"). If not, give it another label.'
        )


def split_at_restarts(
    table: "pd.DataFrame",
    roles: ColumnRoles,
    times: Float[np.ndarray, " row"],
    evid: Shaped[np.ndarray, " row"],
) -> tuple["pd.DataFrame", ColumnRoles]:
    """The table with a column that counts how often the clock was set back, where it was.

    NONMEM lets the time of a reset be any. The state begins anew there, so that nothing passes from
    before to after: each stretch is an individual of its own, of the same groups. Of the roles, the
    column is the last that tells individuals apart.
    """
    back = (np.diff(times, prepend=times[:1]) < 0) & np.isin(evid, (RESET, RESET_AND_DOSE))
    if not back.any():
        return table, roles
    index = numbered(row_keys(table, roles.individual))[1]
    begins = np.diff(index, prepend=-1) != 0
    back &= ~begins
    if not back.any():
        return table, roles
    count = np.cumsum(back)
    count -= count[np.flatnonzero(begins)[np.cumsum(begins) - 1]]
    name = "restart"
    while name in table:
        name += "_"
    table = _filled(table, roles).assign(**{name: count})
    return table, replace(roles, individual=(*roles.individual, name))


def _filled(table: "pd.DataFrame", roles: ColumnRoles) -> "pd.DataFrame":
    """The table, in which empty cells of covariates have the value of others of the individual."""
    columns = list(roles.covariates.values())
    if not roles.individual:
        return table.assign(**{column: table[column].ffill().bfill() for column in columns})
    rows = table.groupby([table[column] for column in roles.individual], sort=False)
    return table.assign(**{c: rows[c].ffill().fillna(rows[c].bfill()) for c in columns})


def check_clock(
    times: Float[np.ndarray, " row"],
    names: Mapping[str, str],
    subjects: IndividualsTable,
    restarts: bool,
) -> None:
    """Refuse times that go back within an individual without a reset."""
    fall = first_fall(times, subjects.index)
    if fall is None:
        return
    before, row = fall
    keys = [names[role] for role in ("ID", "TIME") if role in names]
    sort = f'table.sort_values({keys}, kind="stable"), which keeps the order of those of one time'
    raise ObservationError(
        f"The times{subjects.of(subjects.index[row])} are not sorted: row {row + 1} has "
        f"{times[row]:g} after {times[before]:g} in row {row}. Expected times that never go back, "
        "but where a reset sets the clock back (EVID 3, or 4 with a dose). If a new occasion "
        "begins there, give its first row such an EVID, or put one before it. If rows are out of "
        "their places, "
        + ("put them back: a sort would mix occasions." if restarts else f"sort them: {sort}.")
    )
