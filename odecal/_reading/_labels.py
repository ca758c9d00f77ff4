"""Labels of individuals and of groups, as tables have them."""

from typing import TYPE_CHECKING

import numpy as np

from odecal._errors import ObservationError
from odecal._experiment import Columns
from odecal._reading._sheet import row_number

if TYPE_CHECKING:
    import pandas as pd

# The labels of a row as text, which are the same in a table of numbers and one of text.
Key = tuple[str, ...]


def row_keys(table: "pd.DataFrame", columns: Columns, where: str = "") -> list[Key]:
    """The labels of each row.

    Args:
        table: with these columns.
        columns: whose labels make one together.
        where: which table that is, for messages: ` of ...`.

    Raises:
        ObservationError: if one is missing.
    """
    parts = [map(str, read_labels(table[column], column, where).tolist()) for column in columns]
    return list(zip(*parts, strict=True))


def read_labels(column: "pd.Series", name: str, where: str = "") -> np.ndarray:
    """Labels of individuals or groups, of which floats that are whole become integers.

    Raises:
        ObservationError: if one is missing, with its row.
    """
    import pandas as pd

    blank = column.isna().to_numpy()
    if not pd.api.types.is_numeric_dtype(column):
        column = column.astype(object)
        blank = blank | np.fromiter((not str(x).strip() for x in column), bool, len(column))
    if blank.any():
        raise ObservationError(
            f"The column `{name}`{where} is empty in row {row_number(column, np.argmax(blank))}. "
            "Expected a label in every row, since it tells whose the row is. Fill it in, or drop "
            "the row."
        )
    if column.dtype == object and not all(_is_plain_number(x) for x in column):
        return np.asarray([_text(x) for x in column])
    values: np.ndarray = np.asarray(column.tolist())
    whole = values.dtype.kind == "f" and bool((values == np.floor(values)).all())
    return values.astype(int) if whole else values


def _is_plain_number(x: object) -> bool:
    return isinstance(x, (int, float, np.integer, np.floating)) and not isinstance(x, bool)


def _text(x: object) -> str:
    """A label among texts, where 1.0 and 1 are the same."""
    whole = isinstance(x, (float, np.floating)) and float(x).is_integer()
    return str(int(x) if whole else x).strip()  # type: ignore[call-overload]


def dim_of(columns: Columns) -> str:
    """The name of the dimension of what columns name together."""
    return "_".join(columns)


def labels_of(table: "pd.DataFrame", columns: Columns, first: np.ndarray) -> np.ndarray:
    """The labels of individuals or groups, from the first row of each.

    Args:
        table: with these columns.
        columns: whose labels make one together.
        first: the first row of each, of shape (label,).
    """
    if len(columns) == 1:
        return read_labels(table[columns[0]], columns[0])[first]
    return np.asarray(["/".join(key) for key in row_keys(table.iloc[first], columns)])
