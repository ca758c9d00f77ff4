"""Simulated experiments."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import jax
import jax.numpy as jnp
import numpy as np

from odecal._data.experiment import Experiment, Series
from odecal._data.observations import Observations
from odecal._data.series import interval_starts
from odecal._data.times import check_precision
from odecal._errors import ObservationError, listed
from odecal._model.compile import as_system
from odecal._model.model import Model
from odecal._simulate.design import simulate_design
from odecal._simulate.draws import as_lists, check_solved
from odecal._simulate.values import drawn_values
from odecal._system.solve import Solve
from odecal._system.system import System

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


@overload
def simulate(
    system: System,
    times: Sequence[float] | np.ndarray,
    values: Mapping[str, Any] | None = None,
    *,
    design: None = None,
    solve: Solve | None = None,
    seed: int = 0,
) -> "xr.Dataset": ...


@overload
def simulate(
    system: System,
    times: None = None,
    values: Mapping[str, Any] | None = None,
    *,
    design: "pd.DataFrame | str | Path | Observations",
    solve: Solve | None = None,
    seed: int = 0,
) -> "pd.DataFrame": ...


def simulate(
    system: System,
    times: Sequence[float] | np.ndarray | None = None,
    values: Mapping[str, Any] | None = None,
    *,
    design: "pd.DataFrame | str | Path | Observations | None" = None,
    solve: Solve | None = None,
    seed: int = 0,
) -> "xr.Dataset | pd.DataFrame":
    """Simulate an experiment: solve, and draw every observable.

    Of a single experiment the times are enough. A design is a table as `calibrate` takes it, tidy
    or pharmacometric, that says who is measured when, who gets what dose, and what covariates and
    inputs are. In it is filled:

    - in a tidy table, a column of an observable where it has a value; one that is not there or
      blank throughout, in every row, but for those that hold nothing but samples of inputs
      (unless all rows do);
    - in a pharmacometric table, DV of every observation (EVID 0, and MDV not 1), blank or not.

    What lies beyond a limit of quantification is written as the text `<0.5` or `>100`, and in a
    pharmacometric table by DV, the limit, and CENS, 1 or −1; the limit is LLOQ of the row, where
    there is that column, or `Observable(lloq=...)`.

    Args:
        system: the system.
        times: when every observable is measured, sorted, in the system's unit of time; None with a
            design.
        values: values of parameters and initial values (`hare0`), of the locations and scales of
            varying parameters (`ka_location`, on the linked scale), of the groups themselves
            (`ka`, one for each group in the order of their first rows) and of correlations (a
            matrix). Those that are left out are drawn from their priors, given the others.
        design: a `pandas.DataFrame`, the path of a CSV file, or `Observations(...)`.
        solve: the settings of a solve; None takes the system's own.
        seed: the random seed.

    Returns:
        Without a design, the states and a draw of every observable at those times, with the values
        used as attributes: `dataset[list(system.declaration.observables)]` is a data set for
        `calibrate`. With a design, the table filled in, which is one too (doses in a table by
        themselves stay there); `table.attrs["values"]` are the values used of everything that a
        posterior reports, by name.

    Raises:
        DeclarationError: if a value has an unknown name or a wrong shape.
        ObservationError: if the times are not sorted, or any, or the beginning of an interval,
            lies before the initial time; if the system needs a design and there is none; or if the
            design does not fit the system.
        SamplingError: if the solve fails, of whom.
    """
    system = as_system(system)
    values, solve = dict(values or {}), solve or system.solve
    if design is not None:
        if times is not None:
            raise ObservationError(
                "simulate(...) takes the times from the design. Expected one of the two. Leave "
                "out times=..., or design=...."
            )
        return simulate_design(system, design, values, solve, seed)
    return _simulate_single(system, _checked_times(times, system), values, solve, seed)


def _simulate_single(
    system: System, times: np.ndarray, values: Mapping[str, Any], solve: Solve, seed: int
) -> "xr.Dataset":
    """Simulate a single experiment."""
    import xarray as xr

    declaration = system.declaration
    t0 = float(times[0]) if system.t0 is None else float(system.t0)
    series = {
        name: _empty(name, times, t0, observable, declaration.shape(name))
        for name, observable in declaration.observables.items()
    }
    experiment = Experiment(np.array([t0]), series)
    check_precision(experiment, solve.dtype)
    model = Model(system, experiment, solve)
    with model.precision():
        key_values, key_noise = jax.random.split(jax.random.key(seed))
        sites = drawn_values(model, values, key_values).sites
        prediction = model.predict(sites, extra_times=times)
        check_solved(model, prediction.trajectory.failed, values)
        index = jnp.searchsorted(prediction.trajectory.ts, jnp.asarray(times))
        arrays = {name: y[index] for name, y in prediction.trajectory.y.items()}
        arrays |= prediction.sample(key_noise)
        used = as_lists(sites)
    variables = {
        name: (["time", *declaration.components[name].dims], np.asarray(array, float))
        for name, array in arrays.items()
    }
    dims = {dim for name in arrays for dim in declaration.components[name].dims}
    coords = {"time": times, **{dim: declaration.coords[dim] for dim in dims}}
    return xr.Dataset(variables, coords, attrs=used)


def _checked_times(times: Any, system: System) -> np.ndarray:
    """Times as an array, refused where nothing can be simulated at them."""
    import pandas as pd

    if isinstance(times, (pd.DataFrame, str, Path, Observations)):
        raise ObservationError(
            "simulate(times=...) expects times in a row. Got a table or the path of one. Give it "
            "by design=...."
        )
    _check_single(system)
    if times is None:
        raise ObservationError(
            "simulate(...) expects when every observable is measured, times=..., or a table that "
            "says who is measured when, design=.... Got neither."
        )
    times = np.asarray(times, dtype=float)
    start = -np.inf if system.t0 is None else system.t0
    if times.ndim != 1 or not times.size or not np.isfinite(times).all():
        raise ObservationError(
            "simulate(times=...) expects one or more finite times in a row. "
            f"Got an array of shape {times.shape}: {times}."
        )
    if (np.diff(times) < 0).any() or times[0] < start:
        raise ObservationError(
            "simulate(times=...) expects sorted times"
            + (f" from t0 = {start:g} on" if system.t0 is not None else "")
            + f". Got {times}. Sort them, or set an earlier t0 of the system."
        )
    return times


def _check_single(system: System) -> None:
    """Refuse a system that times do not tell enough about."""
    declaration = system.declaration
    needs = {
        "parameters that vary between groups": list(declaration.varying),
        "individuals, told apart by columns": np.atleast_1d(system.individual or []).tolist(),
        "covariates": list(declaration.covariates),
        "inputs": list(declaration.inputs),
    }
    found = [f"{what} ({listed(names)})" for what, names in needs.items() if names]
    if found:
        raise ObservationError(
            f"{declaration.name} has {' and '.join(found)}, of which times say nothing. Expected a "
            "design: a table that does, as calibrate takes it, whose observables may be blank. "
            "Give it by simulate(system, design=...)."
        )


def _empty(
    name: str, times: np.ndarray, t0: float, observable: Any, shape: tuple[int, ...]
) -> Series:
    """A series to be measured: times without values."""
    blank = np.zeros((len(times), *shape))
    present = np.ones_like(blank, dtype=bool)
    start = interval_starts(name, times, t0, observable)
    return Series(times, blank, present, start, np.zeros(len(times), int))
