"""Draws into a DataTree: dimensions, coordinates, units, provenance."""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from odecal._model.model import Model
from odecal._run.checkpoint import checkpoint_arrays
from odecal._run.plan import plan_to_bytes
from odecal._run.provenance import (
    environment_attrs,
    merge,
    sampler_attrs,
    solve_attrs,
    system_attrs,
)
from odecal._run.records import Evaluation, Result
from odecal._system.components import Constant
from odecal._system.declaration import Declaration

Variables = dict[str, xr.DataArray]


def build_tree(result: Result) -> xr.DataTree:
    """Put everything about a calibration into one tree.

    Args:
        result: the calibration.

    Returns:
        A tree with the groups of ArviZ, and more; see `odecal.calibrate`.
    """
    prior, grid = result.prior, result.grid
    before = _Lead((1, len(prior.failed)))
    builder = _Builder(result.plan.model)
    groups = {
        "prior": builder.quantities(prior, before),
        "prior_predictive": builder.replicates(prior, before),
        "observed_data": builder.observed(),
        "constant_data": builder.constants(),
        "warmup_sample_stats": _stats(result.chains.warmup_stats),
        "warm_start": _warm_start(result, builder),
        "adaptation": _adaptation(result),
        "centring": builder.centrings(),
        "checkpoint": _checkpoint(result),
    }
    drawn = result.drawn
    if drawn is not None:
        after = _Lead(result.chains.positions.shape[:2])
        position = after.array(
            result.chains.positions.reshape(-1, len(result.names)),
            ["unconstrained"],
            {"unconstrained": list(result.names)},
        )
        groups |= {
            "posterior": builder.quantities(drawn, after),
            "posterior_predictive": builder.replicates(drawn, after),
            "log_likelihood": builder.log_likelihood(drawn, after),
            "population_predictive": builder.renewed(drawn, after),
            "sample_stats": _stats(result.chains.stats, drawn),
            "trajectories": builder.states(drawn, after, grid),
            "predictions": builder.predictions(drawn, after, grid),
            "unconstrained_posterior": {"position": position},
        }
    sets = {name: xr.Dataset(variables) for name, variables in groups.items() if variables}
    sets["prior"].attrs["failed_solves"] = int(prior.failed.sum())
    tree = xr.DataTree.from_dict({f"/{name}": data for name, data in sets.items()})
    tree.attrs.update(_attrs(result))
    return tree


def _attrs(result: Result) -> dict[str, Any]:
    """Provenance."""
    plan, chains = result.plan, result.chains
    return merge(
        system_attrs(plan.model.system),
        solve_attrs(plan.model.solve),
        sampler_attrs(plan.sampler),
        environment_attrs(),
        {
            "t0": _one_or_all(plan.model.experiment.t0),
            "seed": plan.seed,
            "adjoint_choice": plan.adjoint_choice,
            "num_chains": plan.run.num_chains,
            "num_warmup": plan.run.num_warmup,
            "num_samples": plan.run.num_samples,
            "complete": int(result.complete),
            "done": chains.done,
            "approximate": int(plan.sampler.approximate),
            "compile_seconds": result.compile_seconds,
            "start_seconds": result.start_seconds,
            "sampling_seconds": chains.seconds,
            "warmup_divergences": int(chains.warmup_stats["diverging"].sum()),
            "warmup_failed_solves": int(chains.warmup_stats["failed_solves"].sum()),
        },
    )


def _one_or_all(values: np.ndarray) -> Any:
    """A number where all are the same."""
    return float(values[0]) if (values == values[0]).all() else values


def _stats(stats: Mapping[str, np.ndarray], evaluation: Evaluation | None = None) -> Variables:
    """Statistics of every transition, and of the solve of its draw."""
    shape = stats["lp"].shape
    stats = dict(stats)
    if evaluation is not None:
        stats["solver_steps"] = evaluation.solver_steps.reshape(shape)
    coords = {"chain": np.arange(shape[0]), "draw": np.arange(shape[1])}
    return {name: xr.DataArray(x, coords, ["chain", "draw"]) for name, x in stats.items()}


