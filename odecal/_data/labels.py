"""Labels of individuals and of groups, as tables have them."""

import datetime
import numbers
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int, Shaped

from odecal._data.numbers import NUMBER, dense, described, first_true, row_number, short_repr
from odecal._errors import ObservationError
from odecal._system.groups import Columns

if TYPE_CHECKING:
    import pandas as pd

# The labels of a row as text, which are the same in a table of numbers and one of text.
Key = tuple[str, ...]

_NUMBER = re.compile(NUMBER)


def row_keys(table: "pd.DataFrame", columns: Columns, where: str = "") -> list[Key]:
    """The labels of each row by some columns; none are those of a single experiment."""
    parts = [map(str, read_labels(table[column], where).tolist()) for column in columns]
    return list(zip(*parts, strict=True)) if parts else [()] * len(table)


def numbered(keys: Sequence[Key]) -> tuple[dict[Key, int], Int[np.ndarray, " row"]]:
    """The different keys, counted in the order in which they first appear, and that of each row."""
    found = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    return found, np.asarray([found[key] for key in keys], int)


def read_labels(column: "pd.Series", where: str = "") -> Shaped[np.ndarray, " row"]:
    """Labels of individuals or groups, of which floats that are whole become integers."""
    column = dense(column)
    cells = column.astype(object).tolist()
    blank = column.isna().to_numpy() | np.asarray([not str(x).strip() for x in cells], bool)
    if (empty := first_true(blank)) is not None:
        raise ObservationError(
            f"The column `{column.name}`{where} is empty in row {row_number(column, empty)}. "
            "Expected a label in every row, since it tells whose the row is; NA in a CSV file "
            "counts as empty. Fill it in, or drop it."
        )
    if all(map(_is_whole, cells)):
        whole = np.asarray([int(x) for x in cells])
        return whole if whole.dtype.kind in "iu" else _texts(cells, column, where)
    _check_exact(column, cells, where)
    if not all(map(_is_number, cells)):
        return _texts(cells, column, where)
    values = np.asarray(cells, float)
    return values.astype(int) if bool((values == np.floor(values)).all()) else values


def _is_whole(x: object) -> bool:
    return isinstance(x, (int, np.integer)) and not isinstance(x, bool)


def _is_number(x: object) -> bool:
    return _is_whole(x) or isinstance(x, (float, np.floating))


def _equal(one: object, other: object) -> bool:
    try:
        return bool(one == other)
    except TypeError:  # a period is compared with periods alone
        return False


def _size(x: Any) -> float:
    """How large a number is; 0 for other labels."""
    if not _is_number(x):
        return 0.0
    try:
        return abs(float(x))
    except OverflowError:
        return np.inf


def _is_label(x: object) -> bool:
    """Whether something can be written as text, and back."""
    import pandas as pd

    known = (str, bool, np.bool_, numbers.Real, Decimal, datetime.date, datetime.timedelta)
    return isinstance(x, (*known, pd.Period, pd.Interval)) and "\0" not in str(x)


def _check_exact(column: "pd.Series", cells: list[Any], where: str) -> None:
    """Refuse numbers that are so large that floats of their type skip the next."""
    dtype = getattr(column.dtype, "numpy_dtype", column.dtype)
    precise = dtype if getattr(dtype, "kind", "") == "f" else np.dtype(float)
    numbered = all(map(_is_number, cells))  # whole numbers become floats beside floats
    values = np.asarray([_size(x) if numbered or not _is_whole(x) else 0.0 for x in cells])
    if (large := first_true(values >= 2.0 ** (np.finfo(precise).nmant + 1))) is not None:
        raise ObservationError(
            f"The column `{column.name}`{where} holds the label {column.iloc[large]} in row "
            f"{row_number(column, large)} as a number of {precise}, so large that it may have "
            "been rounded to that of another. Expected labels as they were given. Read the column "
            f'as text, pandas.read_csv(..., dtype={{"{column.name}": str}}), or as whole numbers.'
        )


def _texts(cells: list[Any], column: "pd.Series", where: str) -> Shaped[np.ndarray, " row"]:
    """Labels as text."""
    wrong = next((i for i, x in enumerate(cells) if not _is_label(x)), None)
    if wrong is not None:
        held = described(cells[wrong], row_number(column, wrong))
        raise ObservationError(
            f"The column `{column.name}`{where} holds {held}. Expected labels: text "
            "without zero bytes, or numbers. Convert them."
        )
    texts = [_text(x) for x in cells]
    seen: dict[object, int] = {}
    for at, x in enumerate(cells):
        # What is equal in Python is the same label, but not a number and a text.
        before = seen.setdefault(_alike(texts[at]), at)
        same = before == at or (
            texts[before] == texts[at]
            and isinstance(x, str) is isinstance(cells[before], str)
            and _equal(x, cells[before])
        )
        if not same:
            raise ObservationError(
                f"The column `{column.name}`{where} has the labels {short_repr(cells[before])} in "
                f"row {row_number(column, before)} and {short_repr(x)} in row "
                f"{row_number(column, at)}, which could be the same or not. Expected one way to "
                "write each label, since it tells whose a row is. Write them alike, or if they are "
                "different, give one another name."
            )
    return np.asarray(texts)


def _text(x: object) -> str:
    """A label among texts, where 1.0 and 1 are the same."""
    whole = isinstance(x, (float, np.floating)) and float(x).is_integer()
    return str(int(x) if whole else x).strip()  # type: ignore[call-overload]


def _alike(text: str) -> object:
    """What labels that may be one have in common: 1 and 1.0, `a` and `a `; not 1 and 01."""
    if _NUMBER.fullmatch(text) and not re.match("0[0-9]", text):
        return Decimal(text)
    if text.isascii():
        return " ".join(text.split())
    shown = "".join(c for c in text if unicodedata.category(c) != "Cf")
    return " ".join(unicodedata.normalize("NFKC", shown).split())


def dim_of(columns: Columns) -> str:
    """The name of the dimension of what columns name together."""
    return "_".join(columns)


def labels_of(
    table: "pd.DataFrame", columns: Columns, first: Int[np.ndarray, " label"]
) -> Shaped[np.ndarray, " label"]:
    """The labels of individuals or groups, from the first row of each."""
    if len(columns) == 1:
        return read_labels(table[columns[0]])[first]
    keys = row_keys(table, columns)
    labels = ["/".join(keys[row]) for row in first]
    if len(set(labels)) < len(labels):
        twice = min(label for label, count in Counter(labels).items() if count > 1)
        raise ObservationError(
            f"Two of the individuals or groups by the columns {', '.join(columns)} would be called "
            f"`{twice}`: labels are joined by a slash, and one has a slash in it. Expected "
            "different ones. Write these labels without slashes."
        )
    return np.asarray(labels)
