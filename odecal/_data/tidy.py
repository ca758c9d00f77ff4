"""Tidy tables: a row a time, a column an observable."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

from odecal._data.censored import Bounds, apply_limits, limits_of, read_bounds
from odecal._data.columns import ColumnRoles, time_column
from odecal._data.individuals import read_individuals
from odecal._data.parsed import ParsedTable, Rows
from odecal._data.times import check_sorted, read_times
from odecal._errors import ObservationError
from odecal._system.components import Observable

if TYPE_CHECKING:
    import pandas as pd


def read_tidy(table: "pd.DataFrame", roles: ColumnRoles, time: str | None = None) -> ParsedTable:
    """Read a tidy table."""
    name = time_column(roles, list(table.columns)) if time is None else time
    if len(table) == 0:
        raise ObservationError("The table has no rows. Expected at least one observation.")
    times = read_times(table[name])
    subjects = read_individuals(table, roles)
    check_sorted(times, name, subjects)
    every, observed = np.arange(len(table)), _observed_rows(table, roles)
    rows = {}
    for observable, columns in roles.observables.items():
        bounds = _element_bounds(table, columns, roles.declaration.observables[observable])
        shape = (len(table), *roles.declaration.shape(observable))
        lower, upper = bounds.lower.reshape(shape), bounds.upper.reshape(shape)
        rows[observable] = Rows(subjects.index, times, lower, upper, row=every).take(observed)
    return ParsedTable(table, subjects, name, times, rows)


def _observed_rows(table: "pd.DataFrame", roles: ColumnRoles) -> Int[np.ndarray, " _observed"]:
    """The rows that are of observables, if only of missing values, and not of inputs alone."""
    if not roles.inputs:
        return np.arange(len(table))
    observed = table[[c for columns in roles.observables.values() for c in columns]].notna()
    sampled = table[list(roles.inputs.values())].notna()
    return np.flatnonzero(observed.any(axis=1) | ~sampled.any(axis=1))


def _element_bounds(table: "pd.DataFrame", columns: Sequence[str], part: Observable) -> Bounds:
    """Between what the elements of an observable lie: a column each."""
    lloq, uloq = limits_of(part)
    limits = np.full(len(table), lloq)
    cells = [read_bounds(table[column], limits) for column in columns]
    bounds = Bounds(
        np.stack([cell.lower for cell in cells], axis=-1),
        np.stack([cell.upper for cell in cells], axis=-1),
    )
    return apply_limits(bounds, lloq, uloq)