def _warm_start(result: Result, builder: "_Builder") -> Variables:
    """The modes found, and what became of every climb and chain."""
    found = result.warm_start
    variables = {
        name: array.isel(chain=0, drop=True).rename(draw="mode")
        for name, array in builder.quantities(result.modes, _Lead((1, len(found.modes)))).items()
    }
    columns = {
        "mode_logdensity": ("mode", found.mode_logdensities),
        "mode_log_mass": ("mode", found.mode_log_masses),
        "climb_end": (("climb", "unconstrained"), found.ends),
        "climb_logdensity": ("climb", found.end_logdensities),
        "climb_mode": ("climb", found.end_modes),
        "climb_steps": ("climb", found.end_steps),
        "chain_mode": ("chain", found.chain_modes),
        "chain_start": (("chain", "unconstrained"), found.starts.position),
        "failed_candidates": ((), found.num_failed),
    }
    variables |= {name: xr.DataArray(x, dims=dims) for name, (dims, x) in columns.items()}
    names = {"unconstrained": list(result.names)}
    for name in ("climb_end", "chain_start"):
        variables[name] = variables[name].assign_coords(names)
    return variables


# The dimensions of what warm-up finds, after those of chain and window.
_ADAPTED = {
    "inverse_mass_matrix": ("unconstrained", "unconstrained_"),
    "metric_scale": ("unconstrained",),
    "metric_directions": ("unconstrained", "direction"),
    "metric_eigenvalues": ("direction",),
}


def _adaptation(result: Result) -> Variables:
    """What warm-up has found."""
    variables = {}
    for name, x in result.chains.learnt.items():
        dims = [] if result.plan.sampler.ensemble else ["chain"]
        dims += ["window"] if name.startswith("window_") else []
        own = _ADAPTED.get(name.removeprefix("window_"), ())
        dims += own[: x.ndim - len(dims)]
        dims += [f"{name}_{i}" for i in range(x.ndim - len(dims))]
        variables[name] = xr.DataArray(x, dims=dims)
    return variables


def _checkpoint(result: Result) -> Variables:
    """What a run needs to go on, as numbers of a byte."""
    chains = result.chains
    arrays = checkpoint_arrays(
        plan_to_bytes(result.plan), result.warm_start, chains.done, chains.state, chains.seconds
    )
    return {name: xr.DataArray(x, dims=[f"{name}_byte"]) for name, x in arrays.items()}


class _Lead:
    """The two leading dimensions of draws, chain and draw, perhaps of every k-th draw only."""

    def __init__(self, shape: tuple[int, int], step: int = 1) -> None:
        self.shape = shape
        self.step = step

    def every(self, step: int) -> "_Lead":
        """Of every few draws only."""
        return _Lead(self.shape, step)

    def array(self, flat: np.ndarray, dims: list[str], coords: Mapping[str, Any]) -> xr.DataArray:
        """Give draws, chain after chain, their dimensions."""
        draws = np.arange(0, self.shape[1], self.step)
        values = flat.reshape(self.shape[0], len(draws), *flat.shape[1:])
        lead = {"chain": np.arange(self.shape[0]), "draw": draws}
        return xr.DataArray(values, {**lead, **coords}, ["chain", "draw", *dims])


