"""Tables as they come (CSV, pandas) into one with a name a column and a number a row."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from odecal._errors import ObservationError, listed
from odecal._reading._compressed import opened

if TYPE_CHECKING:
    import pandas as pd


def read_sheet(data: Any, what: str = "Observations") -> "pd.DataFrame":
    """A table whose columns have different names and whose rows are numbered.

    Args:
        data: a CSV path or a `pandas.DataFrame`, which is not changed.
        what: what the table holds, for messages.

    Raises:
        ObservationError: if it is neither, or cannot be read.
    """
    import pandas as pd

    if isinstance(data, (str, Path)):
        data = _read_csv(Path(data))
    if not isinstance(data, pd.DataFrame):
        other = ", an xarray.Dataset" if what == "Observations" else ""
        raise ObservationError(
            f"{what} are expected as a pandas.DataFrame{other} or the path of a CSV file. "
            f"Got a {type(data).__name__}."
        )
    return _numbered(data)


def numbers(column: "pd.Series", name: str, hint: str = "") -> np.ndarray:
    """A column as floats; NaN where a cell is empty.

    Args:
        column: whose index numbers the rows from 0.
        name: of the column, for messages.
        hint: what else to do about text.

    Raises:
        ObservationError: at the first cell that is no finite number, with its row.
    """
    values = loose_numbers(column, name)
    wrong = np.flatnonzero(np.isnan(values) & column.notna().to_numpy())
    if wrong.size:
        raise ObservationError(
            f"The column `{name}` holds text in row {row_number(column, wrong[0])}: "
            f"{column.iloc[wrong[0]]!r}. Expected numbers; a missing value is an empty cell, NA or "
            f"NaN.{hint}"
        )
    return values


def loose_numbers(column: "pd.Series", name: str) -> np.ndarray:
    """A column as floats; NaN where a cell is empty or is text.

    Raises:
        ObservationError: if it holds dates or infinite values.
    """
    import pandas as pd

    if pd.api.types.is_datetime64_any_dtype(column) or pd.api.types.is_timedelta64_dtype(column):
        raise ObservationError(
            f"The column `{name}` holds dates. Expected numbers in the system's unit of time. "
            "Convert it, for example (table.date - table.date[0]).dt.total_seconds() / 86400."
        )
    values = np.array(pd.to_numeric(column, errors="coerce").to_numpy(float, na_value=np.nan))
    infinite = np.flatnonzero(np.isinf(values))
    if infinite.size:
        raise ObservationError(
            f"The column `{name}` holds an infinite value in row "
            f"{row_number(column, infinite[0])}. Expected finite numbers. Correct it, or make it "
            "NaN if it is missing."
        )
    return values


def row_number(column: "pd.Series", position: Any) -> int:
    """Which row of its table a cell is in, counted from 1."""
    return int(column.index[int(position)]) + 1


def _read_csv(path: Path) -> "pd.DataFrame":
    import pandas as pd

    if not path.exists():
        raise ObservationError(f"There is no file {path}. Expected the path of a CSV table.")
    try:
        table = pd.read_csv(opened(path), skipinitialspace=True)
    except pd.errors.EmptyDataError:
        raise ObservationError(f"The file {path} is empty. Expected a header and rows.") from None
    except ObservationError:
        raise
    except (OSError, ValueError, UnicodeError) as error:
        raise ObservationError(
            f"The file {path} cannot be read as a CSV table. Expected text, a header line, and "
            f"values separated by commas. {error}"
        ) from None
    if not isinstance(table.index, pd.RangeIndex):
        table = _without_extra_cells(table, path)
    table.columns = [str(name).strip() for name in table.columns]
    if len(table.columns) == 1 and any(mark in table.columns[0] for mark in ";\t"):
        raise ObservationError(
            f"The file {path} has one column, `{table.columns[0]}`. Expected values separated by "
            "commas; it seems to use another separator. Read it with pandas.read_csv(..., sep=...) "
            "and pass the table, or save it with commas."
        )
    return table


def _without_extra_cells(table: "pd.DataFrame", path: Path) -> "pd.DataFrame":
    """Undo pandas' guess that the first column is an index where rows have a cell too many."""
    names = list(table.columns)
    cells = table.reset_index()
    extra = cells.iloc[:, len(names) :]
    if not extra.isna().all(axis=None):
        raise ObservationError(
            f"The rows of the file {path} have more cells than its header has names "
            f"({listed(names)}). Expected as many. Name every column, or remove the extra cells."
        )
    return cells.iloc[:, : len(names)].set_axis(names, axis=1)


def _numbered(table: "pd.DataFrame") -> "pd.DataFrame":
    """Move what the index names into columns, and number the rows from 0."""
    if not table.index.is_unique:
        label = table.index[table.index.duplicated()][0]
        raise ObservationError(
            f"The index of the table has duplicates: {label!s} is there more than once. Expected "
            "one label a row. If these are replicates, keep the time as a column: "
            "table.reset_index(), or table.reset_index(drop=True) where the index means nothing."
        )
    named = [name for name in table.index.names if name is not None and name not in table.columns]
    if named:
        table = table.reset_index(named)
    table = table.reset_index(drop=True)
    table = table.set_axis([str(name) for name in table.columns], axis=1)
    if not table.columns.is_unique:
        name = table.columns[table.columns.duplicated()][0]
        raise ObservationError(
            f"The table has more than one column `{name}`. Expected each name once; replicates go "
            "into rows of the same time."
        )
    return table
