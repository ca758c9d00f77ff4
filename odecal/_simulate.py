"""Simulated experiments."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from odecal._compile import as_system
from odecal._components import _is_number
from odecal._declaration import Declaration
from odecal._errors import (
    DeclarationError,
    ObservationError,
    SamplingError,
    listed,
    suggestion,
)
from odecal._model import Model
from odecal._observations import Experiment, Series, interval_starts
from odecal._settings import Solve

if TYPE_CHECKING:
    import xarray as xr

    from odecal._system import System


def simulate(
    system: "System",
    times: Sequence[float] | np.ndarray,
    values: Mapping[str, Any] | None = None,
    *,
    solve: Solve | None = None,
    seed: int = 0,
) -> "xr.Dataset":
    """Simulate an experiment: solve once and draw every observable.

    Args:
        system: the system.
        times: when every observable is measured, sorted, in the system's unit of time.
        values: values of parameters and initial values (`hare0`); those that are left out are
            drawn from their priors.
        solve: the settings of a solve; None takes the system's own.
        seed: the random seed.

    Returns:
        The states and a draw of every observable at those times, with the values used as
        attributes. `dataset[list(system.declaration.observables)]` is a data set for `calibrate`.

    Raises:
        DeclarationError: if a value has an unknown name.
        ObservationError: if the times are not sorted, or any, or the beginning of an interval,
            lies before the initial time.
        SamplingError: if the solve fails.
    """
    import xarray as xr

    values = dict(values or {})
    system = as_system(system)
    declaration = system.declaration
    unknown = [name for name in values if name not in declaration.sites]
    if unknown:
        raise DeclarationError(
            f"simulate(values=...) names `{unknown[0]}`, which {declaration.name} does not sample. "
            f"Expected some of: {listed(declaration.sites)}."
            + suggestion(unknown[0], declaration.sites)
        )
    times = np.asarray(times, dtype=float)
    _check_times(times, system)
    t0 = float(times[0]) if system.t0 is None else float(system.t0)
    series = {
        name: _empty(name, times, t0, observable, declaration.shape(name))
        for name, observable in declaration.observables.items()
    }
    model = Model(system, Experiment(t0, series), solve or system.solve)
    with model.precision():
        key_prior, key_noise = jax.random.split(jax.random.key(seed))
        sites = {**model.sample_prior(key_prior), **_as_arrays(declaration, values)}
        prediction = model.predict(sites, extra_times=times)
        if prediction.trajectory.failed:
            raise SamplingError(
                f"The solve of {declaration.name} failed with the values {values or '(drawn)'}. "
                "Check them, raise max_steps, or take a solver for stiff systems "
                "(diffrax.Kvaerno5())."
            )
        index = jnp.searchsorted(prediction.trajectory.ts, jnp.asarray(times))
        arrays = {name: y[index] for name, y in prediction.trajectory.y.items()}
        keys = jax.random.split(key_noise, max(1, len(prediction.laws)))
        for key, (name, law) in zip(keys, prediction.laws.items(), strict=False):
            arrays[name] = law.sample(key)
        used = {name: np.asarray(value, float).tolist() for name, value in sites.items()}
    variables = {
        name: (["time", *declaration.components[name].dims], np.asarray(array, float))
        for name, array in arrays.items()
    }
    dims = {dim for name in arrays for dim in declaration.components[name].dims}
    coords = {"time": times, **{dim: declaration.coords[dim] for dim in dims}}
    return xr.Dataset(variables, coords, attrs=used)


def _check_times(times: np.ndarray, system: "System") -> None:
    """Refuse times at which nothing can be simulated."""
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


def _as_arrays(declaration: Declaration, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Given values of sites, refused where they are no numbers of the right shape."""
    arrays = {}
    for name, value in values.items():
        shape = declaration.sites[name].shape
        if not _is_number(value) or np.shape(value) not in ((), shape):
            raise DeclarationError(
                f"simulate(values=...) gives {value!r} for `{name}` of {declaration.name}. "
                f"Expected a number, or an array of the shape {shape}."
            )
        arrays[name] = np.broadcast_to(np.asarray(value, float), shape)
    return arrays


def _empty(
    name: str, times: np.ndarray, t0: float, observable: Any, shape: tuple[int, ...]
) -> Series:
    """A series to be measured: times without values."""
    blank = np.zeros((len(times), *shape))
    present = np.ones_like(blank, dtype=bool)
    return Series(times, blank, present, interval_starts(name, times, t0, observable))
