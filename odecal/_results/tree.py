"""Draws into a DataTree: dimensions, coordinates, units, provenance."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from odecal._results.variables import DrawDims, VariableBuilder, Variables
from odecal._run.checkpoint import checkpoint_arrays
from odecal._run.provenance import (
    environment_attrs,
    merge,
    sampler_attrs,
    solve_attrs,
    system_attrs,
)
from odecal._run.records import Result


def build_tree(result: Result) -> xr.DataTree:
    """Everything about a calibration: the groups of ArviZ, and more; see `odecal.calibrate`."""
    prior, drawn, model = result.prior, result.posterior, result.plan.model
    builder = VariableBuilder(model)
    draws = DrawDims((1, len(prior.failed)))
    groups = {
        "prior": builder.quantities(prior, draws),
        "prior_predictive": builder.at_data(prior.replicated, draws.every(prior.data_step)),
        "observed_data": builder.observed(),
        "constant_data": builder.constants() | builder.doses() | builder.inputs(),
        "warmup_sample_stats": _stats(result.chains.warmup_stats),
        "warm_start": _warm_start(result, builder),
        "adaptation": _adaptation(result),
        "centring": builder.centrings(),
        "checkpoint": {
            name: xr.DataArray(x, dims=[f"{name}_byte"])
            for name, x in checkpoint_arrays(result).items()
        },
    }
    if drawn is not None:
        draws = DrawDims(result.chains.positions.shape[:2])
        replicates, trajectories = draws.every(drawn.data_step), draws.every(drawn.grid_step)
        names = {"unconstrained": list(result.names)}
        flat = result.chains.positions.reshape(-1, len(result.names))
        groups |= {
            "posterior": builder.quantities(drawn, draws),
            "posterior_predictive": builder.at_data(drawn.replicated, replicates),
            "log_likelihood": builder.log_likelihood(drawn.log_likelihood, replicates),
            "population_predictive": builder.at_data(drawn.renewed, replicates),
            "sample_stats": _stats(
                {**result.chains.stats, "solver_steps": drawn.solver_steps.reshape(draws.shape)}
            ),
            "trajectories": builder.on_grid(drawn.states, trajectories, result.grid),
            "predictions": builder.on_grid(drawn.predicted, trajectories, result.grid),
            "unconstrained_posterior": {"position": draws.array(flat, ["unconstrained"], names)},
        }
    sets = {name: xr.Dataset(variables) for name, variables in groups.items() if variables}
    sets["prior"].attrs["failed_solves"] = int(prior.failed.sum())
    tree = xr.DataTree.from_dict({f"/{name}": data for name, data in sets.items()})
    tree.attrs.update(_attrs(result))
    return tree


def _attrs(result: Result) -> dict[str, Any]:
    """Provenance."""
    plan, chains, t0 = result.plan, result.chains, result.plan.model.experiment.t0
    return merge(
        system_attrs(plan.model.system),
        solve_attrs(plan.model.solve),
        sampler_attrs(plan.sampler),
        environment_attrs(),
        {
            "t0": float(t0[0]) if (t0 == t0[0]).all() else t0,
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
        },
        {
            f"warmup_{name}": int(chains.warmup_stats[stat].sum())
            for name, stat in (("divergences", "diverging"), ("failed_solves", "failed_solves"))
            if stat in chains.warmup_stats
        },
    )


def _stats(stats: Mapping[str, np.ndarray]) -> Variables:
    """Statistics of every transition."""
    chains, draws = map(np.arange, stats["lp"].shape)
    coords = {"chain": chains, "draw": draws}
    return {name: xr.DataArray(x, coords, ["chain", "draw"]) for name, x in stats.items()}


def _warm_start(result: Result, builder: VariableBuilder) -> Variables:
    """The modes found, and what became of every climb and chain."""
    found = result.warm_start
    modes = builder.quantities(result.modes, DrawDims((1, len(found.modes))))
    variables = {
        name: array.isel(chain=0, drop=True).rename(draw="mode") for name, array in modes.items()
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
    for name, x in result.chains.adaptation.items():
        dims = [] if result.plan.sampler.ensemble else ["chain"]
        dims += ["window"] if name.startswith("window_") else []
        own = _ADAPTED.get(name.removeprefix("window_"), ())
        dims += own[: x.ndim - len(dims)]
        dims += [f"{name}_{i}" for i in range(x.ndim - len(dims))]
        variables[name] = xr.DataArray(x, dims=dims)
    return variables
