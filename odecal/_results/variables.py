"""The variables of each group of a tree: dimensions, labels, units."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from odecal._model.model import Model
from odecal._run.records import Arrays, Evaluation
from odecal._system.components import Constant
from odecal._system.declaration import Declaration

Variables = dict[str, xr.DataArray]
Coords = dict[str, Any]


@dataclass(frozen=True)
class DrawDims:
    """The two leading dimensions of draws."""

    shape: tuple[int, int]  # the numbers of chains, and of draws of each
    step: int = 1  # of every how many draws there are values

    def every(self, step: int) -> "DrawDims":
        """Of every few draws only."""
        return replace(self, step=step)

    def array(self, flat: np.ndarray, dims: list[str], coords: Mapping[str, Any]) -> xr.DataArray:
        """Values of draws, chain after chain, with their dimensions."""
        draws = np.arange(0, self.shape[1], self.step)
        values = flat.reshape(self.shape[0], len(draws), *flat.shape[1:])
        own = {"chain": np.arange(self.shape[0]), "draw": draws}
        return xr.DataArray(values, {**own, **coords}, ["chain", "draw", *dims])


class VariableBuilder:
    """Makes the variables of each group."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.declaration = model.declaration
        self.individuals = model.experiment.individuals
        self.time = {"units": model.system.time_unit} if model.system.time_unit else {}

    def quantities(self, evaluation: Evaluation, draws: DrawDims) -> Variables:
        """Parameters, initial values and derived quantities."""
        variables = {}
        for name, flat in evaluation.quantities.items():
            quantity = self.model.hierarchy.quantities[name]
            array = draws.array(flat, list(quantity.dims), self.labels(quantity.dims))
            variables[name] = with_attrs(array, quantity.unit, quantity.description)
        for name, flat in evaluation.derived.items():
            dims = self.model.dims[name]
            array = draws.array(np.asarray(flat), dims, self.labels(dims))
            variables[name] = self.described(name, array)
        return variables

    def at_data(self, values: Arrays, draws: DrawDims) -> Variables:
        """Draws of observables where they were observed."""
        return {
            name: self.described(name, draws.array(flat, *self.data_dims(name)))
            for name, flat in values.items()
        }

    def on_grid(self, values: Arrays, draws: DrawDims, grid: np.ndarray) -> Variables:
        """Draws of states or observables at the times of the grid."""
        variables = {}
        individual = [self.individuals.dim] if self.individuals.dim else []
        for name, flat in values.items():
            dims = self.declaration.components[name].dims
            coords = {"time": ("time", grid, self.time), **self.labels([*individual, *dims])}
            array = draws.array(flat, [*individual, "time", *dims], coords)
            variables[name] = self.described(name, array)
        return variables

    def log_likelihood(self, values: Arrays, draws: DrawDims) -> Variables:
        """The log density of every observed value, in one variable.

        One, so that cross-validation needs no further argument. A single complete observable keeps
        its name and dimensions; otherwise all values stand along one dimension, whose coordinates
        tell which observable, individual and time each belongs to.
        """
        series = self.model.experiment.series
        if len(values) == 1 and series[name := next(iter(values))].complete:
            flat, (dims, coords) = values[name], self.data_dims(name)
            dims = dims[: flat.ndim - 1]  # a joint distribution has one density a time
            coords = {
                key: coord
                for key, coord in coords.items()
                if (coord[0] if isinstance(coord, tuple) else key) in dims
            }
            return {name: draws.array(flat, dims, coords)}
        columns, observables, times, individuals = [], [], [], []
        for name, flat in values.items():
            present = series[name].present
            if flat.ndim == 2 and present.ndim > 1:  # one density a time, of all elements
                present = present.all(axis=-1)
            rows = np.nonzero(present)[0]
            columns.append(flat[:, present])
            times.append(series[name].times[rows])
            individuals.append(series[name].individual[rows])
            observables += [name] * len(rows)
        records = self.records("observation", np.concatenate(times), np.concatenate(individuals))
        names = np.asarray(observables, dtype=object)
        coords = {"observable": ("observation", names), **records}
        flat = np.concatenate(columns, axis=1)
        return {"observations": draws.array(flat, ["observation"], coords)}

    def observed(self) -> Variables:
        """The data, NaN where missing; of censored values a bound, and the upper one beside it."""
        variables = {}
        for name, series in self.model.experiment.series.items():
            dims, coords = self.data_dims(name)
            bounds = {name: series.values}
            if series.upper is not None:
                bounds = {f"{name}_upper": series.upper} | bounds
            for bound, values in bounds.items():
                array = xr.DataArray(np.where(series.present, values, np.nan), coords, dims)
                variables[bound] = self.described(name, array)
        return variables

    def constants(self) -> Variables:
        """Constants and covariates."""
        variables = {}
        for name, component in self.declaration.of(Constant).items():
            values, dims = self.declaration.known[name], list(component.dims)
            variables[name] = self.described(name, xr.DataArray(values, self.labels(dims), dims))
        dims = [self.individuals.dim]
        for name, values in self.individuals.covariates.items():
            variables[name] = self.described(name, xr.DataArray(values, self.labels(dims), dims))
        return variables

    def doses(self) -> Variables:
        """Every dose: its state, amount, rate and duration."""
        doses = self.model.experiment.doses
        if doses is None or not len(doses):
            return {}
        coords = self.records("dose", doses.time, doses.individual, prefix="dose_")
        names = np.asarray([*_elements(self.declaration), "(none)"], dtype=object)
        columns = {
            "dose_state": names[doses.element],
            "dose_amount": doses.amount,
            "dose_rate": doses.rate,
            "dose_duration": doses.duration,
        }
        return {name: xr.DataArray(x, coords, ["dose"]) for name, x in columns.items()}

    def inputs(self) -> Variables:
        """The samples of every input."""
        variables = {}
        for name, samples in self.model.experiment.inputs.items():
            dim = f"{name}_sample"
            coords = self.records(dim, samples.times, samples.individual, prefix=f"{name}_")
            variables[name] = self.described(name, xr.DataArray(samples.values, coords, [dim]))
        return variables

    def centrings(self) -> Variables:
        """The centrings that were chosen from the data: of the location, and of the scale."""
        variables = {}
        for name, centring in self.model.centrings.items():
            dims = list(self.model.hierarchy.quantities[name].dims)
            for part in ("location", "scale"):
                weights = np.asarray(getattr(centring.weights(), part))
                array = xr.DataArray(weights, self.labels(dims), dims)
                text = f"0 is non-centred, 1 is centred, for the {part} of {name}"
                variables[f"{name}_{part}"] = with_attrs(array, "", text)
        return variables

    def data_dims(self, observable: str) -> tuple[list[str], Coords]:
        """The dimensions of an observable's data, and their labels."""
        dim = self.model.time_dims[observable]
        dims = self.declaration.components[observable].dims
        series = self.model.experiment.series[observable]
        coords: Coords = {dim: (dim, series.times, self.time)}
        if self.individuals.dim:
            suffix = dim.removeprefix("observation")
            coords = self.records(dim, series.times, series.individual, suffix=suffix)
        return [dim, *dims], {**coords, **self.labels(dims)}

    def records(
        self,
        dim: str,
        times: np.ndarray,
        individual: np.ndarray,
        prefix: str = "",
        suffix: str = "",
    ) -> Coords:
        """The time of every record along a dimension and, of many, the individual's label."""
        coords: Coords = {f"{prefix}time{suffix}": (dim, times, self.time)}
        if self.individuals.dim:
            labels = self.individuals.labels[individual]
            coords[f"{prefix}{self.individuals.dim}{suffix}"] = (dim, labels)
        return coords

    def labels(self, dims: Iterable[str]) -> Coords:
        """The labels of dimensions of components and groups."""
        return {dim: self.model.coords[dim] for dim in dims}

    def described(self, name: str, array: xr.DataArray) -> xr.DataArray:
        """An array with the unit and the description of a component."""
        component = self.declaration.components[name]
        return with_attrs(array, component.unit, component.description)


def with_attrs(array: xr.DataArray, unit: str, description: str) -> xr.DataArray:
    """An array with unit and description as attributes, by the names of the CF conventions."""
    if unit:
        array.attrs["units"] = unit
    if description:
        array.attrs["long_name"] = description
    return array


def _elements(declaration: Declaration) -> list[str]:
    """The name of every element of the packed state."""
    names = []
    for name, state in declaration.states.items():
        labels = itertools.product(*(declaration.coords[dim] for dim in state.dims))
        names += [f"{name}[{', '.join(map(str, x))}]" if x else name for x in labels]
    return names
