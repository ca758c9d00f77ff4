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
    """The rows of one observable, whose fields are as in `Bounds` and `Series`."""

    individual: Int[np.ndarray, " row"]
    times: Float[np.ndarray, " row"]
    lower: Float[np.ndarray, " row *dims"]
    upper: Float[np.ndarray, " row *dims"]
    after_dose: Int[np.ndarray, " row"] | None = None
    row: Int[np.ndarray, " row"] | None = None

    def take(self, rows: Int[np.ndarray, " _taken"]) -> "Rows":
        """Some of the rows, in this order."""
        parts: Any = (None if part is None else part[rows] for part in vars(self).values())
        return Rows(*parts)


@dataclass(frozen=True, eq=False)
class ParsedTable:
    """A parsed table."""

    table: "pd.DataFrame"  # whose index numbers the rows from 0
    subjects: IndividualsTable
    time: str  # the name of its time column
    times: Float[np.ndarray, " row"]
    rows: Mapping[str, Rows]  # of each observable
    records: DoseRecords | None = None  # the doses among them
