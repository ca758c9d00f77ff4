"""Tables as they come (CSV, pandas) into one with a name a column and a number a row."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from odecal._data.csv import read_csv
from odecal._errors import ObservationError

if TYPE_CHECKING:
    import pandas as pd


def read_frame(data: Any, what: str = "Observations") -> "pd.DataFrame":
    """A copy of a table, whose columns have different names and whose rows are numbered."""
    import pandas as pd

    table = read_csv(Path(data)) if isinstance(data, (str, Path)) else data
    if not isinstance(table, pd.DataFrame):
        other = ", an xarray.Dataset" if what == "Observations" else ""
        raise ObservationError(
            f"{what} are expected as a pandas.DataFrame{other} or the path of a CSV file. "
            f"Got a {type(data).__name__}."
        )
    if not table.index.is_unique:
        label = table.index[table.index.duplicated()][0]
        raise ObservationError(
            f"The index of the table has duplicates: {label!s} is there more than once. Expected "
            "one label a row. If these are replicates, keep the time as a column: "
            "table.reset_index(), or table.reset_index(drop=True) where the index means nothing."
        )
    named = [name for name in table.index.names if name is not None]
    _check_index(table, named)
    if new := [name for name in named if name not in table.columns]:
        table = table.reset_index(new)
    table = table.reset_index(drop=True)
    table = table.set_axis([str(name) for name in table.columns], axis=1)
    if not table.columns.is_unique:
        name = table.columns[table.columns.duplicated()][0]
        raise ObservationError(
            f"The table has more than one column `{name}`. Expected each name once; replicates go "
            "into rows of the same time."
        )
    return table


def _check_index(table: "pd.DataFrame", named: list[Any]) -> None:
    """Refuse an index that has the name of a column, and says something else."""
    for name in named:
        if name in table.columns and table.columns.is_unique:
            index = table.index.get_level_values(name)
            if list(index) != table[name].tolist():
                raise ObservationError(
                    f"The table has `{name}` as a column and in its index, and they differ. "
                    "Expected one of them. Drop the index, table.reset_index(drop=True), or rename "
                    "the column."
                )
