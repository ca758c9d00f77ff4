"""The role of each column of a table, and the refusal of missing and unknown columns."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from odecal._data.csv import is_unnamed
from odecal._errors import ObservationError, listed, suggestion
from odecal._system.components import State
from odecal._system.declaration import Declaration
from odecal._system.groups import Columns
from odecal._system.inputs import Input
from odecal._system.varying import Covariate, Varying, as_group


@dataclass(frozen=True, eq=False)
class ColumnRoles:
    """The role of each column of a table to a system."""

    declaration: Declaration
    individual: Columns  # they tell individuals apart; none for a single experiment
    nested: bool  # whether those were declared, and so stand from the outermost to the innermost
    groups: tuple[Columns, ...]  # of every group that a parameter varies over
    covariates: Mapping[str, str]  # the column of each
    inputs: Mapping[str, str]
    observables: Mapping[str, Sequence[str]]  # one column an element
    time: str | None  # the time column, which must be there; None finds it
    usual_time: str | None  # its usual name, taken where it is there
    ignore: Sequence[str]  # to leave out, where they are
    required_ignore: Sequence[str] = ()  # those that were given with this table: must be there

    @property
    def labels(self) -> list[str]:
        """The columns that name individuals and groups."""
        columns = itertools.chain(self.individual, *self.groups)
        return list(dict.fromkeys(columns))

    @property
    def values(self) -> list[str]:
        """The columns of observables and inputs, which a row is there for."""
        columns = itertools.chain(*self.observables.values(), self.inputs.values())
        return list(dict.fromkeys(columns))

    @property
    def columns(self) -> list[str]:
        """Every column that the system reads, but that of time."""
        return list(dict.fromkeys([*self.labels, *self.values, *self.covariates.values()]))

    @property
    def role_names(self) -> str:
        """What a column can be to this system, in words."""
        roles = {
            "observable": self.observables,
            "covariate": self.covariates,
            "input": self.inputs,
            "label": self.labels,
        }
        *most, last = (role for role, columns in roles.items() if columns)
        return f"{', '.join(most)} or {last}" if most else last


def as_columns(names: Any, where: str) -> tuple[str, ...]:
    """Names of columns; a single one may stand by itself."""
    try:
        columns = (names,) if isinstance(names, str) else tuple(names)
    except TypeError:
        columns = (names,)
    if not all(isinstance(column, str) for column in columns):
        raise ObservationError(
            f"{where} expects the name of a column, or names in a row, such as "
            f'["note", "WT"]. Got {names!r}. Give each as text.'
        )
    return columns


def column_roles(
    declaration: Declaration, time: str | None = None, ignore: Sequence[str] = ()
) -> ColumnRoles:
    """What a system reads from its tables; `time` and `ignore` were given with this one."""
    ignored = as_columns(declaration.ignored_columns, f"ignored_columns of {declaration.name}")
    groups = _groups(declaration)
    individual = declaration.individual
    declared = None if individual is None else as_group(individual)
    return ColumnRoles(
        declaration,
        tuple(dict.fromkeys(itertools.chain(*groups))) if declared is None else declared,
        declared is not None,
        groups,
        {name: c.column or name for name, c in declaration.of(Covariate).items()},
        {name: c.column or name for name, c in declaration.of(Input).items()},
        {name: column_names(declaration, name) for name in declaration.observables},
        time,
        declaration.time_column,
        (*ignore, *ignored),
        ignore,
    )


def _groups(declaration: Declaration) -> tuple[Columns, ...]:
    """The columns of every group that a parameter or an initial value varies over."""
    parts = [
        part.initial if isinstance(part, State) else part
        for part in declaration.components.values()
    ]
    return tuple(dict.fromkeys(p.variation.group for p in parts if isinstance(p, Varying)))


def column_names(declaration: Declaration, name: str) -> list[str]:
    """What a part is called in tables: its name, or `name[label]` for each element of a vector."""
    dims = declaration.components[name].dims
    if not dims:
        return [name]
    labels = itertools.product(*(declaration.coords[dim] for dim in dims))
    return [f"{name}[{','.join(str(x) for x in label)}]" for label in labels]


def time_column(roles: ColumnRoles, names: Sequence[str]) -> str:
    """The time column of a tidy table, whose other columns must all be known."""
    time = roles.time
    check_ignored(names, roles)
    unclaimed = [name for name in names if name not in roles.columns and name not in roles.ignore]
    missing = [name for name in roles.columns if name not in names]
    if time is not None and time not in names:
        raise no_time_column(time, names, unclaimed)
    if time is None:
        usual = [name for name in (roles.usual_time, "time", "t") if name in unclaimed]
        if usual:
            time = usual[0]
        elif len(unclaimed) == 1 and not missing and not is_unnamed(unclaimed[0]):
            time = unclaimed[0]
    unknown = [name for name in unclaimed if name != time]
    check_columns(roles, names, unknown)
    if time is None:
        raise ObservationError(
            "The time column cannot be told. Expected one column beside "
            f"{listed(roles.columns)}. Got {listed(unclaimed)}. Name it `time`, or say which it "
            "is: time_column in the class, or Observations(..., time=...)."
        )
    if unknown:
        raise ObservationError(
            f"The column `{unknown[0]}` is no {roles.role_names} of {roles.declaration.name}. "
            f"Expected the time column `{time}` and: {listed(roles.columns)}."
            + suggestion(unknown[0], roles.columns)
            + " Rename or drop it, or leave it out by ignored_columns in the class, or "
            "Observations(..., ignore=...)."
        )
    return time


def no_time_column(time: str, names: Iterable[str], similar: Iterable[str]) -> ObservationError:
    """What to raise where the time column that was named is not there."""
    return ObservationError(
        f"The table has no time column `{time}`. Expected one of this name. Got the columns: "
        f"{listed(names)}." + suggestion(time, similar) + " Correct the name."
    )


def check_columns(
    roles: ColumnRoles, names: Iterable[str], unknown: Sequence[str], *, observables: bool = True
) -> None:
    """Refuse a table that lacks a column, of which one of the `unknown` may be a slip of the pen.

    `observables`: whether those have columns of their own.
    """
    system, names = roles.declaration.name, list(names)

    def check(columns: Iterable[str], what: str, advice: str) -> None:
        for column in columns:
            if column not in names:
                raise ObservationError(
                    f"The table has no column `{column}` {what}. Expected one of this name. "
                    f"Got the columns: {listed(names)}."
                    + suggestion(column, unknown)
                    + f" Add or rename the column, or {advice}."
                )

    check(
        roles.individual,
        f"to tell the individuals of {system} apart",
        "set `individual` of the class to one of these"
        if roles.nested
        else "let parameters vary over one of these",
    )
    for name, columns in roles.observables.items() if observables else ():
        check(
            columns,
            f"for the observable `{name}` of {system}",
            f"leave the observable out with {system}({name}=None)",
        )
    for group in roles.groups:
        what = f"for the group {_quoted(group)} that a parameter of {system} varies over"
        check(group, what, "let the parameter vary over another group")
    for kind, parts in (("Covariate", roles.covariates), ("Input", roles.inputs)):
        for name, column in parts.items():
            what = f"for the {kind.lower()} `{name}` of {system}"
            check([column], what, f'declare where it is: {name} = {kind}("<its column>")')


def _quoted(group: Columns) -> str:
    return f'"{group[0]}"' if len(group) == 1 else f"({', '.join(f'"{c}"' for c in group)})"


def check_ignored(names: Iterable[str], roles: ColumnRoles) -> None:
    """Refuse to leave out what is not there, or what the system reads: it is a slip of the pen."""
    names = list(names)
    absent = [name for name in roles.required_ignore if name not in names]
    if absent:
        raise ObservationError(
            f"ignore names `{absent[0]}`, which the table does not have. Expected some of its "
            f"columns. Got these: {listed(names)}." + suggestion(absent[0], names) + " Correct it."
        )
    needed = [name for name in roles.required_ignore if name in roles.columns and name in names]
    if needed:
        raise ObservationError(
            f"ignore names `{needed[0]}`, which {roles.declaration.name} reads as "
            f"{roles.role_names}. Expected columns that it does not read. To do without it, "
            "leave the part out, such as "
            f"{roles.declaration.name}({needed[0]}=None), or drop the column."
        )
