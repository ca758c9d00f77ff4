"""Who the rows of a table are of: labels of individuals, the groups they belong to, covariates."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from odecal._data.columns import ColumnRoles
from odecal._data.labels import Key, dim_of, labels_of, numbered, read_labels, row_keys
from odecal._data.numbers import first_true, numbers
from odecal._errors import ObservationError, listed
from odecal._system.groups import Columns, Grouping, Individuals

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class IndividualsTable:
    """The individuals of a table, in the order of their first rows, and whose each row is."""

    individuals: Individuals
    index: Int[np.ndarray, " row"]
    by_label: Mapping[Key, int]

    def __len__(self) -> int:
        return len(self.individuals)

    def name(self, i: int | np.integer) -> str:
        """An individual in words: `subject 3`."""
        if not self.individuals.dim:
            return "the experiment"
        return f"{self.individuals.dim} {self.individuals.labels[i]}"

    def of(self, i: int | np.integer) -> str:
        """` of subject 3`, to be put behind something; nothing for a single experiment."""
        return f" of {self.name(i)}" if self.individuals.dim else ""

    def names(self, some: Int[np.ndarray, " some"]) -> str:
        """Some individuals in words: the first few, and how many more."""
        labels = listed(self.individuals.labels[some[:5]])
        more = f" and {len(some) - 5} more" if len(some) > 5 else ""
        return f"{self.individuals.dim} {labels}{more}"


def read_individuals(table: "pd.DataFrame", roles: ColumnRoles) -> IndividualsTable:
    """The individuals of a table."""
    columns = roles.individual
    by_label, index = numbered(row_keys(table, columns))
    first = _first_rows(index)
    individuals = Individuals()
    if columns:
        individuals = Individuals(dim_of(columns), labels_of(table, columns, first))
    subjects = IndividualsTable(individuals, index, by_label)
    for column in roles.labels:
        if column not in columns:
            labels = read_labels(table[column])
            advice = (
                "Correct it. Where it changes between occasions, let these be individuals of their "
                f"own: individual = {(*columns, column)}."
            )
            _check_same(column, labels, np.ones(len(labels), bool), first, subjects, advice)
    firsts = table.take(first)
    groups = {group: _grouping(firsts, group) for group in roles.groups}
    _check_crossing(firsts, roles)
    covariates = {
        name: _covariate(name, table[column], subjects) for name, column in roles.covariates.items()
    }
    return replace(subjects, individuals=replace(individuals, groups=groups, covariates=covariates))


def _first_rows(index: Int[np.ndarray, " row"]) -> Int[np.ndarray, " label"]:
    """The first row of each individual."""
    return np.unique(index, return_index=True)[1]


def _grouping(firsts: "pd.DataFrame", columns: Columns) -> Grouping:
    """The groups that individuals belong to, from the first row of each individual."""
    index = numbered(row_keys(firsts, columns))[1]
    return Grouping(dim_of(columns), labels_of(firsts, columns, _first_rows(index)), index)


def _check_same(
    column: object,
    values: Shaped[np.ndarray, " row"],
    given: Bool[np.ndarray, " row"],
    first: Int[np.ndarray, " individual"],
    subjects: IndividualsTable,
    advice: str,
) -> None:
    """Refuse values that differ from the first of the individual."""
    before = first[subjects.index]
    if (row := first_true(given & (values != values[before]))) is not None:
        raise ObservationError(
            f"The column `{column}` changes within {subjects.name(subjects.index[row])}: it is "
            f"{values[before[row]]} in row {before[row] + 1} and {values[row]} in row "
            f"{row + 1}. Expected the same in all rows of an individual. {advice}"
        )


def _covariate(
    name: str, cells: "pd.Series", subjects: IndividualsTable
) -> Float[np.ndarray, " individual"]:
    """A covariate of each individual: the first value given, which the others must equal."""
    values = numbers(cells, " Code categories as numbers, such as 0 and 1.")
    given = ~np.isnan(values)
    individual, at = np.unique(subjects.index[given], return_index=True)
    first = np.full(len(subjects), -1)
    first[individual] = np.flatnonzero(given)[at]
    if (i := first_true(first < 0)) is not None:
        raise ObservationError(
            f"The covariate `{name}`{subjects.of(i)} is missing in row "
            f"{np.argmax(subjects.index == i) + 1} and in all others. "
            f"Expected a number in at least one row of each individual. Fill in the column "
            f"`{cells.name}`, or drop the individual."
        )
    advice = (
        "Correct it, or let what changes in time, or differs between doses, be an input: "
        f"{name} = Input(...)."
    )
    _check_same(cells.name, values, given, first, subjects, advice)
    return values[first]


def _check_crossing(firsts: "pd.DataFrame", roles: ColumnRoles) -> None:
    """Refuse a group whose label stands for different ones: subject 1 of site A and of site B."""
    for group, outer in _crossings(firsts, roles):
        seen: dict[Key, Key] = {}
        for key, place in zip(row_keys(firsts, group), row_keys(firsts, outer), strict=True):
            other = seen.setdefault(key, place)
            if other != place:
                raise ObservationError(
                    f"A parameter varies over {listed(group)} alone, but {dim_of(group)} "
                    f"{'/'.join(key)} occurs at {dim_of(outer)} {'/'.join(other)} and "
                    f"{'/'.join(place)}. Expected different labels for different ones. Relabel "
                    f"them, or take the group {(*outer, *group)}. If it is the same one at "
                    "each, copy the column under another name, that `individual` does not have, "
                    "and take that as the group."
                )


def _crossings(firsts: "pd.DataFrame", roles: ColumnRoles) -> Iterable[tuple[Columns, Columns]]:
    """Groups, each with the columns that one label of it should not meet two labels of."""
    inside = [group for group in roles.groups if set(group) < set(roles.individual)]
    if roles.nested:
        for group in inside:
            last = max(roles.individual.index(column) for column in group)
            outer = tuple(c for c in roles.individual[:last] if c not in group)
            if outer:
                yield group, outer
        return
    # No order is declared. Sites have several subjects, or subjects several sites: not both.
    counts = {group: len(set(row_keys(firsts, group))) for group in inside}
    for i, one in enumerate(inside):
        for other in inside[:i]:
            pairs = zip(row_keys(firsts, one), row_keys(firsts, other), strict=True)
            nested = len(set(pairs)) in (counts[one], counts[other])
            if not nested and not set(one) & set(other):
                yield (one, other) if counts[one] >= counts[other] else (other, one)
