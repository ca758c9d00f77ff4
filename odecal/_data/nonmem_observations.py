"""The observations of a NONMEM table."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int

from odecal._data.censored import Bounds, apply_limits, limits_of, read_bounds
from odecal._data.nonmem_events import OBSERVATION, TABLE, NonmemRows, numbers_or_zero, refuse
from odecal._data.numbers import first_true, loose_numbers, numbers
from odecal._data.parsed import Rows
from odecal._errors import ObservationError, listed, suggestion
from odecal._system.declaration import Declaration

if TYPE_CHECKING:
    import pandas as pd


def read_values(rows: NonmemRows, declaration: Declaration) -> dict[str, Rows]:
    """The rows of every observable."""
    _check_scalar(declaration)
    cells = rows.cells
    cens = numbers_or_zero(cells, "CENS")
    measured = (rows.evid == OBSERVATION) & (numbers_or_zero(cells, "MDV") == 0)
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
    observable = _observables(cells, declaration, measured)
    rank = rows.rank
    values = {}
    for i, (name, part) in enumerate(declaration.observables.items()):
        at = np.flatnonzero(measured & (observable == i))
        if not at.size:
            raise ObservationError(
                f"The table holds no value of `{name}`"
                + (f" (DVID {i + 1})" if "DVID" in cells else "")
                + ". Expected at least one. Drop the observable from the system by setting "
                f"{name}=None if it was not measured."
            )
        bounds = _bounds(cells, at, cens[at], *limits_of(part))
        values[name] = Rows(
            rows.subjects.index[at],
            rows.times[at],
            bounds.lower,
            bounds.upper,
            after_dose=rank[at] if rank[at].any() else None,
            row=at,
        )
    return values


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
    cells: "Mapping[str, pd.Series]", declaration: Declaration, measured: Bool[np.ndarray, " row"]
) -> Int[np.ndarray, " row"]:
    """Which observable each measured row is of: DVID counts them from 1, or names one."""
    names = list(declaration.observables)
    observable = np.zeros(len(measured), int)
    expected = (
        f"Expected the number of an observable, from 1 to {len(names)}, or its name: "
        f"{listed(names)}."
    )
    if "DVID" not in cells:
        if len(names) > 1:
            raise ObservationError(
                f"The table has no column DVID, and {declaration.name} has several observables. "
                f"{expected} Add the column, or leave the others out with "
                f"{declaration.name}({names[1]}=None)."
            )
        return observable
    column = cells["DVID"]
    counts, blank = loose_numbers(column), column.isna().to_numpy()
    counted = np.isin(counts, np.arange(1, len(names) + 1))
    observable[counted] = counts[counted].astype(int) - 1
    for row in np.flatnonzero(measured & ~counted & ~(blank & (len(names) == 1))):
        name = str(column.iloc[row]).strip()
        if name not in names:
            got = "no DVID" if blank[row] else f"DVID {name}"
            raise ObservationError(
                f"Row {row + 1} of {TABLE} has {got}. {expected}" + suggestion(name, names) + " "
                "Correct it, or set MDV to 1."
            )
        observable[row] = names.index(name)
    return observable


def _bounds(
    cells: "Mapping[str, pd.Series]",
    at: Int[np.ndarray, " value"],
    cens: Float[np.ndarray, " value"],
    lloq: float,
    uloq: float,
) -> Bounds:
    """Between what the values of some rows lie, by DV, CENS, LIMIT, LLOQ and what is declared."""
    column = cells["DV"].iloc[at]
    none = np.full(len(at), np.nan)
    of_rows, other = (
        numbers(cells[name].iloc[at]) if name in cells else none for name in ("LLOQ", "LIMIT")
    )
    known = np.where(np.isnan(of_rows), lloq, of_rows)  # what BLQ means
    raw = read_bounds(column, known)
    # Where the table says itself what is censored, its LLOQ is for information.
    limits = np.full(len(at), lloq) if "CENS" in cells else known
    plain, below, above = cens == 0, cens == 1, cens == -1
    bounds = apply_limits(raw, np.where(plain, limits, np.nan), np.where(plain, uloq, np.nan))
    lowest = np.where(np.isnan(other), -np.inf, other)
    highest = np.where(np.isnan(other), np.inf, other)
    lower = np.where(below, lowest, np.where(above, raw.lower, bounds.lower))
    upper = np.where(below, raw.upper, np.where(above, highest, bounds.upper))
    if (i := first_true(lower > upper)) is not None:
        raise ObservationError(
            f"Row {at[i] + 1} of {TABLE} has CENS {cens[i]:g}, DV {raw.lower[i]:g} and LIMIT "
            f"{other[i]:g}, bounds in the wrong order. Expected LIMIT below DV where CENS is 1, "
            "and above it where CENS is −1. Correct them."
        )
    return Bounds(lower, upper)
