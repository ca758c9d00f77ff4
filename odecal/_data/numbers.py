"""Cells into floats: each is the number that stands there, or is refused with its row."""

import re
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from odecal._errors import ObservationError

if TYPE_CHECKING:
    import pandas as pd

NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_NUMBER = re.compile(NUMBER)
_LONGEST = 309  # digits of the largest float
_INFINITE = frozenset({"inf", "infinity"})


def numbers(column: "pd.Series", hint: str = "") -> Float[np.ndarray, " row"]:
    """A column as floats; NaN where a cell is empty. Text is refused."""
    values = loose_numbers(column)
    if (wrong := first_true(np.isnan(values) & column.notna().to_numpy())) is not None:
        held = described(column.iloc[wrong], row_number(column, wrong))
        raise ObservationError(
            f"The column `{column.name}` holds {held}. Expected numbers, such as 1234.5 "
            f"or 1e-3; a missing value is an empty cell, NA or NaN.{hint}"
        )
    return values


def loose_numbers(column: "pd.Series") -> Float[np.ndarray, " row"]:
    """A column as floats; NaN where a cell is empty or is text."""
    values = _floats(column)
    if (infinite := first_true(np.isinf(values))) is not None:
        raise ObservationError(
            f"The column `{column.name}` holds an infinite value in row "
            f"{row_number(column, infinite)}. Expected finite numbers. Correct it, or make it NaN "
            "if it is missing."
        )
    return values


def first_true(wrong: Bool[np.ndarray, " row"]) -> int | None:
    """Where the first True is; None where there is none."""
    return int(np.argmax(wrong)) if wrong.any() else None


def described(cell: Any, row: int) -> str:
    """A cell that is no number, and where it is, for messages."""
    kind = "text" if isinstance(cell, str) else f"a {type(cell).__name__}"
    return f"{kind} in row {row}: {short_repr(cell)}"


def short_repr(cell: Any) -> str:
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


def _floats(column: "pd.Series") -> Float[np.ndarray, " row"]:
    """A column as floats, by its type."""
    column = dense(column)
    _check_kind(column)
    kind = column.dtype.kind if isinstance(column.dtype, np.dtype) else "O"
    if kind in "bf":
        return np.array(column.to_numpy(), float)
    if kind in "iu":
        whole = column.to_numpy()
        values = whole.astype(float)
        for position in np.flatnonzero(np.abs(values) >= 2.0**53):
            _check_exact(int(whole[position]), column, position)
        return values
    cells = column.astype(object).tolist()
    values = np.full(len(cells), np.nan)
    given = np.flatnonzero(column.notna())
    values[given] = _of_cells([cells[i] for i in given], column, given)
    return values


def _check_kind(column: "pd.Series") -> None:
    """Refuse dates, lengths of time, and complex numbers."""
    import pandas as pd

    dtype = column.dtype
    if (
        pd.api.types.is_datetime64_any_dtype(dtype)
        or pd.api.types.is_timedelta64_dtype(dtype)
        or isinstance(dtype, pd.PeriodDtype)
    ):
        raise ObservationError(
            f"The column `{column.name}` holds dates. Expected numbers in the system's unit of "
            "time. Convert it, for example (table.date - table.date[0]).dt.total_seconds() / 86400."
        )
    if getattr(dtype, "kind", "") == "c":
        raise ObservationError(
            f"The column `{column.name}` holds complex numbers. Expected real ones. Take what was "
            "measured: the real part, np.real(table[...]), or the modulus, np.abs(table[...])."
        )


def _of_cells(cells: list[Any], column: "pd.Series", at: Int[np.ndarray, " given"]) -> Any:
    """Cells as floats, of which none is missing; NaN for text."""
    if all(type(cell) is str for cell in cells):
        texts = [cell.strip() for cell in cells]
        short = max(map(len, texts), default=0) < 16  # below 2^53, if they are whole
        if short and all(map(_NUMBER.fullmatch, set(texts))):
            return list(map(float, texts))
    truths = all(isinstance(cell, (bool, np.bool_)) for cell in cells)
    return [
        float(cell) if truths else _of_cell(cell, column, position)
        for cell, position in zip(cells, at, strict=True)
    ]


def _of_cell(cell: Any, column: "pd.Series", position: Any) -> float:
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
        _check_exact(number, column, position)
    return float(number)


def _check_exact(cell: Any, column: "pd.Series", position: Any) -> None:
    """Refuse a large number that a float would change."""
    try:
        exact = float(cell) == cell or not float(cell).is_integer()
    except OverflowError:
        exact = False
    if not exact:
        raise ObservationError(
            f"The column `{column.name}` holds {short_repr(cell)} in row "
            f"{row_number(column, position)}, which double precision does not have: from 2^53 on "
            "whole numbers are rounded. Expected numbers that are kept as they are. Subtract an "
            "origin, or take a larger unit."
        )
