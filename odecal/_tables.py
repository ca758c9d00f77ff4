"""Tables as they come (CSV, pandas, xarray) into plain arrays, one a column of an observable."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from odecal._declaration import Declaration
from odecal._errors import ObservationError, listed, suggestion

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of one observable: times of shape (row,), values of shape (row, *dims)."""

    times: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Layout:
    """What is known of a table beside the system's observables.

    Args:
        time: the name of the time column, which must be there; None finds it.
        usual_time: its usual name, taken where it is there.
        ignore: columns to leave out, where they are.
        asked: those of them that the user asked for with this table, which must be there.
    """

    time: str | None
    usual_time: str | None
    ignore: Sequence[str]
    asked: Sequence[str] = ()


def read_rows(data: Any, declaration: Declaration, layout: Layout) -> dict[str, Rows]:
    """The rows of every observable, in the order of the table.

    Args:
        data: a CSV path, a `pandas.DataFrame` or an `xarray.Dataset`.
        declaration: the system whose observables are the columns.
        layout: what is known of the table.

    Returns:
        Times and values of each observable by name; NaN is missing.

    Raises:
        ObservationError: if the table does not fit, with the column and row.
    """
    import pandas as pd
    import xarray as xr

    if isinstance(data, (str, Path)):
        data = _read_csv(Path(data))
    if isinstance(data, xr.DataArray):
        data = data.to_dataset(name=data.name or "value")
    if isinstance(data, xr.Dataset):
        return _from_dataset(data, declaration, layout)
    if isinstance(data, pd.DataFrame):
        return _from_table(data, declaration, layout)
    raise ObservationError(
        "Observations are expected as a pandas.DataFrame, an xarray.Dataset or the path of a CSV "
        f"file. Got a {type(data).__name__}."
    )


def _read_csv(path: Path) -> "pd.DataFrame":
    import pandas as pd

    if not path.exists():
        raise ObservationError(
            f"There is no file {path}. Expected the path of a CSV table of observations."
        )
    try:
        table = pd.read_csv(path, skipinitialspace=True)
    except pd.errors.EmptyDataError:
        raise ObservationError(f"The file {path} is empty. Expected a header and rows.") from None
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


def _from_table(table: "pd.DataFrame", declaration: Declaration, layout: Layout) -> dict[str, Rows]:
    if not table.index.is_unique:
        label = table.index[table.index.duplicated()][0]
        raise ObservationError(
            f"The index of the table has duplicates: {label!s} is there more than once. Expected "
            "one label a row. If these are replicates, keep the time as a column: "
            "table.reset_index(), or table.reset_index(drop=True) where the index means nothing."
        )
    index = table.index.name
    if index is not None and index not in table.columns:
        table = table.reset_index()
    table = table.set_axis([str(name) for name in table.columns], axis=1)
    if not table.columns.is_unique:
        name = table.columns[table.columns.duplicated()][0]
        raise ObservationError(
            f"The table has more than one column `{name}`. Expected each name once; replicates go "
            "into rows of the same time."
        )
    columns = {name: _columns(declaration, name) for name in declaration.observables}
    names = [str(name) for name in table.columns]
    time = _time_column(declaration, columns, names, layout)
    if len(table) == 0:
        raise ObservationError("The table has no rows. Expected at least one observation.")
    times = _numbers(table[time], time)
    rows = {}
    for name, parts in columns.items():
        values = np.stack([_numbers(table[part], part) for part in parts], axis=-1)
        rows[name] = Rows(times, values.reshape(len(table), *declaration.shape(name)))
    return rows


def _columns(declaration: Declaration, name: str) -> list[str]:
    """The columns of one observable: its name, or `name[label]` for each element of a vector."""
    dims = declaration.components[name].dims
    if not dims:
        return [name]
    labels = itertools.product(*(declaration.coords[dim] for dim in dims))
    return [f"{name}[{','.join(str(x) for x in label)}]" for label in labels]


def _time_column(
    declaration: Declaration,
    columns: dict[str, list[str]],
    names: list[str],
    layout: Layout,
) -> str:
    """The name of the time column; refuses unknown and missing columns on the way."""
    time = layout.time
    _check_ignored(names, layout)
    claimed = [part for parts in columns.values() for part in parts]
    spare = [name for name in names if name not in claimed and name not in layout.ignore]
    missing = [name for name in claimed if name not in names]
    if time is not None and time not in names:
        raise ObservationError(
            f"The table has no time column `{time}`. Got the columns: {listed(names)}."
            + suggestion(time, spare)
        )
    if time is None:
        usual = [name for name in (layout.usual_time, "time", "t") if name in spare]
        if usual:
            time = usual[0]
        elif len(spare) == 1 and not missing:
            time = spare[0]
    unknown = [name for name in spare if name != time]
    if missing:
        whole = next(name for name, parts in columns.items() if missing[0] in parts)
        raise ObservationError(
            f"The table has no column `{missing[0]}` for the observable `{whole}` of "
            f"{declaration.name}. Got the columns: {listed(names)}."
            + suggestion(missing[0], unknown)
            + f" Add or rename the column, or leave the observable out with "
            f"{declaration.name}({whole}=None)."
        )
    if time is None:
        raise ObservationError(
            f"The time column cannot be told. Expected one column beside the observables "
            f"({listed(claimed)}). Got {listed(spare)}. Name it `time`, or say which it is: "
            "time_column in the class, or Observations(..., time=...)."
        )
    if unknown:
        raise ObservationError(
            f"The column `{unknown[0]}` is no observable of {declaration.name}. Expected the time "
            f"column `{time}` and: {listed(claimed)}." + suggestion(unknown[0], claimed) + " Rename"
            " or drop it, or leave it out by ignored_columns in the class, or "
            "Observations(..., ignore=...)."
        )
    return time


