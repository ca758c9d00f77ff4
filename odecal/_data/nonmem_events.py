"""What the rows of a pharmacometric table are, and the doses among them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from odecal._data.dose_records import DoseRecords, element_names
from odecal._data.dose_tables import element_of
from odecal._data.individuals import IndividualsTable
from odecal._data.numbers import loose_numbers, numbers
from odecal._errors import ObservationError, listed
from odecal._system.declaration import Declaration

if TYPE_CHECKING:
    import pandas as pd

TABLE = "the table"
OBSERVATION, DOSE, OTHER, RESET, RESET_AND_DOSE = range(5)  # of EVID


def zeros_for_empty(cells: "Mapping[str, pd.Series]", name: str) -> np.ndarray:
    """A column, which is 0 where it is empty or not there."""
    if name not in cells:
        return np.zeros(len(cells["TIME"]))
    return np.nan_to_num(numbers(cells[name], str(cells[name].name)))


def refuse(wrong: np.ndarray, values: np.ndarray, problem: str) -> None:
    """Refuse the first wrong row, whose value stands in the message.

    Raises:
        ObservationError: if any is wrong.
    """
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ObservationError(f"Row {row + 1} of {TABLE} has {problem.format(f'{values[row]:g}')}")


def places(who: np.ndarray, times: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """The place of each row among the doses and resets of the same individual and time.

    The first of these has 0, and so has what stands before it; what stands behind it has 1.

    Args:
        who: the individual of each row, of shape (row,); its rows are together.
        times: of each row.
        kinds: what each row is, as EVID has it.
    """
    changes = ~np.isin(kinds, (OBSERVATION, OTHER))
    fresh = np.ones(len(times), bool)
    fresh[1:] = (np.diff(who) != 0) | (np.diff(times) != 0)
    before = np.cumsum(changes) - changes
    begin = np.flatnonzero(fresh)[np.cumsum(fresh) - 1]
    found: np.ndarray = before - before[begin]
    return found


def read_records(
    cells: "Mapping[str, pd.Series]",
    declaration: Declaration,
    people: IndividualsTable,
    times: np.ndarray,
    kinds: np.ndarray,
) -> DoseRecords:
    """The doses and resets among the rows.

    Args:
        cells: the columns by their usual names.
        declaration: the system.
        people: the individuals.
        times: of each row.
        kinds: what each row is, as EVID has it.

    Raises:
        ObservationError: if something goes into no state.
    """
    amount, rate, steady = (zeros_for_empty(cells, name) for name in ("AMT", "RATE", "SS"))
    given = np.isin(kinds, (DOSE, RESET_AND_DOSE))
    rows = np.flatnonzero(given | (kinds == RESET))

    def of_doses(values: np.ndarray) -> np.ndarray:
        return np.where(given, values, 0.0)[rows]

    interval, additional = (of_doses(zeros_for_empty(cells, name)) for name in ("II", "ADDL"))
    amount, rate, steady = of_doses(amount), of_doses(rate), of_doses(steady)
    into = given[rows] & np.any([amount, rate, steady, interval, additional], axis=0)
    return DoseRecords(
        rows,
        people.who[rows],
        times[rows],
        _elements(cells, declaration, rows, into),
        amount,
        rate,
        np.zeros(len(rows)),
        interval,
        additional,
        steady,
        np.isin(kinds[rows], (RESET, RESET_AND_DOSE)).astype(float),
        places(people.who, times, kinds)[rows],
    )


def read_kinds(cells: "Mapping[str, pd.Series]") -> np.ndarray:
    """EVID of each row; without it, what looks like a dose is one.

    Raises:
        ObservationError: if EVID, or what goes with it, cannot be.
    """
    amount, rate, steady = (zeros_for_empty(cells, name) for name in ("AMT", "RATE", "SS"))
    if "EVID" not in cells:
        return np.where((amount != 0) | ((rate != 0) & (steady != 0)), DOSE, OBSERVATION)
    kinds = zeros_for_empty(cells, "EVID")
    refuse(
        ~np.isin(kinds, range(5)),
        kinds,
        "EVID {}. Expected 0 for an observation, 1 for a dose, 2 for neither, 3 for a reset, 4 for "
        "a reset and a dose. Correct it.",
    )
    refuse(
        (amount != 0) & ~np.isin(kinds, (DOSE, RESET_AND_DOSE)),
        amount,
        "AMT {}, but an EVID by which it is no dose. Expected EVID 1, or 4 for a reset and a dose, "
        "where there is an AMT. Correct one of them.",
    )
    _refuse_off(cells, np.isin(kinds, (DOSE, RESET_AND_DOSE)))
    return kinds


def _refuse_off(cells: "Mapping[str, pd.Series]", given: np.ndarray) -> None:
    """Refuse rows that turn a compartment off, which a negative CMT of what is no dose does."""
    if "CMT" not in cells:
        return
    counts = loose_numbers(cells["CMT"], str(cells["CMT"].name))
    refuse(
        (counts < 0) & ~given,
        counts,
        "CMT {}, which turns a compartment off in NONMEM. Expected none: a state is always on. Let "
        "an Input that is 0 while it is off multiply its rates in the vector field, and leave CMT "
        "empty there.",
    )


def _elements(
    cells: "Mapping[str, pd.Series]", declaration: Declaration, rows: np.ndarray, into: np.ndarray
) -> np.ndarray:
    """Which element of the packed state each dose goes into: CMT counts or names them."""
    names = element_names(declaration)
    if "CMT" not in cells:
        return np.where(into, 0, -1)
    column = cells["CMT"].iloc[rows]
    counts = loose_numbers(column, str(column.name))
    found = {name: i for i, name in enumerate(names)}
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
                f"{names[0]}."
            )
        elements[at] = element_of(str(cell).strip(), found, declaration, where)
    return elements
