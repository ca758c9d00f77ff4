"""Clocks that a reset sets back: what follows is solved for by itself."""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from odecal._data.columns import ColumnRoles
from odecal._data.individuals import IndividualsTable
from odecal._data.labels import row_keys
from odecal._errors import ObservationError

if TYPE_CHECKING:
    import pandas as pd

_RESETS = (3, 4)  # of EVID


def restarted(
    table: "pd.DataFrame", roles: ColumnRoles, times: np.ndarray, kinds: np.ndarray
) -> tuple["pd.DataFrame", ColumnRoles]:
    """The table with a column that counts how often the clock was set back, where it was.

    NONMEM lets the time of a reset be any. The state begins anew there, so that nothing passes from
    before to after: each stretch is an individual of its own, of the same groups.

    Args:
        table: whose rows of an individual are together.
        roles: which columns tell individuals.
        times: of each row.
        kinds: what each row is, as EVID has it.

    Returns:
        The table and the layout, with the column as the last that tells individuals apart.
    """
    back = (np.diff(times, prepend=times[:1]) < 0) & np.isin(kinds, _RESETS)
    if not back.any():
        return table, roles
    keys = row_keys(table, roles.individual) if roles.individual else [()] * len(table)
    same = np.array([False, *(a == b for a, b in itertools.pairwise(keys))])
    back &= same
    if not back.any():
        return table, roles
    count = np.cumsum(back)
    count -= count[np.flatnonzero(~same)[np.cumsum(~same) - 1]]
    name = "restart"
    while name in table:
        name += "_"
    table = _filled(table, roles).assign(**{name: count})
    return table, replace(roles, individual=(*roles.individual, name))


def _filled(table: "pd.DataFrame", roles: ColumnRoles) -> "pd.DataFrame":
    """The table, in which empty cells of covariates have the value of others of the individual."""
    for column in roles.covariates.values():
        cells = table[column]
        if roles.individual:
            rows = table.groupby([table[c] for c in roles.individual], sort=False)[column]
            cells = rows.ffill().fillna(rows.bfill())
        else:
            cells = cells.ffill().bfill()
        table = table.assign(**{column: cells})
    return table


def check_clock(
    times: np.ndarray, names: Mapping[str, str], people: IndividualsTable, restarts: bool
) -> None:
    """Refuse times that go back within an individual without a reset.

    Args:
        times: of each row, none missing.
        names: the columns by their usual names.
        people: the individuals, whose rows are together.
        restarts: whether resets set clocks back elsewhere in the table.
    """
    falls = (np.diff(times) < 0) & (np.diff(people.who) == 0)
    if not falls.any():
        return
    row = int(np.argmax(falls)) + 1
    keys = [names[role] for role in ("ID", "TIME") if role in names]
    sort = f'table.sort_values({keys}, kind="stable"), which keeps the order of those of one time'
    raise ObservationError(
        f"The times{people.of(people.who[row])} are not sorted: row {row + 1} has {times[row]:g} "
        f"after {times[row - 1]:g} in row {row}. Expected times that never go back, but where a "
        "reset sets the clock back (EVID 3, or 4 with a dose). If a new occasion begins there, "
        "give its first row such an EVID, or put one before it. If rows are out of their places, "
        + ("put them back: a sort would mix occasions." if restarts else f"sort them: {sort}.")
    )
