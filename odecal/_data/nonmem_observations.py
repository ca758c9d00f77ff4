"""The observations of a pharmacometric table."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from odecal._data.censored import Bounds, apply_limits, limit_or_nan, read_bounds
from odecal._data.individuals import IndividualsTable
from odecal._data.nonmem_events import (
    OBSERVATION,
    TABLE,
    places,
    refuse,
    zeros_for_empty,
)
from odecal._data.numbers import loose_numbers, numbers
from odecal._data.parsed import Rows
from odecal._errors import ObservationError, listed, suggestion
from odecal._system.declaration import Declaration

if TYPE_CHECKING:
    import pandas as pd


def read_values(
    cells: "Mapping[str, pd.Series]",
    declaration: Declaration,
    people: IndividualsTable,
    times: np.ndarray,
    kinds: np.ndarray,
) -> dict[str, Rows]:
    """The rows of every observable.

    Args:
        cells: the columns by their usual names.
        declaration: the system.
        people: the individuals.
        times: of each row.
        kinds: what each row is, as EVID has it.

    Raises:
        ObservationError: if they do not fit the system, with the row.
    """
    _check_scalar(declaration)
    cens = zeros_for_empty(cells, "CENS")
    measured = (kinds == OBSERVATION) & (zeros_for_empty(cells, "MDV") == 0)
    given = cells["DV"].notna().to_numpy()
    refuse(
        measured & ~np.isin(cens, (-1, 0, 1)),
        cens,
        "CENS {}. Expected 0, 1 where the value is below DV, or −1 where it is above. Correct it.",
    )
    refuse(
        measured & ~given & (cens != 0),
        cens,
        "CENS {}, but no DV. Expected the limit there. Fill it in, or set MDV to 1.",
    )
    measured &= given
    which = _observables(cells, declaration, measured)
    after_dose = places(people.who, times, kinds)
    rows = {}
    for i, (name, part) in enumerate(declaration.observables.items()):
        at = np.flatnonzero(measured & (which == i))
        if not at.size:
            raise ObservationError(
                f"The table holds no value of `{name}`"
                + (f" (DVID {i + 1})" if "DVID" in cells else "")
                + ". Expected at least one. Drop the observable from the system by setting "
                f"{name}=None if it was not measured."
            )
        bounds = _bounds(cells, at, cens[at], limit_or_nan(part.lloq), limit_or_nan(part.uloq))
        after = after_dose[at] if after_dose[at].any() else None
        rows[name] = Rows(people.who[at], times[at], bounds.lower, bounds.upper, after, at)
    return rows


def _check_scalar(declaration: Declaration) -> None:
    vectors = [name for name in declaration.observables if declaration.shape(name)]
    if vectors:
        raise ObservationError(
            f"The observable `{vectors[0]}` is a vector, and a row of a pharmacometric table has "
            "one value. Expected observables without dims. Give a tidy table, with a column an "
            "element, and the doses by Observations(..., doses=...); or declare an observable for "
            "each element."
        )


def _observables(
    cells: "Mapping[str, pd.Series]", declaration: Declaration, measured: np.ndarray
) -> np.ndarray:
    """Which observable each measured row is of: DVID counts them from 1, or names one."""
    names = list(declaration.observables)
    which = np.zeros(len(measured), int)
    expected = f"Expected the number of an observable, from 1 to {len(names)}, or its name: "
    expected += f"{listed(names)}."
    if "DVID" not in cells:
        if len(names) > 1:
            raise ObservationError(
                f"The table has no column DVID, and {declaration.name} has several observables. "
                f"{expected} Add the column, or leave the others out with "
                f"{declaration.name}({names[1]}=None)."
            )
        return which
    column = cells["DVID"]
    counts, blank = loose_numbers(column, str(column.name)), column.isna().to_numpy()
    counted = np.isin(counts, np.arange(1, len(names) + 1))
    which[counted] = counts[counted].astype(int) - 1
    for row in np.flatnonzero(measured & ~counted & ~(blank & (len(names) == 1))):
        name = str(column.iloc[row]).strip()
        if name not in names:
            got = "no DVID" if blank[row] else f"DVID {name}"
            raise ObservationError(
                f"Row {row + 1} of {TABLE} has {got}. {expected}" + suggestion(name, names) + " "
                "Correct it, or set MDV to 1."
            )
        which[row] = names.index(name)
    return which


def _bounds(
    cells: "Mapping[str, pd.Series]", at: np.ndarray, cens: np.ndarray, lloq: float, uloq: float
) -> Bounds:
    """Between what the values of some rows lie, by DV, CENS, LIMIT, LLOQ and what is declared."""
    column = cells["DV"].iloc[at]
    none = np.full(len(at), np.nan)
    of_rows, other = (
        numbers(cells[name].iloc[at], str(cells[name].name)) if name in cells else none
        for name in ("LLOQ", "LIMIT")
    )
    known = np.where(np.isnan(of_rows), lloq, of_rows)  # what BLQ means
    raw = read_bounds(column, str(column.name), known)
    # Where the table says itself what is censored, its LLOQ is for information.
    limits = np.full(len(at), lloq) if "CENS" in cells else known
    bounds = apply_limits(
        raw, np.where(cens == 0, limits, np.nan), np.where(cens == 0, uloq, np.nan)
    )
    below, above = cens == 1, cens == -1
    lowest = np.where(np.isnan(other), -np.inf, other)
    highest = np.where(np.isnan(other), np.inf, other)
    lower = np.where(below, lowest, np.where(above, raw.lower, bounds.lower))
    upper = np.where(below, raw.upper, np.where(above, highest, bounds.upper))
    wrong = np.flatnonzero(lower > upper)
    if wrong.size:
        row = wrong[0]
        raise ObservationError(
            f"Row {at[row] + 1} of {TABLE} has CENS {cens[row]:g}, DV {raw.lower[row]:g} and LIMIT "
            f"{other[row]:g}, bounds in the wrong order. Expected LIMIT below DV where CENS is 1, "
            "and above it where CENS is −1. Correct them."
        )
    return Bounds(lower, upper)
