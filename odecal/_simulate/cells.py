"""Draws written into the cells of tables, as a laboratory would report them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from odecal._data.censored import limits_of
from odecal._data.columns import ColumnRoles
from odecal._data.experiment import Series
from odecal._data.nonmem import without_dots
from odecal._data.numbers import numbers

if TYPE_CHECKING:
    import pandas as pd


def fill_tidy(
    table: "pd.DataFrame",
    roles: ColumnRoles,
    series: Mapping[str, Series],
    draws: Mapping[str, np.ndarray],
) -> "pd.DataFrame":
    """A tidy table with the draws in the columns of the observables.

    What lies beyond a limit of quantification is text, `<0.5`.
    """
    import pandas as pd

    filled = {}
    for name, columns in roles.observables.items():
        rows = _rows(series[name])
        lloq, uloq = limits_of(roles.declaration.observables[name])
        shape = (len(rows), len(columns))
        present, drawn = series[name].present.reshape(shape), draws[name].reshape(shape)
        for j, column in enumerate(columns):
            here = present[:, j]
            blank = pd.Series(np.nan, table.index)
            filled[column] = _put(blank, rows[here], _reported(drawn[here, j], lloq, uloq))
    return table.assign(**filled)


def fill_nonmem(
    table: "pd.DataFrame",
    roles: ColumnRoles,
    series: Mapping[str, Series],
    draws: Mapping[str, np.ndarray],
) -> "pd.DataFrame":
    """A NONMEM table with the draws in DV, and CENS where a limit is passed.

    A column LIMIT is blank where DV is drawn.
    """
    columns = nonmem_columns(table, roles)
    parts = []
    for name, one in series.items():
        lower, upper = (
            np.full(len(draws[name]), x) for x in limits_of(roles.declaration.observables[name])
        )
        if "LLOQ" in columns:  # that of a row stands before the observable's
            own = numbers(without_dots(table[columns["LLOQ"]].iloc[_rows(one)]))
            lower = np.where(np.isnan(own), lower, own)
        parts.append((_rows(one), draws[name].astype(float), lower, upper))
    rows, value, lloq, uloq = map(np.concatenate, zip(*parts, strict=True))
    cens = np.where(value < lloq, 1, np.where(value > uloq, -1, 0))
    value = np.where(cens == 1, lloq, np.where(cens == -1, uloq, value))
    cells = {"DV": value, "LIMIT": np.full(len(rows), np.nan), "CENS": cens}
    filled: dict[str, Any] = {
        columns[name]: _put(table[columns[name]], rows, cells[name])
        for name in ("DV", "LIMIT", "CENS")
        if name in columns
    }
    if "CENS" not in columns and cens.any():
        column = np.zeros(len(table), int)
        column[rows] = cens
        filled["CENS" if columns["DV"].isupper() else "cens"] = column
    return table.assign(**filled)


def nonmem_columns(table: "pd.DataFrame", roles: ColumnRoles) -> dict[str, str]:
    """The names of columns as they stand, by the same in capitals, as NONMEM has them."""
    return {name.upper(): name for name in table.columns if name not in roles.ignore}


def _rows(series: Series) -> Int[np.ndarray, " value"]:
    """The row of the table that each value is in."""
    assert series.row is not None
    return series.row


def _reported(values: np.ndarray, lloq: float, uloq: float) -> np.ndarray:
    """Values, and text such as `<0.5` in place of those beyond the limits."""
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
    read = pd.to_numeric(column, errors="coerce")
    return read if read.notna().equals(column.notna()) else column
