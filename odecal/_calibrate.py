"""The pipeline: from a system and a table to a posterior."""

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from odecal._compile import as_system, compile  # noqa: A004
from odecal._errors import DeclarationError, ObservationError, SettingsError
from odecal._provenance import environment_attrs, merge, sampler_attrs, solve_attrs, system_attrs
from odecal._settings import Solve
from odecal.samplers import NUTS, AbstractSampler

if TYPE_CHECKING:
    import xarray as xr

    from odecal._model import Model
    from odecal._progress import Progress
    from odecal._system import System

_NUM_PRIOR = 1000
_GRID = 200


def calibrate(
    system: "System",
    observations: Any = None,
    *,
    sampler: AbstractSampler | None = None,
    solve: Solve | None = None,
    num_chains: int = 4,
    num_warmup: int = 1000,
    num_samples: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> "xr.DataTree":
    """Calibrate a system to observations: draw from the posterior of its parameters.

    Args:
        system: the system, an instance of a `System` subclass.
        observations: a `pandas.DataFrame`, an `xarray.Dataset`, the path of a CSV file, or
            `Observations(...)`; None takes the table that comes with the system.
        sampler: the sampler; None takes `odecal.samplers.NUTS()`.
        solve: the settings of a solve; None takes the system's own.
        num_chains: the number of chains.
        num_warmup: transitions of warm-up of each chain.
        num_samples: draws of each chain.
        seed: the random seed: the same seed on the same machine gives the same draws.
        progress: whether progress is shown.

    Returns:
        A tree with the groups `posterior`, `sample_stats`, `posterior_predictive`,
        `log_likelihood`, `observed_data`, `constant_data`, `prior` and `prior_predictive`, as ArviZ
        names them, and `trajectories` (the states) and `predictions` (the observables) on a fine
        grid of times. Units are attributes; provenance is in the attributes of the root.

    Raises:
        DeclarationError: if the system is none, or has no unknown.
        ObservationError: if the table does not fit the system.
        SettingsError: if a setting cannot work.
        SamplingError: if no draw from the prior has a finite log density.
    """
    from odecal._progress import Progress, shown_progress

    began = time.perf_counter()
    system = as_system(system)
    sampler = NUTS() if sampler is None else sampler
    _check_run(sampler, num_chains, num_warmup, num_samples, seed)
    model = compile(system, shipped(system) if observations is None else observations, solve)
    if not system.declaration.sites:
        raise DeclarationError(
            f"{system.declaration.name} has nothing to calibrate: every parameter and initial "
            "value is fixed. Expected at least one prior. To solve it, use odecal.simulate."
        )
    with ExitStack() as stack:
        stack.enter_context(model.precision())
        shown = stack.enter_context(shown_progress() if progress else Progress())
        tree = _run(model, sampler, num_chains, num_warmup, num_samples, seed, shown)
    tree.attrs["wall_time_seconds"] = time.perf_counter() - began
    return tree


def shipped(system: "System") -> Any:
    """The table that comes with a system.

    Raises:
        ObservationError: if none does.
    """
    if system.data is None:
        raise ObservationError(
            f"{system.declaration.name} comes with no observations. Expected a table: a "
            "pandas.DataFrame, an xarray.Dataset or the path of a CSV file (--data on the command "
            "line), or a class attribute `data` with a path."
        )
    return system.data


def _run(
    model: "Model",
    sampler: AbstractSampler,
    num_chains: int,
    num_warmup: int,
    num_samples: int,
    seed: int,
    progress: "Progress",
) -> "xr.DataTree":
    """Start, sample, evaluate, and put together."""
    from odecal._engine import run_chains
    from odecal._evaluate import Evaluator
    from odecal._flat import flatten
    from odecal._posterior import build_tree
    from odecal._start import disperse

    keys = jax.random.split(jax.random.key(seed), 5)
    progress.say("Tracing the model")
    flat = flatten(model)
    progress.say("Looking for the best mode")
    starts = disperse(flat, keys[0], num_chains)
    chains = run_chains(
        flat.logdensity_fn,
        sampler,
        starts.positions,
        keys[1],
        num_warmup=num_warmup,
        num_samples=num_samples,
        progress=progress,
    )
    progress.say("Predicting from the draws")
    grid = time_grid(model)
    evaluate = Evaluator(model, flat, grid)
    posterior = evaluate(chains.positions.reshape(-1, flat.dim), keys[2])
    prior_positions = jax.jit(jax.vmap(flat.init_position))(jax.random.split(keys[3], _NUM_PRIOR))
    prior = evaluate(np.asarray(prior_positions), keys[4])
    attrs = merge(
        system_attrs(model.system),
        solve_attrs(model.solve),
        sampler_attrs(sampler),
        environment_attrs(),
        {
            "t0": model.experiment.t0,
            "seed": seed,
            "num_warmup": num_warmup,
            "sampling_seconds": chains.seconds,
            "warmup_divergences": int(chains.warmup_stats["diverging"].sum()),
            "warmup_failed_solves": int(chains.warmup_stats["failed_solves"].sum()),
            "start_logdensities": starts.logdensities,
            "start_failed": starts.num_failed,
        },
    )
    return build_tree(model, chains, posterior, prior, grid, attrs)


def time_grid(model: "Model") -> np.ndarray:
    """A fine grid of times from the initial time to the last observation.

    Half of it is even in time; the other half is even between each time of observation and the
    next, so that observations spaced by powers of ten are followed as closely at either end.
    """
    experiment = model.experiment
    knots = np.union1d(experiment.t0, experiment.ts)
    even = np.linspace(knots[0], knots[-1], _GRID // 2)
    between = np.interp(np.linspace(0, len(knots) - 1, _GRID // 2), np.arange(len(knots)), knots)
    return np.union1d(even, between)


def _check_run(sampler: Any, num_chains: int, num_warmup: int, num_samples: int, seed: int) -> None:
    if not isinstance(sampler, AbstractSampler):
        raise SettingsError(
            "calibrate(sampler=...) expects a sampler object, such as odecal.samplers.NUTS(). "
            f"Got {sampler!r}."
        )
    least = {"num_chains": (num_chains, 1), "num_warmup": (num_warmup, 0)}
    least |= {"num_samples": (num_samples, 1), "seed": (seed, 0)}
    if isinstance(seed, (int, np.integer)) and seed >= 2**32:
        raise SettingsError(f"calibrate(seed=...) expects a number below 2**32. Got {seed}.")
    for name, (value, low) in least.items():
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < low:
            raise SettingsError(
                f"calibrate({name}=...) expects a whole number of at least {low}. Got {value!r}."
            )
