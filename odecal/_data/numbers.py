"""Cells into floats: each is the number that stands there, or is refused with its row."""

import re
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from odecal._errors import ObservationError

if TYPE_CHECKING:
    import pandas as pd

NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_NUMBER = re.compile(NUMBER)
_LONGEST = 309  # digits of the largest float
_INFINITE = frozenset({"inf", "infinity"})


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
        held = told(column.iloc[wrong[0]], row_number(column, wrong[0]))
        raise ObservationError(
            f"The column `{name}` holds {held}. Expected numbers, such as 1234.5 "
            f"or 1e-3; a missing value is an empty cell, NA or NaN.{hint}"
        )
    return values


def loose_numbers(column: "pd.Series", name: str) -> np.ndarray:
    """A column as floats; NaN where a cell is empty or is text.

    Raises:
        ObservationError: if it holds dates, complex numbers, infinite values, or whole numbers so
            large that no float equals them.
    """
    values = _floats(column, name)
    infinite = np.flatnonzero(np.isinf(values))
    if infinite.size:
        raise ObservationError(
            f"The column `{name}` holds an infinite value in row "
            f"{row_number(column, infinite[0])}. Expected finite numbers. Correct it, or make it "
            "NaN if it is missing."
        )
    return values


def times_of(column: "pd.Series", name: str, hint: str = "") -> np.ndarray:
    """A column of times as floats; NaN where a cell is empty.

    Args:
        column: whose index numbers the rows from 0.
        name: of the column, for messages.
        hint: what else to do about text.

    Raises:
        ObservationError: as `numbers` does, or if different times would become equal.
    """
    values = numbers(column, name, hint)
    if getattr(column.dtype, "kind", "") == "b":
        raise ObservationError(
            f"The column `{name}` holds True and False. Expected times, as numbers. Give the "
            "column of the times, or convert it: table.astype({" + repr(name) + ": float})."
        )
    _check_rounding(column, values, name)
    _check_apart(column, values, name)
    return values


def told(cell: Any, row: int) -> str:
    """A cell that is no number, and where it is, for messages."""
    kind = "text" if isinstance(cell, str) else f"a {type(cell).__name__}"
    return f"{kind} in row {row}: {shown(cell)}"


def shown(cell: Any) -> str:
    """A cell for messages, shortened where it is long."""
    try:
        text = repr(cell)
    except ValueError:  # a whole number of thousands of digits
        text = "a huge number"
    return text if len(text) < 60 else f"{text[:50]}…"


def row_number(column: "pd.Series", position: Any) -> int:
    """Which row of its table a cell is in, counted from 1."""
    return int(column.index[int(position)]) + 1


def dense(column: "pd.Series") -> "pd.Series":
    """A column whose cells can be taken one by one."""
    import pandas as pd

    if isinstance(column.dtype, pd.SparseDtype):
        return pd.Series(np.asarray(column), column.index, name=column.name)
    return column


def _floats(column: "pd.Series", name: str) -> np.ndarray:
    """A column as floats, by its type."""
    column = dense(column)
    _check_kind(column, name)
    kind = column.dtype.kind if isinstance(column.dtype, np.dtype) else "O"
    if kind in "bf":
        return np.array(column.to_numpy(), float)
    if kind in "iu":
        whole = column.to_numpy()
        values = whole.astype(float)
        for position in np.flatnonzero(np.abs(values) >= 2.0**53):
            _check_exact(int(whole[position]), column, position, name)
        return values
    missing = column.isna().to_numpy()
    cells = column.astype(object).tolist()
    values = np.full(len(cells), np.nan)
    given = np.flatnonzero(~missing)
    values[given] = _of_cells([cells[i] for i in given], column, given, name)
    return values


def _check_kind(column: "pd.Series", name: str) -> None:
    """Refuse dates, lengths of time, and complex numbers."""
    import pandas as pd

    dtype = column.dtype
    if (
        pd.api.types.is_datetime64_any_dtype(dtype)
        or pd.api.types.is_timedelta64_dtype(dtype)
        or isinstance(dtype, pd.PeriodDtype)
    ):
        raise ObservationError(
            f"The column `{name}` holds dates. Expected numbers in the system's unit of time. "
            "Convert it, for example (table.date - table.date[0]).dt.total_seconds() / 86400."
        )
    if getattr(dtype, "kind", "") == "c":
        raise ObservationError(
            f"The column `{name}` holds complex numbers. Expected real ones. Take what was "
            "measured: the real part, np.real(table[...]), or the modulus, np.abs(table[...])."
        )


