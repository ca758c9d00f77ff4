"""xarray datasets into tidy tables."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from odecal._data.columns import ColumnRoles, check_columns, check_ignored
from odecal._data.numbers import loose_numbers
from odecal._errors import ObservationError, listed, suggestion

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


# Attributes that say that values are written in code.
_CODES = ("_FillValue", "missing_value", "scale_factor", "add_offset")


def is_dataset(data: Any) -> bool:
    """Whether data comes from xarray."""
    import xarray as xr

    return isinstance(data, (xr.Dataset, xr.DataArray))


def table_of(data: Any, roles: ColumnRoles) -> "tuple[pd.DataFrame, str]":
    """A dataset as a tidy table, and the name of its time column.

    It has a variable an observable, over time and perhaps individuals and replicates; individuals
    and time may also be coordinates along another dimension.
    """
    import pandas as pd
    import xarray as xr

    if isinstance(data, xr.DataArray):
        data = data.to_dataset(name=data.name or "value")
    _check_variables(data, roles)
    data = data.drop_vars(list(roles.ignore), errors="ignore")
    _check_decoded(data)
    levels = [dim for dim in data.dims if isinstance(data.indexes.get(dim), pd.MultiIndex)]
    data = data.reset_index(levels)
    observed = data[list(roles.observables)]
    time = _time(observed, roles)
    along = _row_dims(observed, roles, time)
    others = [*roles.inputs.values(), *roles.covariates.values(), *roles.labels]
    parts: dict[str, Any] = {}
    for name in roles.observables:
        parts |= _columns(data[name], roles, name, along)
    coords = {name: data[name] for name in (time, *others) if name in data.coords}
    parts |= {
        name: _along_rows(data[name], name, along) for name in others if name in data.data_vars
    }
    flat = xr.Dataset(parts).assign_coords(coords)
    order = [dim for dim in (*along, "replicate") if dim in flat.dims]
    table = flat.to_dataframe(dim_order=order).reset_index()
    table = table[list(dict.fromkeys([*coords, *parts]))]
    return (_with_values(table, roles) if roles.individual else table), time


def _check_variables(data: "xr.Dataset", roles: ColumnRoles) -> None:
    """Refuse a dataset that lacks a variable or has one too many."""
    system = roles.declaration.name
    names = [str(name) for name in data.data_vars]
    missing = [name for name in roles.observables if name not in names]
    if missing:
        raise ObservationError(
            f"The dataset has no variable `{missing[0]}` for the observable of {system}. "
            f"Got: {listed(names)}." + suggestion(missing[0], names) + " Add or rename it, or leave"
            f" the observable out with {system}({missing[0]}=None)."
        )
    everything = [*names, *(str(name) for name in data.coords)]
    check_ignored(everything, roles)
    others = [*roles.inputs.values(), *roles.covariates.values(), *roles.labels]
    known = [*roles.observables, *others]
    unknown = [name for name in names if name not in known and name not in roles.ignore]
    check_columns(roles, everything, unknown, observables=False)
    if unknown:
        raise ObservationError(
            f"The variable `{unknown[0]}` is no {roles.role_names} of {system}. Expected: "
            f"{listed(dict.fromkeys(known))}."
            + suggestion(unknown[0], known)
            + " Drop it with dataset.drop_vars(...)."
        )


def _check_decoded(data: "xr.Dataset") -> None:
    """Refuse variables whose attributes say that their values are written in code."""
    for name, variable in data.variables.items():
        codes = [code for code in _CODES if code in variable.attrs]
        if codes:
            raise ObservationError(
                f"The variable `{name}` has the attribute {codes[0]}: its values are as a file "
                "has them. Expected the values that are meant. Take xarray.decode_cf(dataset), or "
                "drop the attribute."
            )


def _time(data: "xr.Dataset", roles: ColumnRoles) -> str:
    """The dimension of time, or the coordinate of it along a dimension of rows."""
    known = {dim for name in roles.observables for dim in roles.declaration.components[name].dims}
    spare = [
        str(d) for d in data.dims if d not in {*known, "replicate", *_individual_dims(data, roles)}
    ]
    coords = [str(name) for name in data.coords if data[name].ndim == 1] if roles.individual else []
    usual = [n for n in (roles.usual_time, "time", "t") if n in spare or n in coords]
    time = roles.time or (usual or spare if usual or len(spare) == 1 else [None])[0]
    if time in coords and time not in data.dims:
        return time
    if time is None or time not in data.dims or time not in data.indexes:
        raise ObservationError(
            f"The time dimension `{time or 'time'}` with a coordinate is expected in the dataset. "
            f"Got the dimensions {listed(data.dims)}, of which {listed(data.indexes)} have "
            "coordinates. Name it by time_column in the class, or Observations(..., time=...)."
        )
    if data.sizes[time] == 0:
        raise ObservationError("The dataset has no times. Expected at least one observation.")
    index = data.indexes[time]
    if not index.is_unique:
        label = index[index.duplicated()][0]
        raise ObservationError(
            f"The time index `{time}` has duplicates: {label!s} is there more than once. Expected "
            "each time once. Give replicates a dimension of their own, `replicate`."
        )
    # Refuses dates, which the order of dims would hide.
    loose_numbers(index.to_series().rename(time).reset_index(drop=True))
    return time


def _individual_dims(data: "xr.Dataset", roles: ColumnRoles) -> list[str]:
    """The dimensions of individuals: those that the labels of individuals run along."""
    along = [data[name].dims for name in roles.individual if name in data.coords]
    return list(dict.fromkeys(str(dim) for dims in along for dim in dims))


def _row_dims(data: "xr.Dataset", roles: ColumnRoles, time: str) -> list[str]:
    """The dimensions that rows run along, individuals first."""
    dims = list(dict.fromkeys([*_individual_dims(data, roles), *map(str, data[time].dims)]))
    for dim in dims:
        if dim in roles.individual and not data.indexes[dim].is_unique:
            label = data.indexes[dim][data.indexes[dim].duplicated()][0]
            raise ObservationError(
                f"The index `{dim}` has duplicates: {label!s} is there more than once. Expected "
                "each individual once. Give replicates a dimension of their own, `replicate`."
            )
    return dims


def _columns(
    array: "xr.DataArray", roles: ColumnRoles, name: str, along: Sequence[str]
) -> "dict[str, xr.DataArray]":
    """The columns of one observable, one an element."""
    declaration = roles.declaration
    dims = declaration.components[name].dims
    if not {*along, *dims} <= set(array.dims) <= {*along, "replicate", *dims}:
        raise ObservationError(
            f"The variable `{name}` has the dimensions {listed(array.dims)}. Expected "
            f"{listed([*along, *dims])}, and perhaps `replicate`."
        )
    for dim in dims:
        if dim in array.indexes:
            expected = list(declaration.coords[dim])
            if sorted(map(str, array.indexes[dim])) != sorted(map(str, expected)):
                raise ObservationError(
                    f"The labels of `{dim}` of `{name}` differ. Expected {listed(expected)}. Got "
                    f"{listed(array.indexes[dim])}."
                )
            found = list(map(str, array.indexes[dim]))
            array = array.isel({dim: [found.index(str(label)) for label in expected]})
    shape = tuple(array.sizes[dim] for dim in dims)
    if shape != declaration.shape(name):
        raise ObservationError(
            f"The variable `{name}` has the wrong shape at each time. Expected "
            f"{declaration.shape(name)}. Got {shape}."
        )
    array = array.reset_coords(drop=True).drop_vars(dims, errors="ignore")
    if array.dtype.kind in "iu":  # NaN of other variables' replicates would make floats of it
        array = array.astype(object)
    if "replicate" not in array.dims:  # else it would be repeated beside one that has them
        array = array.expand_dims("replicate")
    array = array.assign_coords(replicate=range(array.sizes["replicate"]))
    return {
        column: array.isel(dict(zip(dims, index, strict=True)))
        for column, index in zip(roles.observables[name], np.ndindex(*shape), strict=True)
    }


def _along_rows(array: "xr.DataArray", name: str, along: Sequence[str]) -> "xr.DataArray":
    """A variable that holds for all times or individuals of the dimensions that it lacks."""
    if not set(array.dims) <= set(along):
        raise ObservationError(
            f"The variable `{name}` has the dimensions {listed(array.dims)}. Expected some of "
            f"{listed(along)}."
        )
    return array.reset_coords(drop=True)


def _with_values(table: "pd.DataFrame", roles: ColumnRoles) -> "pd.DataFrame":
    """The rows with a value, and all of individuals that have none."""
    there = table[[name for name in roles.values if name in table]].notna().any(axis=1)
    labels = [table[name] for name in roles.individual]
    kept = there | ~there.groupby(labels, sort=False, dropna=False).transform("any")
    return table[kept].reset_index(drop=True)
