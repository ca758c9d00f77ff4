"""Observations of a system: what was measured when, checked and aligned."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from odecal._data.columns import ColumnRoles, as_columns, column_roles
from odecal._data.datasets import is_dataset, table_of
from odecal._data.dose_checks import check_dose_times
from odecal._data.dose_records import expand_doses
from odecal._data.dose_tables import TABLE, read_doses
from odecal._data.experiment import Experiment, Series
from odecal._data.frame import read_frame
from odecal._data.nonmem import is_nonmem, read_nonmem
from odecal._data.parsed import ParsedTable
from odecal._data.series import read_samples, series_of
from odecal._data.tidy import read_tidy
from odecal._errors import ObservationError
from odecal._system.declaration import Declaration


@dataclass(frozen=True, eq=False)
class Observations:
    """A table of observations and how to read it.

    Most calls take the table itself; this says more about it where that is needed.

    A cell is a number, or empty where it is missing, or says what is known of a censored value:
    `<0.5`, `>100`, `0.2..0.5`, or BLQ where `Observable(lloq=...)` says the limit.

    A table with the columns TIME and DV, and EVID, AMT or MDV, is read as the pharmacometric table
    that it is, with ID, RATE, ADDL, II, SS, CMT, CENS, LLOQ, LIMIT and DVID; a dot is a missing
    cell. CMT counts the states, and DVID the observables, from 1, or names them. An observation
    that stands behind a dose of the same time was measured after it.

    Args:
        data: a `pandas.DataFrame` or the path of a CSV file, with a time column and a column an
            observable (`name[label]` for each element of a vector-valued one), or an
            `xarray.Dataset` with a time dimension and a variable an observable. NaN is missing;
            rows (or a dimension `replicate`) of the same time are replicates. The system says
            which further columns (or dimensions) tell individuals, groups, covariates and inputs.
        time: the name of the time column; None takes the system's `time_column`, or finds it.
        ignore: a column, or columns, to leave out, beside the system's `ignored_columns`.
        doses: a table of doses, a `pandas.DataFrame` or the path of a CSV file, with the columns
            of the individual, the time, `amount` and `state` (or `name[label]` in it), and where
            needed `rate` (−1 or −2 where the system gives the rate or the duration), `duration`,
            `interval`, `additional`, `steady_state` (1 replaces the state, 2 adds to it) and
            `reset` (1: the state begins anew). An observation at the time of a dose was measured
            before it.
    """

    data: Any
    time: str | None = None
    ignore: Sequence[str] = ()
    doses: Any = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "ignore", as_columns(self.ignore, "Observations(ignore=...)"))
        if self.time is not None and not isinstance(self.time, str):
            raise ObservationError(
                "Observations(time=...) expects the name of a column, as text. Got "
                f'{self.time!r}. Where the name is a number, give it as text: time="0".'
            )


def read_experiment(data: Any, declaration: Declaration) -> Experiment:
    """Read, check and align a table of observations: `Observations`, or what it takes as data."""
    source = data if isinstance(data, Observations) else Observations(data)
    if not declaration.observables:
        raise ObservationError(
            f"{declaration.name} has no observable. Expected at least one, such as "
            "Observable(lambda t, y, p: odecal.noise.Normal(y.amount, p.sigma))."
        )
    roles = column_roles(declaration, source.time, source.ignore)
    table = _with_doses(_parsed(source.data, roles), source.doses, roles)
    subjects, t0 = table.subjects, _initial_times(declaration.t0, table)
    series = {
        name: series_of(name, rows, t0, declaration.observables[name], subjects)
        for name, rows in table.rows.items()
    }
    doses = None
    if table.records is not None:
        where = "the table" if source.doses is None else TABLE
        check_dose_times(table.records, declaration.t0, subjects, where)
        doses = expand_doses(table.records, subjects.index, table.times)
    inputs = read_samples(table.table, roles, subjects, table.times)
    _warn_of_unobserved(table, list(series.values()))
    return Experiment(t0, series, subjects.individuals, doses, inputs)


def _parsed(data: Any, roles: ColumnRoles) -> ParsedTable:
    """A table of any kind, parsed."""
    if is_dataset(data):
        frame, time = table_of(data, roles)
        return read_tidy(frame, roles, time)
    frame = read_frame(data)
    return read_nonmem(frame, roles) if is_nonmem(frame, roles) else read_tidy(frame, roles)


def _with_doses(table: ParsedTable, doses: Any, roles: ColumnRoles) -> ParsedTable:
    """A table with the doses of a table by themselves, where that is given."""
    if doses is None:
        return table
    if table.records is not None:
        raise ObservationError(
            "There are doses in the table of observations and in one by themselves. Expected one "
            f"of the two: row {table.records.row[0] + 1} of the first is a dose. Leave out "
            "Observations(..., doses=...), or drop the rows of doses."
        )
    records = read_doses(doses, roles, table.subjects, table.time)
    return replace(table, records=records if len(records) else None)


def _initial_times(t0: float | None, table: ParsedTable) -> Float[np.ndarray, " individual"]:
    """The initial time of each individual: the system's, or the first of its rows."""
    if t0 is not None:
        return np.full(len(table.subjects), float(t0))
    first = np.full(len(table.subjects), np.inf)
    np.minimum.at(first, table.subjects.index, table.times)
    if table.records is not None:
        np.minimum.at(first, table.records.individual, table.records.time)
    return first


def _warn_of_unobserved(table: ParsedTable, series: Sequence[Series]) -> None:
    """Say that there are individuals of whom nothing was observed: it may be a slip."""
    subjects, records = table.subjects, table.records
    observed = np.concatenate([one.individual for one in series])
    silent = np.setdiff1d(np.arange(len(subjects)), observed)
    if not silent.size:
        return
    dosed = 0 if records is None else np.isin(silent, records.individual).sum()
    some = "all" if dosed == len(silent) else dosed
    warnings.warn(
        f"{len(silent)} of {len(subjects)} individuals have no observations"
        + (f" ({some} of them have doses)" if dosed else "")
        + f"; they are kept, and predicted from what the others tell: {subjects.names(silent)}.",
        stacklevel=3,
    )