def _of_cells(cells: list[Any], column: "pd.Series", at: np.ndarray, name: str) -> Any:
    """Cells as floats, of which none is missing; NaN for text."""
    if all(type(cell) is str for cell in cells):
        texts = [cell.strip() for cell in cells]
        short = max(map(len, texts), default=0) < 16  # below 2^53, if they are whole
        if short and all(map(_NUMBER.fullmatch, set(texts))):
            return list(map(float, texts))
    truths = all(isinstance(cell, (bool, np.bool_)) for cell in cells)
    return [
        float(cell) if truths else _of_cell(cell, column, position, name)
        for cell, position in zip(cells, at, strict=True)
    ]


def _of_cell(cell: Any, column: "pd.Series", position: Any, name: str) -> float:
    """One cell as a float; NaN for what is no number."""
    if isinstance(cell, str):
        text = cell.strip()
        if text.lstrip("+-").lower() in _INFINITE:
            return np.inf
        if not _NUMBER.fullmatch(text):
            return np.nan
        if not text.lstrip("+-").isdigit() or len(text) > _LONGEST:
            return float(text)
        cell = int(text)
    if isinstance(cell, (bool, np.bool_)) or not isinstance(
        cell, (int, float, np.integer, np.floating, Decimal, Fraction)
    ):
        return np.nan
    if isinstance(cell, Decimal) and not cell.is_finite():
        return np.inf if cell.is_infinite() else np.nan
    number: Any = cell
    if abs(number) >= 2**53:
        _check_exact(number, column, position, name)
    return float(number)


def _check_exact(cell: Any, column: "pd.Series", position: Any, name: str) -> None:
    """Refuse a large number that a float would change."""
    try:
        exact = float(cell) == cell or not float(cell).is_integer()
    except OverflowError:
        exact = False
    if not exact:
        raise ObservationError(
            f"The column `{name}` holds {shown(cell)} in row {row_number(column, position)}, which "
            "double precision does not have: from 2^53 on whole numbers are rounded. Expected "
            "numbers that are kept as they are. Subtract an origin, or take a larger unit."
        )


def _check_rounding(column: "pd.Series", values: np.ndarray, name: str) -> None:
    """Refuse times of half or single precision that are as near as they are rounded."""
    dtype: Any = getattr(column.dtype, "numpy_dtype", column.dtype)
    if dtype not in (np.dtype("float16"), np.dtype("float32")):
        return
    known = np.unique(np.abs(values[~np.isnan(values)]))
    large = known[known > 2.0 ** (np.finfo(dtype).nmant + 1)]
    fine = np.all(values[~np.isnan(values)] % 1 == 0) and not large.size
    steps = np.spacing(known.astype(dtype)).astype(float)
    near = np.diff(known) < 16 * steps[1:]
    alone = bool(large.size) and len(known) < len(values)  # some are equal, perhaps by rounding
    if not fine and (near.any() or alone):
        raise ObservationError(
            f"The column `{name}` holds times of {dtype}, which are rounded to steps of "
            f"{steps.max():g}, and as near to each other. Expected times that are told apart. Read "
            "them as float64 from where they come, or subtract an origin before they are rounded."
        )


def _check_apart(column: "pd.Series", values: np.ndarray, name: str) -> None:
    """Refuse different times that are equal as floats."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind != "O":
        return
    cells = {i: x for i, x in enumerate(column.tolist()) if isinstance(x, (str, Decimal))}
    if all(len(str(x)) < 16 for x in cells.values()):
        return
    seen: dict[float, tuple[Decimal, int]] = {}
    for position, cell in cells.items():
        exact = Decimal(cell.strip() if isinstance(cell, str) else cell)
        other, before = seen.setdefault(values[position], (exact, position))
        if other != exact:
            raise ObservationError(
                f"The times in rows {row_number(column, before)} and "
                f"{row_number(column, position)} of the column `{name}` differ, but are one number "
                f"in double precision, {values[position]!s}. Expected times that are told apart. "
                "Subtract an origin, or round them to what was measured."
            )