class _Builder:
    """Makes the variables of each group."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.declaration = model.system.declaration
        self.individuals = model.experiment.individuals
        self.time = {"units": model.system.time_unit} if model.system.time_unit else {}

    def quantities(self, evaluation: Evaluation, lead: _Lead) -> Variables:
        """Parameters, initial values and derived quantities."""
        variables = {}
        for name, flat in evaluation.quantities.items():
            quantity = self.model.hierarchy.quantities[name]
            array = lead.array(flat, list(quantity.dims), self.labels(quantity.dims))
            variables[name] = about(array, quantity.unit, quantity.description)
        for name, flat in evaluation.derived.items():
            component, dims = self.declaration.components[name], self.model.dims[name]
            array = lead.array(np.asarray(flat), dims, self.labels(dims))
            variables[name] = about(array, component.unit, component.description)
        return variables

    def replicates(self, evaluation: Evaluation, lead: _Lead) -> Variables:
        """Replicated data at the times of the observations."""
        lead = lead.every(evaluation.data_step)
        return {
            name: self.of(name, lead.array(flat, *self.place(name)))
            for name, flat in evaluation.replicated.items()
        }

    def renewed(self, evaluation: Evaluation, lead: _Lead) -> Variables:
        """Replicated data of other groups of the same population, in the same design."""
        lead = lead.every(evaluation.data_step)
        return {
            name: self.of(name, lead.array(flat, *self.place(name)))
            for name, flat in evaluation.renewed.items()
        }

    def log_likelihood(self, evaluation: Evaluation, lead: _Lead) -> Variables:
        """The log density of every observed value, in one variable.

        One, so that cross-validation needs no further argument. A single complete observable keeps
        its name and dimensions; otherwise all values stand along one dimension, whose coordinates
        tell which observable, individual and time each belongs to.
        """
        lead = lead.every(evaluation.data_step)
        names = list(evaluation.log_likelihood)
        if len(names) == 1 and self.model.experiment.series[names[0]].complete:
            flat, (dims, coords) = evaluation.log_likelihood[names[0]], self.place(names[0])
            kept = dims[: flat.ndim - 1]  # a joint law has one density a time
            of_values = {name: c for name, c in coords.items() if _dims_of(name, c) <= set(kept)}
            return {names[0]: lead.array(flat, kept, of_values)}
        columns, observables, times, whose = [], [], [], []
        for name, flat in evaluation.log_likelihood.items():
            series = self.model.experiment.series[name]
            joint = flat.ndim == 2 and series.present.ndim > 1
            present = series.present.all(axis=-1) if joint else series.present
            row = np.arange(len(series.times)).reshape(-1, *[1] * (present.ndim - 1))
            rows = np.broadcast_to(row, present.shape)[present]
            columns.append(flat[:, present])
            times.append(series.times[rows])
            whose.append(self.individuals.labels[series.individual[rows]])
            observables += [name] * len(rows)
        coords = {
            "observable": ("observation", np.asarray(observables, dtype=object)),
            "time": ("observation", np.concatenate(times), self.time),
        }
        if self.individuals.dim:
            coords[self.individuals.dim] = ("observation", np.concatenate(whose))
        array = lead.array(np.concatenate(columns, axis=1), ["observation"], coords)
        return {"observations": array}

    def observed(self) -> Variables:
        """The data, NaN where missing; of censored values a bound, and the upper one beside it."""
        variables = {}
        for name, series in self.model.experiment.series.items():
            dims, coords = self.place(name)
            values = np.where(series.present, series.values, np.nan)
            if series.upper is not None:
                upper = np.where(series.present, series.upper, np.nan)
                array = xr.DataArray(upper, coords, dims)
                variables[f"{name}_upper"] = self.of(name, array)
            variables[name] = self.of(name, xr.DataArray(values, coords, dims))
        return variables

    def constants(self) -> Variables:
        """Known numbers: constants, covariates, doses, inputs."""
        variables = {}
        for name, component in self.declaration.of(Constant).items():
            array = xr.DataArray(
                self.declaration.known[name], self.labels(component.dims), list(component.dims)
            )
            variables[name] = self.of(name, array)
        dim = self.individuals.dim
        for name, values in self.individuals.covariates.items():
            array = xr.DataArray(values, self.labels([dim]), [dim])
            variables[name] = self.of(name, array)
        return variables | self.doses() | self.inputs()

    def doses(self) -> Variables:
        """What was given to whom and when."""
        doses = self.model.experiment.doses
        if doses is None or not len(doses):
            return {}
        coords: dict[str, Any] = {"dose_time": ("dose", doses.time, self.time)}
        if self.individuals.dim:
            coords[f"dose_{self.individuals.dim}"] = (
                "dose",
                self.individuals.labels[doses.individual],
            )
        names = np.asarray([*_elements(self.declaration), "(none)"], dtype=object)
        columns = {
            "dose_state": names[doses.element],
            "dose_amount": doses.amount,
            "dose_rate": doses.rate,
            "dose_duration": doses.duration,
        }
        return {name: xr.DataArray(x, coords, ["dose"]) for name, x in columns.items()}

    def inputs(self) -> Variables:
        """What drove the system, as it was sampled."""
        variables = {}
        for name, samples in self.model.experiment.inputs.items():
            dim = f"{name}_sample"
            coords: dict[str, Any] = {f"{name}_time": (dim, samples.times, self.time)}
            if self.individuals.dim:
                labels = self.individuals.labels[samples.individual]
                coords[f"{name}_{self.individuals.dim}"] = (dim, labels)
            variables[name] = self.of(name, xr.DataArray(samples.values, coords, [dim]))
        return variables

    def centrings(self) -> Variables:
        """The centrings that were chosen from the data: of the location, and of the scale."""
        variables = {}
        for name, centring in self.model.centrings.items():
            dims = list(self.model.hierarchy.quantities[name].dims)
            for part in ("location", "scale"):
                weights = np.asarray(getattr(centring, f"of_{part}"))
                array = xr.DataArray(weights, self.labels(dims), dims)
                text = f"0 is non-centred, 1 is centred, for the {part} of {name}"
                variables[f"{name}_{part}"] = about(array, "", text)
        return variables

    def states(self, evaluation: Evaluation, lead: _Lead, grid: np.ndarray) -> Variables:
        """The solved states on the grid."""
        return self.on_grid(evaluation.states, lead.every(evaluation.grid_step), grid)

    def predictions(self, evaluation: Evaluation, lead: _Lead, grid: np.ndarray) -> Variables:
        """Replicated observations on the grid."""
        return self.on_grid(evaluation.predicted, lead.every(evaluation.grid_step), grid)

    def on_grid(self, draws: Mapping[str, np.ndarray], lead: _Lead, grid: np.ndarray) -> Variables:
        """Draws of quantities at the times of the grid."""
        variables = {}
        who = [self.individuals.dim] if self.individuals.dim else []
        for name, flat in draws.items():
            component = self.declaration.components[name]
            coords = {"time": ("time", grid, self.time), **self.labels([*who, *component.dims])}
            array = lead.array(flat, [*who, "time", *component.dims], coords)
            variables[name] = self.of(name, array)
        return variables

    def place(self, observable: str) -> tuple[list[str], dict[str, Any]]:
        """The dimensions of an observable after the leading ones, and their labels."""
        dim = self.model.time_dims[observable]
        component = self.declaration.components[observable]
        series = self.model.experiment.series[observable]
        coords: dict[str, Any] = {dim: (dim, series.times, self.time)}
        if self.individuals.dim:
            suffix = dim.removeprefix("observation")
            coords = {
                f"time{suffix}": (dim, series.times, self.time),
                f"{self.individuals.dim}{suffix}": (
                    dim,
                    self.individuals.labels[series.individual],
                ),
            }
        return [dim, *component.dims], {**coords, **self.labels(component.dims)}

    def labels(self, dims: Iterable[str]) -> dict[str, Any]:
        """The labels of dimensions of components and groups."""
        return {dim: self.model.coords[dim] for dim in dims}

    def of(self, name: str, array: xr.DataArray) -> xr.DataArray:
        """Add the unit and the description of a component."""
        component = self.declaration.components[name]
        return about(array, component.unit, component.description)


def about(array: xr.DataArray, unit: str, description: str) -> xr.DataArray:
    """Add unit and description as attributes, by the names of the CF conventions."""
    if unit:
        array.attrs["units"] = unit
    if description:
        array.attrs["long_name"] = description
    return array


def _dims_of(name: str, coord: Any) -> set[str]:
    """The dimensions of a coordinate, as it is given to xarray."""
    return {coord[0]} if isinstance(coord, tuple) else {name}


def _elements(declaration: Declaration) -> list[str]:
    """The name of every element of the packed state."""
    names = []
    for name, state in declaration.states.items():
        labels = itertools.product(*(declaration.coords[dim] for dim in state.dims))
        names += [f"{name}[{', '.join(map(str, x))}]" if x else name for x in labels]
    return names
