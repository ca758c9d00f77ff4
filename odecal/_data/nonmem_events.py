"""What the rows of a NONMEM table are (EVID), and the doses among them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from odecal._data.dose_records import DoseRecords, element_of, state_elements
from odecal._data.individuals import IndividualsTable
from odecal._data.numbers import first_true, loose_numbers, numbers
from odecal._errors import ObservationError, listed
from odecal._system.declaration import Declaration

if TYPE_CHECKING:
    import pandas as pd

TABLE = "the table"
OBSERVATION, DOSE, OTHER, RESET, RESET_AND_DOSE = range(5)  # of EVID


@dataclass(frozen=True, eq=False)
class NonmemRows:
    """The rows of a NONMEM table."""

    cells: "Mapping[str, pd.Series]"  # the columns by their usual names
    subjects: IndividualsTable  # whose rows are together
    times: Float[np.ndarray, " row"]
    evid: Shaped[np.ndarray, " row"]

    @property
    def rank(self) -> Int[np.ndarray, " row"]:
        """How many doses and resets of the same individual and time stand before each row."""
        changes = ~np.isin(self.evid, (OBSERVATION, OTHER))
        fresh = np.ones(len(self.times), bool)
        fresh[1:] = (np.diff(self.subjects.index) != 0) | (np.diff(self.times) != 0)
        before = np.cumsum(changes) - changes
        begin = np.flatnonzero(fresh)[np.cumsum(fresh) - 1]
        return before - before[begin]


def numbers_or_zero(cells: "Mapping[str, pd.Series]", name: str) -> Float[np.ndarray, " row"]:
    """A column, which is 0 where it is empty or not there."""
    if name not in cells:
        return np.zeros(len(cells["TIME"]))
    return np.nan_to_num(numbers(cells[name]))


def refuse(
    wrong: Bool[np.ndarray, " row"], values: Float[np.ndarray, " row"], problem: str
) -> None:
    """Refuse the first wrong row, whose value stands in the message."""
    if (row := first_true(wrong)) is not None:
        raise ObservationError(f"Row {row + 1} of {TABLE} has {problem.format(f'{values[row]:g}')}")


def read_evid(cells: "Mapping[str, pd.Series]") -> Shaped[np.ndarray, " row"]:
    """EVID of each row; without it, what looks like a dose is one."""
    amount, rate, steady = (numbers_or_zero(cells, name) for name in ("AMT", "RATE", "SS"))
    if "EVID" not in cells:
        return np.where((amount != 0) | ((rate != 0) & (steady != 0)), DOSE, OBSERVATION)
    evid = numbers_or_zero(cells, "EVID")
    refuse(
        ~np.isin(evid, range(5)),
        evid,
        "EVID {}. Expected 0 for an observation, 1 for a dose, 2 for neither, 3 for a reset, 4 for "
        "a reset and a dose. Correct it.",
    )
    no_dose = ~np.isin(evid, (DOSE, RESET_AND_DOSE))
    refuse(
        (amount != 0) & no_dose,
        amount,
        "AMT {}, but an EVID by which it is no dose. Expected EVID 1, or 4 for a reset and a dose, "
        "where there is an AMT. Correct one of them.",
    )
    if "CMT" in cells:
        compartment = loose_numbers(cells["CMT"])
        refuse(
            (compartment < 0) & no_dose,
            compartment,
            "CMT {}, which turns a compartment off in NONMEM. Expected none: a state is always on. "
            "Let an Input that is 0 while it is off multiply its rates in the vector field, and "
            "leave CMT empty there.",
        )
    return evid


def read_dose_records(rows: NonmemRows, declaration: Declaration) -> DoseRecords:
    """The doses and resets among the rows."""
    dose = np.isin(rows.evid, (DOSE, RESET_AND_DOSE))
    at = np.flatnonzero(dose | (rows.evid == RESET))
    amount, rate, steady, interval, additional = (
        np.where(dose, numbers_or_zero(rows.cells, name), 0.0)[at]
        for name in ("AMT", "RATE", "SS", "II", "ADDL")
    )
    into = dose[at] & np.any([amount, rate, steady, interval, additional], axis=0)
    return DoseRecords(
        row=at,
        individual=rows.subjects.index[at],
        time=rows.times[at],
        element=_elements(rows.cells, declaration, at, into),
        amount=amount,
        rate=rate,
        duration=np.zeros(len(at)),
        interval=interval,
        additional=additional,
        steady=steady,
        reset=np.isin(rows.evid[at], (RESET, RESET_AND_DOSE)).astype(float),
        rank=rows.rank[at],
    )


def _elements(
    cells: "Mapping[str, pd.Series]",
    declaration: Declaration,
    rows: Int[np.ndarray, " record"],
    into: Bool[np.ndarray, " record"],
) -> Int[np.ndarray, " record"]:
    """Which element of the packed state each dose goes into: CMT counts or names them."""
    names = state_elements(declaration)
    if "CMT" not in cells:
        return np.where(into, 0, -1)
    column = cells["CMT"].iloc[rows]
    counts = loose_numbers(column)
    elements = np.full(len(rows), -1)
    counted = into & np.isin(counts, np.arange(1, len(names) + 1))
    elements[counted] = counts[counted].astype(int) - 1
    for at in np.flatnonzero(into & ~counted):
        where, count, cell = f"Row {rows[at] + 1} of {TABLE}", counts[at], column.iloc[at]
        if not np.isnan(count) or column.isna().iloc[at]:
            got = "no CMT" if np.isnan(count) else f"CMT {count:g}"
            raise ObservationError(
                f"{where} has {got}. Expected the number of a state, from 1 to {len(names)}, or "
                f"its name: {listed(names)}. Correct it; without the column, doses go into "
                f"{next(iter(names))}."
            )
        elements[at] = element_of(str(cell).strip(), names, declaration, where)
    return elements
