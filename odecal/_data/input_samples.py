"""Inputs as they were sampled."""

from typing import TYPE_CHECKING

import numpy as np

from odecal._data.columns import ColumnRoles
from odecal._data.experiment import Samples
from odecal._data.individuals import IndividualsTable
from odecal._data.numbers import numbers
from odecal._errors import ObservationError

if TYPE_CHECKING:
    import pandas as pd


def read_samples(
    table: "pd.DataFrame", roles: ColumnRoles, people: IndividualsTable, times: np.ndarray
) -> dict[str, Samples]:
    """The samples of every input.

    Args:
        table: whose index numbers the rows from 0.
        roles: which columns are inputs.
        people: the individuals.
        times: of each row.

    Raises:
        ObservationError: if an individual has none, or two at the same time.
    """
    return {
        name: _samples(name, numbers(table[column], column), column, people, times)
        for name, column in roles.inputs.items()
    }


def _samples(
    name: str, values: np.ndarray, column: str, people: IndividualsTable, times: np.ndarray
) -> Samples:
    rows = np.flatnonzero(~np.isnan(values))
    rows = rows[np.argsort(people.who[rows], kind="stable")]
    who = people.who[rows]
    without = np.setdiff1d(np.arange(len(people)), who)
    if without.size:
        raise ObservationError(
            f"The input `{name}`{people.of(without[0])} has no value. Expected at least one number "
            f"in the column `{column}`. Fill it in, or drop the individual."
        )
    again = (np.diff(who) == 0) & (np.diff(times[rows]) == 0)
    differ = np.flatnonzero(again & (np.diff(values[rows]) != 0))
    if differ.size:
        one, other = rows[differ[0]], rows[differ[0] + 1]
        raise ObservationError(
            f"The input `{name}`{people.of(people.who[one])} has two values at time "
            f"{times[one]:g}: {values[one]:g} in row {one + 1} and {values[other]:g} in row "
            f"{other + 1}. Expected one. Correct them, or make one empty."
        )
    rows = rows[np.concatenate([[True], ~again])]
    return Samples(people.who[rows], times[rows], values[rows])