def _numbers(column: "pd.Series", name: str) -> np.ndarray:
    """A column as floats, or a message with the first cell that is no number."""
    import pandas as pd

    if pd.api.types.is_datetime64_any_dtype(column) or pd.api.types.is_timedelta64_dtype(column):
        raise ObservationError(
            f"The column `{name}` holds dates. Expected numbers in the system's unit of time. "
            "Convert it, for example (table.date - table.date[0]).dt.total_seconds() / 86400."
        )
    numbers = pd.to_numeric(column, errors="coerce")
    wrong = np.flatnonzero(numbers.isna() & column.notna())
    if wrong.size:
        row = int(wrong[0])
        raise ObservationError(
            f"The column `{name}` holds text in row {row + 1}: {column.iloc[row]!r}. Expected "
            "numbers; a missing value is an empty cell, NA or NaN."
        )
    values = numbers.to_numpy(dtype=float)
    _check_finite(values, name)
    return values


def _check_finite(values: np.ndarray, name: str) -> None:
    rows = np.flatnonzero(np.isinf(values).reshape(len(values), -1).any(axis=1))
    if rows.size:
        raise ObservationError(
            f"The column `{name}` holds an infinite value in row {rows[0] + 1}. Expected finite "
            "numbers. Correct it, or make it NaN if it is missing."
        )


def _check_ignored(names: list[str], layout: Layout) -> None:
    """Refuse to leave out what is not there: it is a slip of the pen."""
    absent = [name for name in layout.asked if name not in names]
    if absent:
        raise ObservationError(
            f"ignore names `{absent[0]}`, which the table does not have. Got the columns: "
            f"{listed(names)}." + suggestion(absent[0], names)
        )


def _from_dataset(data: "xr.Dataset", declaration: Declaration, layout: Layout) -> dict[str, Rows]:
    names = [str(name) for name in data.data_vars]
    missing = [name for name in declaration.observables if name not in names]
    if missing:
        raise ObservationError(
            f"The dataset has no variable `{missing[0]}` for the observable of {declaration.name}. "
            f"Got: {listed(names)}." + suggestion(missing[0], names) + " Add or rename it, or leave"
            f" the observable out with {declaration.name}({missing[0]}=None)."
        )
    _check_ignored([*names, *map(str, data.coords)], layout)
    unknown = [n for n in names if n not in declaration.observables and n not in layout.ignore]
    if unknown:
        raise ObservationError(
            f"The variable `{unknown[0]}` is no observable of {declaration.name}. Expected: "
            f"{listed(declaration.observables)}."
            + suggestion(unknown[0], declaration.observables)
            + " Drop it with dataset.drop_vars(...)."
        )
    time = _time_dim(data, declaration, layout)
    if data.sizes[time] == 0:
        raise ObservationError("The dataset has no times. Expected at least one observation.")
    index = data.indexes[time]
    if not index.is_unique:
        label = index[index.duplicated()][0]
        raise ObservationError(
            f"The time index `{time}` has duplicates: {label!s} is there more than once. Expected "
            "each time once. Give replicates a dimension of their own, `replicate`."
        )
    times = _numbers(index.to_series(), time)
    return {
        name: _variable_rows(data, declaration, name, time, times)
        for name in declaration.observables
    }


def _time_dim(data: "xr.Dataset", declaration: Declaration, layout: Layout) -> str:
    data = data[list(declaration.observables)]
    own = {dim for c in declaration.observables.values() for dim in c.dims} | {"replicate"}
    spare = [str(dim) for dim in data.dims if dim not in own]
    usual = [name for name in (layout.usual_time, "time", "t") if name in spare]
    time = layout.time or (usual or spare if usual or len(spare) == 1 else [None])[0]
    if time is None or time not in data.dims or time not in data.indexes:
        raise ObservationError(
            f"The time dimension `{time or 'time'}` with a coordinate is expected in the dataset. "
            f"Got the dimensions {listed(data.dims)}, of which {listed(data.indexes)} have "
            "coordinates. Name it by time_column in the class, or Observations(..., time=...)."
        )
    return time


def _variable_rows(
    data: "xr.Dataset", declaration: Declaration, name: str, time: str, times: np.ndarray
) -> Rows:
    dims = declaration.components[name].dims
    array = data[name]
    allowed = {time, "replicate", *dims}
    if not {time, *dims} <= set(array.dims) <= allowed:
        raise ObservationError(
            f"The variable `{name}` has the dimensions {listed(array.dims)}. Expected "
            f"{listed([time, *dims])}, and perhaps `replicate`."
        )
    for dim in dims:
        if dim in array.indexes:
            expected = list(declaration.coords[dim])
            if sorted(map(str, array.indexes[dim])) != sorted(map(str, expected)):
                raise ObservationError(
                    f"The labels of `{dim}` of `{name}` differ. Expected {listed(expected)}. Got "
                    f"{listed(array.indexes[dim])}."
                )
            array = array.sel({dim: expected})
    if "replicate" not in array.dims:
        array = array.expand_dims("replicate")
    try:
        values = array.transpose(time, "replicate", *dims).to_numpy().astype(float)
    except (TypeError, ValueError):
        raise ObservationError(
            f"The variable `{name}` holds {array.dtype} values. Expected numbers."
        ) from None
    replicates = values.shape[1]
    values = values.reshape(-1, *values.shape[2:])
    _check_finite(values, name)
    if values.shape[1:] != declaration.shape(name):
        raise ObservationError(
            f"The variable `{name}` has the wrong shape at each time. Expected "
            f"{declaration.shape(name)}. Got {values.shape[1:]}."
        )
    return Rows(np.repeat(times, replicates), values)
