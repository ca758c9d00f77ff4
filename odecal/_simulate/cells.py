"""Draws written into the cells of tables, as a laboratory would report them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from odecal._data.censored import limit_or_nan
from odecal._data.columns import ColumnRoles
from odecal._data.experiment import Series
from odecal._data.nonmem import without_dots
from odecal._data.numbers import numbers

if TYPE_CHECKING:
    import pandas as pd


def fill_tidy(
    table: "pd.DataFrame",
    layout: ColumnRoles,
    series: Mapping[str, Series],
    draws: Mapping[str, np.ndarray],
) -> "pd.DataFrame":
    """A tidy table with the draws in the columns of the observables.

    Args:
        table: whose index numbers the rows from 0.
        layout: what the system reads from it.
        series: of each observable, which values are in which rows.
        draws: of each observable, of shape (n, *dims).

    Returns:
        The table: what lies beyond a limit of quantification as text, `<0.5`.
    """
    import pandas as pd

    filled = {}
    for name, columns in layout.observables.items():
        part, one = layout.declaration.observables[name], series[name]
        shape = (len(one.times), len(columns))
        present, drawn = one.present.reshape(shape), draws[name].reshape(shape)
        for j, column in enumerate(columns):
            there = present[:, j]
            blank = pd.Series(np.nan, table.index)
            cells = _reported(drawn[there, j], limit_or_nan(part.lloq), limit_or_nan(part.uloq))
            filled[column] = _put(blank, _rows(one)[there], cells)
    return table.assign(**filled)


def fill_nonmem(
    table: "pd.DataFrame",
    layout: ColumnRoles,
    series: Mapping[str, Series],
    draws: Mapping[str, np.ndarray],
) -> "pd.DataFrame":
    """A pharmacometric table with the draws in DV, and CENS where a limit is passed.

    Args:
        table: whose index numbers the rows from 0.
        layout: what the system reads from it.
        series: of each observable, which values are in which rows.
        draws: of each observable, of shape (n,).

    Returns:
        The table. Where it has a column LIMIT, that is blank where DV is drawn.
    """
    roles = {name.upper(): name for name in table.columns if name not in layout.ignore}
    rows = np.concatenate([_rows(one) for one in series.values()])
    value = np.concatenate([draws[name] for name in series]).astype(float)
    lloq, uloq = _limits(table, layout, series, roles)
    below, above = value < lloq, value > uloq
    value = np.where(below, lloq, np.where(above, uloq, value))
    cens = np.where(below, 1, np.where(above, -1, 0))
    filled: dict[str, Any] = {roles["DV"]: _put(table[roles["DV"]], rows, value)}
    if "LIMIT" in roles:
        filled[roles["LIMIT"]] = _put(table[roles["LIMIT"]], rows, np.full(len(rows), np.nan))
    if "CENS" in roles:
        filled[roles["CENS"]] = _put(table[roles["CENS"]], rows, cens)
    elif cens.any():
        column = np.zeros(len(table), int)
        column[rows] = cens
        filled["CENS" if roles["DV"].isupper() else "cens"] = column
    return table.assign(**filled)


def _limits(
    table: "pd.DataFrame",
    layout: ColumnRoles,
    series: Mapping[str, Series],
    roles: Mapping[str, str],
) -> tuple[np.ndarray, np.ndarray]:
    """The limits of quantification of all values, of one observable after the other."""
    lower, upper = [], []
    for name, one in series.items():
        part, rows = layout.declaration.observables[name], _rows(one)
        lloq = np.full(len(rows), limit_or_nan(part.lloq))
        if "LLOQ" in roles:
            column = without_dots(table[roles["LLOQ"]].iloc[rows])
            own = numbers(column, roles["LLOQ"])
            lloq = np.where(np.isnan(own), lloq, own)
        lower.append(lloq)
        upper.append(np.full(len(rows), limit_or_nan(part.uloq)))
    return np.concatenate(lower), np.concatenate(upper)


def _rows(series: Series) -> np.ndarray:
    """The row of the table that each value is in."""
    assert series.row is not None
    return series.row


def _reported(values: np.ndarray, lloq: float, uloq: float) -> np.ndarray:
    """Values, and in place of those beyond the limits what is said of them."""
    cells = values.astype(float).astype(object)
    cells[values < lloq] = f"<{_shown(lloq)}"
    cells[values > uloq] = f">{_shown(uloq)}"
    return cells


def _shown(value: float) -> str:
    """A number in as few digits as tell it."""
    return str(np.format_float_positional(value, trim="-"))


def _put(column: "pd.Series", rows: np.ndarray, cells: np.ndarray) -> "pd.Series":
    """A column with other cells in some rows; of numbers if all its cells are such."""
    import pandas as pd

    column = without_dots(column).astype(object)
    column.iloc[rows] = cells
    found = pd.to_numeric(column, errors="coerce")
    return found if found.notna().equals(column.notna()) else column
