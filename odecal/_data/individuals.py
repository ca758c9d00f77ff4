"""Who the rows of a table are of: labels of individuals, the groups they belong to, covariates."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from odecal._data.columns import ColumnRoles
from odecal._data.labels import Key, dim_of, labels_of, read_labels, row_keys
from odecal._data.numbers import numbers
from odecal._errors import ObservationError, listed
from odecal._system.groups import Columns, Grouping, Individuals

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class IndividualsTable:
    """The individuals of a table, and which of its rows are of whom.

    Args:
        individuals: in the order in which they first appear.
        who: the individual of each row, of shape (row,).
        found: the individuals by their labels.
    """

    individuals: Individuals
    who: np.ndarray
    found: Mapping[Key, int]

    def __len__(self) -> int:
        return len(self.individuals)

    def called(self, i: int) -> str:
        """An individual in words: `subject 3`."""
        if not self.individuals.dim:
            return "the experiment"
        return f"{self.individuals.dim} {self.individuals.labels[i]}"

    def of(self, i: int) -> str:
        """` of subject 3`, to be put behind something; nothing for a single experiment."""
        return f" of {self.called(i)}" if self.individuals.dim else ""


def read_individuals(table: "pd.DataFrame", roles: ColumnRoles) -> IndividualsTable:
    """The individuals of a table.

    Args:
        table: whose index numbers the rows from 0.
        roles: which of its columns tell individuals, groups and covariates.

    Raises:
        ObservationError: if a label is missing, or a group or a covariate is not constant within
            an individual or, for a covariate, nowhere given.
    """
    if not roles.individual:
        alone = IndividualsTable(Individuals(), np.zeros(len(table), int), {(): 0})
        covariates = _covariates(table, roles, alone)
        return IndividualsTable(Individuals(covariates=covariates), alone.who, alone.found)
    keys = row_keys(table, roles.individual)
    found = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    who = np.fromiter((found[key] for key in keys), int, len(keys))
    first = np.unique(who, return_index=True)[1]
    named = Individuals(dim_of(roles.individual), labels_of(table, roles.individual, first))
    people = IndividualsTable(named, who, found)
    for column in roles.labels:
        if column not in roles.individual:
            _check_constant(table, column, roles, people, first)
    firsts = table.take(first)
    groups = {group: _grouping(firsts, group) for group in roles.groups}
    _check_crossing(firsts, roles)
    covariates = _covariates(table, roles, people)
    return IndividualsTable(Individuals(named.dim, named.labels, groups, covariates), who, found)


def _grouping(firsts: "pd.DataFrame", columns: Columns) -> Grouping:
    """The groups that individuals belong to, from the first row of each individual."""
    keys = row_keys(firsts, columns)
    found = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    index = np.fromiter((found[key] for key in keys), int, len(keys))
    first = np.unique(index, return_index=True)[1]
    return Grouping(dim_of(columns), labels_of(firsts, columns, first), index)


def _check_constant(
    table: "pd.DataFrame",
    column: str,
    roles: ColumnRoles,
    people: IndividualsTable,
    first: np.ndarray,
) -> None:
    """Refuse a label that changes within an individual."""
    advice = (
        "Correct it. Where it changes between occasions, let these be individuals of their own: "
        f"individual = {(*roles.individual, column)}."
    )
    labels = read_labels(table[column], column)
    _check_same(column, labels, np.ones(len(labels), bool), first, people, advice)


def _check_same(
    column: str,
    values: np.ndarray,
    given: np.ndarray,
    first: np.ndarray,
    people: IndividualsTable,
    advice: str,
) -> None:
    """Refuse values that differ from the first of the individual."""
    before = first[people.who]
    changed = np.flatnonzero(given & (values != values[before]))
    if changed.size:
        after = int(changed[0])
        raise ObservationError(
            f"The column `{column}` changes within {people.called(people.who[after])}: it is "
            f"{values[before[after]]} in row {before[after] + 1} and {values[after]} in row "
            f"{after + 1}. Expected the same in all rows of an individual. {advice}"
        )


def _covariates(
    table: "pd.DataFrame", roles: ColumnRoles, people: IndividualsTable
) -> dict[str, np.ndarray]:
    """What is known of each individual: the first value given, which the others must equal."""
    hint = " Code categories as numbers, such as 0 and 1."
    return {
        name: _covariate(name, numbers(table[column], column, hint), column, people)
        for name, column in roles.covariates.items()
    }


def _covariate(name: str, values: np.ndarray, column: str, people: IndividualsTable) -> np.ndarray:
    given = np.flatnonzero(~np.isnan(values))
    who, at = np.unique(people.who[given], return_index=True)
    first = np.full(len(people), -1)
    first[who] = given[at]
    if (first < 0).any():
        i = int(np.argmax(first < 0))
        row = int(np.argmax(people.who == i))
        raise ObservationError(
            f"The covariate `{name}`{people.of(i)} is missing in row {row + 1} and in all others. "
            f"Expected a number in at least one row of each individual. Fill in the column "
            f"`{column}`, or drop the individual."
        )
    advice = (
        "Correct it, or let what changes in time, or differs between doses, be an input: "
        f"{name} = Input(...)."
    )
    _check_same(column, values, ~np.isnan(values), first, people, advice)
    known: np.ndarray = values[first]
    return known


def _check_crossing(firsts: "pd.DataFrame", roles: ColumnRoles) -> None:
    """Refuse a group whose label stands for different people: subject 1 of site A and of site B."""
    for group, outer in _crossings(firsts, roles):
        keys = row_keys(firsts, group)
        places = row_keys(firsts, outer)
        seen: dict[Key, Key] = {}
        for key, place in zip(keys, places, strict=True):
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
    for i, one in enumerate(inside):
        for other in inside[:i]:
            apart = not set(one) & set(other)
            if apart and not (_tells(firsts, one, other) or _tells(firsts, other, one)):
                yield _finer(firsts, one, other)


def _tells(firsts: "pd.DataFrame", group: Columns, other: Columns) -> bool:
    """Whether each label of a group occurs with one of the other alone."""
    keys, others = row_keys(firsts, group), row_keys(firsts, other)
    return len(set(zip(keys, others, strict=True))) == len(set(keys))


def _finer(firsts: "pd.DataFrame", one: Columns, other: Columns) -> tuple[Columns, Columns]:
    """Two groups, first the one with more labels."""
    many = len(set(row_keys(firsts, one))) >= len(set(row_keys(firsts, other)))
    return (one, other) if many else (other, one)


def names_of(people: IndividualsTable, chosen: np.ndarray) -> str:
    """Some individuals for a message: the first few, and how many more."""
    shown = listed(people.individuals.labels[chosen[:5]])
    more = f" and {len(chosen) - 5} more" if len(chosen) > 5 else ""
    return f"{people.individuals.dim} {shown}{more}"
