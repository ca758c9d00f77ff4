"""Cells that say between which bounds a value lies: `<0.5`, `>100`, `0.2..0.5`, BLQ."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from odecal._data.numbers import NUMBER, described, loose_numbers, row_number
from odecal._errors import ObservationError
from odecal._system.components import Observable

if TYPE_CHECKING:
    import pandas as pd

_BELOW = re.compile(rf"<\s*({NUMBER})")
_ABOVE = re.compile(rf">\s*({NUMBER})")
_BETWEEN = re.compile(rf"({NUMBER})\s*\.\.\s*({NUMBER})")
_Limit = float | Float[np.ndarray, "..."]
_BELOW_LIMIT = ("BLQ", "BLOQ", "LLOQ")


@dataclass(frozen=True, eq=False)
class Bounds:
    """Between what each value lies: both are NaN where it is missing, and equal where known."""

    lower: Float[np.ndarray, "*shape"]  # −inf for none
    upper: Float[np.ndarray, "*shape"]  # +inf for none

    @property
    def known(self) -> Bool[np.ndarray, "*shape"]:
        """Which values are numbers."""
        return self.lower == self.upper


def read_bounds(column: "pd.Series", lloq: Float[np.ndarray, " row"]) -> Bounds:
    """What the cells of a column say, before limits of quantification count.

    BLQ means to lie below the `lloq` of its row, NaN where it has none.
    """
    values = loose_numbers(column)
    lower, upper = values, values.copy()
    for position in np.flatnonzero(np.isnan(values) & column.notna().to_numpy()):
        lower[position], upper[position] = _between(column, position, lloq[position])
    return Bounds(lower, upper)


def apply_limits(bounds: Bounds, lloq: _Limit, uloq: _Limit) -> Bounds:
    """Numbers beyond the limits of quantification into what is known of them; NaN is no limit."""
    below = bounds.known & (bounds.lower < lloq)
    above = bounds.known & (bounds.upper > uloq)
    lower = np.where(below, -np.inf, np.where(above, uloq, bounds.lower))
    upper = np.where(below, lloq, np.where(above, np.inf, bounds.upper))
    return Bounds(lower, upper)


def limits_of(observable: Observable) -> tuple[float, float]:
    """The lower and the upper limit of quantification; NaN for none, which nothing is beyond."""
    lloq, uloq = observable.lloq, observable.uloq
    return np.nan if lloq is None else float(lloq), np.nan if uloq is None else float(uloq)


def _between(column: "pd.Series", position: int | np.integer, lloq: float) -> tuple[float, float]:
    """The bounds that the text of one cell says."""
    cell, row = column.iloc[position], row_number(column, position)
    text = cell.strip() if isinstance(cell, str) else ""
    infinite = any(np.isinf(float(number)) for number in re.findall(NUMBER, text))
    if "..." in text or infinite:  # 1...5 is from 1. or to .5
        text = ""
    if match := _BELOW.fullmatch(text):
        return -np.inf, float(match[1])
    if match := _ABOVE.fullmatch(text):
        return float(match[1]), np.inf
    if match := _BETWEEN.fullmatch(text):
        lower, upper = float(match[1]), float(match[2])
        if lower > upper:
            raise ObservationError(
                f"The column `{column.name}` holds bounds in the wrong order in row {row}: "
                f"{cell!r}. Expected the lower one first. Write {match[2]}..{match[1]}."
            )
        return lower, upper
    if text.upper() in _BELOW_LIMIT:
        if np.isnan(lloq):
            raise ObservationError(
                f"The column `{column.name}` holds {text} in row {row}, below a limit that is not "
                "known. Expected the limit. Declare it, Observable(..., lloq=...), or write it, "
                "such as <0.5."
            )
        return -np.inf, lloq
    raise ObservationError(
        f"The column `{column.name}` holds {described(cell, row)}. Expected numbers; a missing "
        "value is an empty cell, NA or NaN; a censored one is <0.5, >100 or 0.2..0.5, or BLQ where "
        "Observable(..., lloq=...) says the limit."
    )
