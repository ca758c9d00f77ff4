"""A table of any kind, parsed row by row: what is aligned next."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from odecal._data.dose_records import DoseRecords
from odecal._data.individuals import IndividualsTable

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of one observable.

    Args:
        individual: whose.
        times: when.
        lower: the lower bounds of the values, as in `Bounds`.
        upper: the upper ones.
        after_dose: below which rank each sees the doses of the same time, as in `Series`.
        row: the row of the table that each is, counted from 0.
    """

    individual: Int[np.ndarray, " row"]
    times: Float[np.ndarray, " row"]
    lower: Float[np.ndarray, " row *dims"]
    upper: Float[np.ndarray, " row *dims"]
    after_dose: Int[np.ndarray, " row"] | None = None
    row: Int[np.ndarray, " row"] | None = None

    def take(self, rows: Int[np.ndarray, " _taken"]) -> "Rows":
        """Some of the rows, in this order."""
        parts: dict[str, Any] = {
            name: None if part is None else part[rows] for name, part in vars(self).items()
        }
        return Rows(**parts)


@dataclass(frozen=True, eq=False)
class ParsedTable:
    """A parsed table.

    Args:
        table: the table, whose index numbers the rows from 0.
        subjects: who was observed.
        time: the name of its time column.
        times: of each row.
        rows: those of each observable.
        records: the doses among them; None for none.
    """

    table: "pd.DataFrame"
    subjects: IndividualsTable
    time: str
    times: Float[np.ndarray, " row"]
    rows: Mapping[str, Rows]
    records: DoseRecords | None = None
