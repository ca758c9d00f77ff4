"""Simulated tables: who is measured when is given, and what is measured is drawn."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from odecal._data.columns import ColumnRoles, column_roles
from odecal._data.frame import read_frame
from odecal._data.nonmem import is_nonmem
from odecal._data.numbers import numbers
from odecal._data.observations import Observations, read_experiment
from odecal._data.times import check_precision
from odecal._errors import ObservationError
from odecal._model.model import Model
from odecal._simulate.cells import fill_nonmem, fill_tidy, nonmem_columns
from odecal._simulate.draws import drawn_observables
from odecal._system.solve import Solve
from odecal._system.system import System

if TYPE_CHECKING:
    import pandas as pd

# What stands where a value will be drawn, until it is. No row is refused for it.
_ANY = 1.0


def simulate_design(
    system: System, design: Any, values: Mapping[str, Any], solve: Solve, seed: int
) -> "pd.DataFrame":
    """A design, in which the observables are drawn.

    Values that are not given are drawn too. `attrs["values"]` of the table are those of everything
    that a posterior reports.
    """
    source = design if isinstance(design, Observations) else Observations(design)
    declaration = system.declaration
    roles = column_roles(declaration, source.time, source.ignore)
    table = _with_dv(read_frame(source.data, "Designs"), roles)
    nonmem = is_nonmem(table, roles)
    marked = _marked_nonmem(table, roles) if nonmem else _marked_tidy(table, roles)
    experiment = read_experiment(replace(source, data=marked), declaration)
    check_precision(experiment, solve.dtype)
    model = Model(system, experiment, solve)
    draws, used = drawn_observables(model, values, seed)
    fill = fill_nonmem if nonmem else fill_tidy
    filled = _with_numbers(fill(table, roles, experiment.series, draws), roles)
    filled.attrs = {"values": used}
    return filled


def _with_dv(table: "pd.DataFrame", roles: ColumnRoles) -> "pd.DataFrame":
    """The table, with DV if that is all that it lacks of a NONMEM table."""
    columns = nonmem_columns(table, roles)
    if "EVID" not in columns or "DV" in columns or columns["EVID"] in roles.columns:
        return table
    return table.assign(DV=np.nan)


def _with_numbers(table: "pd.DataFrame", roles: ColumnRoles) -> "pd.DataFrame":
    """The table, in which columns of text that holds numbers alone are numbers, but for labels."""
    read = {}
    for name in table.columns:
        if table[name].dtype.kind == "O" and name not in roles.labels and name.upper() != "ID":
            with suppress(ObservationError):
                read[name] = numbers(table[name])
    return table.assign(**read)


def _marked_nonmem(table: "pd.DataFrame", roles: ColumnRoles) -> "pd.DataFrame":
    """The table with a value in every row, of which the reader takes those of observations."""
    columns = nonmem_columns(table, roles)
    marks = {"DV": _ANY, "CENS": 0, "LIMIT": np.nan}
    return table.assign(**{columns[name]: x for name, x in marks.items() if name in columns})


def _marked_tidy(table: "pd.DataFrame", roles: ColumnRoles) -> "pd.DataFrame":
    """The table with a value wherever one will be drawn."""
    columns = [column for columns in roles.observables.values() for column in columns]
    filled = {c: table[c].notna().to_numpy() for c in columns if c in table}
    inputs = [column for column in roles.inputs.values() if column in table]
    sampled = table[inputs].notna().any(axis=1).to_numpy()
    only_inputs = sampled & ~np.any([*filled.values(), np.zeros(len(table), bool)], axis=0)
    if only_inputs.all():  # then the times of the inputs are all that there are
        only_inputs = np.zeros(len(table), bool)
    marks = {c: filled[c] if c in filled and filled[c].any() else ~only_inputs for c in columns}
    return table.assign(**{c: np.where(mark, _ANY, np.nan) for c, mark in marks.items()})
