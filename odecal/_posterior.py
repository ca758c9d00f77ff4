"""Draws into a DataTree: dimensions, coordinates, units, provenance."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from odecal._checkpoint import checkpoint_arrays
from odecal._components import Constant
from odecal._evaluate import Evaluation
from odecal._model import Model
from odecal._pipeline import Result
from odecal._provenance import environment_attrs, merge, sampler_attrs, solve_attrs, system_attrs
from odecal._record import plan_to_bytes

# The most draws of which trajectories on the grid are kept.
_MAX_TRAJECTORIES = 1000

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
        "checkpoint": _checkpoint(result),
    }
    drawn = result.drawn
    if drawn is not None:
        after = _Lead(result.chains.positions.shape[:2])
        thin = after.thinned(_MAX_TRAJECTORIES)
        position = after.array(
            result.chains.positions.reshape(-1, len(result.names)),
            ["unconstrained"],
            {"unconstrained": list(result.names)},
        )
        groups |= {
            "posterior": builder.quantities(drawn, after),
            "posterior_predictive": builder.replicates(drawn, after),
            "log_likelihood": builder.log_likelihood(drawn, after),
            "sample_stats": _stats(result.chains.stats, drawn),
            "trajectories": builder.states(drawn, thin, grid),
            "predictions": builder.predictions(drawn, thin, grid),
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
            "t0": plan.model.experiment.t0,
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

    def thinned(self, most: int) -> "_Lead":
        """Keep at most so many draws, evenly."""
        return _Lead(self.shape, max(1, -(-self.shape[0] * self.shape[1] // most)))

    def array(self, flat: np.ndarray, dims: list[str], coords: Mapping[str, Any]) -> xr.DataArray:
        """Give draws, chain after chain, their dimensions."""
        values = flat.reshape(*self.shape, *flat.shape[1:])[:, :: self.step]
        lead = {
            "chain": np.arange(self.shape[0]),
            "draw": np.arange(0, self.shape[1], self.step),
        }
        return xr.DataArray(values, {**lead, **coords}, ["chain", "draw", *dims])


class _Builder:
    """Makes the variables of each group."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.declaration = model.system.declaration
        self.time = {"units": model.system.time_unit} if model.system.time_unit else {}

    def quantities(self, evaluation: Evaluation, lead: _Lead) -> Variables:
        """Parameters, initial values and derived quantities."""
        variables = {}
        parts = {name: site.component for name, site in self.declaration.sites.items()}
        parts |= self.declaration.derived
        for name, flat in {**evaluation.sites, **evaluation.derived}.items():
            array = lead.array(np.asarray(flat), list(parts[name].dims), self.labels(parts[name]))
            variables[name] = self.about(array, parts[name])
        return variables

    def replicates(self, evaluation: Evaluation, lead: _Lead) -> Variables:
        """Replicated data at the times of the observations."""
        return {
            name: self.about(lead.array(flat, *self.place(name)), self.declaration.components[name])
            for name, flat in evaluation.replicated.items()
        }

    def log_likelihood(self, evaluation: Evaluation, lead: _Lead) -> Variables:
        """The log density of every observed value, in one variable.

        One, so that cross-validation needs no further argument. A single complete observable keeps
        its name and dimensions; otherwise all values stand along one dimension, whose coordinates
        tell which observable and time each belongs to.
        """
        names = list(evaluation.log_likelihood)
        if len(names) == 1 and self.model.experiment.series[names[0]].complete:
            flat, (dims, coords) = evaluation.log_likelihood[names[0]], self.place(names[0])
            kept = dims[: flat.ndim - 1]  # a joint law has one density a time
            return {names[0]: lead.array(flat, kept, {dim: coords[dim] for dim in kept})}
        columns, observables, times = [], [], []
        for name, flat in evaluation.log_likelihood.items():
            series = self.model.experiment.series[name]
            joint = flat.ndim == 2 and series.present.ndim > 1
            present = series.present.all(axis=-1) if joint else series.present
            when = np.broadcast_to(
                series.times.reshape(-1, *[1] * (present.ndim - 1)), present.shape
            )
            columns.append(flat[:, present])
            times.append(when[present])
            observables += [name] * int(present.sum())
        coords = {
            "observable": ("observation", np.asarray(observables, dtype=object)),
            "time": ("observation", np.concatenate(times), self.time),
        }
        array = lead.array(np.concatenate(columns, axis=1), ["observation"], coords)
        return {"observations": array}

    def observed(self) -> Variables:
        """The data, NaN where missing."""
        variables = {}
        for name, series in self.model.experiment.series.items():
            dims, coords = self.place(name)
            values = np.where(series.present, series.values, np.nan)
            array = xr.DataArray(values, coords, dims)
            variables[name] = self.about(array, self.declaration.components[name])
        return variables

    def constants(self) -> Variables:
        """Known numbers."""
        variables = {}
        for name, component in self.declaration.of(Constant).items():
            array = xr.DataArray(
                self.declaration.known[name], self.labels(component), list(component.dims)
            )
            variables[name] = self.about(array, component)
        return variables

    def states(self, evaluation: Evaluation, lead: _Lead, grid: np.ndarray) -> Variables:
        """The solved states on the grid."""
        return self.on_grid(evaluation.states, lead, grid)

    def predictions(self, evaluation: Evaluation, lead: _Lead, grid: np.ndarray) -> Variables:
        """Replicated observations on the grid."""
        return self.on_grid(evaluation.predicted, lead, grid)

    def on_grid(self, draws: Mapping[str, np.ndarray], lead: _Lead, grid: np.ndarray) -> Variables:
        """Draws of quantities at the times of the grid."""
        variables = {}
        for name, flat in draws.items():
            component = self.declaration.components[name]
            coords = {"time": ("time", grid, self.time), **self.labels(component)}
            array = lead.array(flat, ["time", *component.dims], coords)
            variables[name] = self.about(array, component)
        return variables

    def place(self, observable: str) -> tuple[list[str], dict[str, Any]]:
        """The dimensions of an observable after the leading ones, and their labels."""
        dim = self.model.time_dims[observable]
        component = self.declaration.components[observable]
        times = (dim, self.model.experiment.series[observable].times, self.time)
        return [dim, *component.dims], {dim: times, **self.labels(component)}

    def labels(self, component: Any) -> dict[str, Any]:
        """The labels of a component's own dimensions."""
        return {dim: self.declaration.coords[dim] for dim in component.dims}

    def about(self, array: xr.DataArray, component: Any) -> xr.DataArray:
        """Add unit and description as attributes, by the names of the CF conventions."""
        if component.unit:
            array.attrs["units"] = component.unit
        if component.description:
            array.attrs["long_name"] = component.description
        return array
