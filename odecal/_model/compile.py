"""From a system and a table to a model, with the checks that need both."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions import constraints

from odecal._data.experiment import Series
from odecal._data.observations import read_experiment
from odecal._data.times import check_precision
from odecal._errors import DeclarationError, ObservationError, SettingsError
from odecal._model.model import Model
from odecal._system.solve import Solve
from odecal._system.system import System
from odecal.adjoints import ExplicitForward

# Supports that depend on parameters are tried at this many prior draws.
_NUM_DRAWS = 16


def compile(system: System, observations: Any, solve: Solve | None = None) -> Model:  # noqa: A001
    """Compile a system and its observations into a NumPyro model.

    Args:
        system: the system, an instance of a `System` subclass.
        observations: a `pandas.DataFrame`, an `xarray.Dataset`, the path of a CSV file, or
            `Observations(...)`, which says more about one of these.
        solve: the settings of a solve; None takes the system's own.

    Returns:
        The model: callable by NumPyro, with `logdensity_fn` on unconstrained space.

    Raises:
        ObservationError: if the table does not fit the system, or holds values that a noise model
            excludes.
        DeclarationError: if `system` is not one.
        SettingsError: if `solve` is not one, cannot follow the events of the system, or computes
            in a precision that cannot tell the times apart.
    """
    system = as_system(system)
    if solve is not None and not isinstance(solve, Solve):
        raise SettingsError(
            f"compile(solve=...) expects odecal.Solve(...), such as odecal.Solve(rtol=1e-8). "
            f"Got {solve!r}."
        )
    experiment = read_experiment(observations, system.declaration)
    model = Model(system, experiment, solve or system.solve)
    _check_events(model)
    _check_steps(model)
    check_precision(model.experiment, model.solve.dtype)
    model.hierarchy.check()
    with model.precision():
        for name, series in model.experiment.series.items():
            _check_values(model, name, series)
    return model


def _check_events(model: Model) -> None:
    """Refuse a solve that cannot follow the events of the system."""
    strategy = model.solve.strategy
    if model.declaration.events and not isinstance(strategy, ExplicitForward):
        raise SettingsError(
            f"The events of {model.declaration.name} cannot be followed by "
            f"{type(model.solve.solver).__name__} and {type(strategy).__name__}. Expected "
            "odecal.adjoints.ExplicitForward() with diffrax.Tsit5, Dopri5, Dopri8 or Bosh3. Take "
            "odecal.Solve(solver=diffrax.Tsit5())."
        )


def _check_steps(model: Model) -> None:
    """Refuse fewer steps than an input has turns, at each of which one must end."""
    most = model.solve.max_steps
    if most is None or not model.declaration.inputs:
        return
    limits = model.forward.forcing_data.limits
    if limits is None:
        return
    experiment = model.experiment
    start, end = experiment.t0[:, None], experiment.save_times.ts[:, -1:]
    turns = int(((limits > start) & (limits < end)).sum(axis=1).max())
    if turns >= most:
        raise SettingsError(
            f"Solve(max_steps={most}) cannot be enough: the inputs of "
            f"{model.declaration.name} turn {turns} times, and a step must end at "
            "each. Expected more steps than that. Take Solve(max_steps=None), which counts "
            "them in, or sample the inputs less often."
        )


def as_system(system: Any) -> System:
    """Take a system, or a class of one, or say what was expected."""
    if isinstance(system, type) and issubclass(system, System):
        return system()
    if not isinstance(system, System):
        raise DeclarationError(
            f"A system is expected, such as LotkaVolterra(). Got {system!r} "
            f"({type(system).__name__})."
        )
    return system


def _check_values(model: Model, name: str, series: Series) -> None:
    """Refuse values outside the support of the noise model, and gaps that it cannot mask."""
    inside, noise, support, joint = _support(model, name, series)
    if joint and not series.complete:
        raise ObservationError(
            f"The observable `{name}` has a joint distribution ({noise}) and rows in which only "
            "some elements are missing. Expected rows that are complete or missing altogether. "
            "Drop those rows."
        )
    outside = series.present & ~inside if inside.shape == series.present.shape else ~inside
    rows = np.flatnonzero(outside.reshape(len(outside), -1).any(axis=1))
    if rows.size:
        row = int(rows[0])
        value = series.values[row]
        raise ObservationError(
            f"The column `{name}` holds {value!s} at time {series.times[row]:g}. Expected "
            f"{_wording(support)}, since its noise model is {noise}. "
            f"{rows.size} of {len(outside)} rows are like that. Correct them, make them missing "
            "(NaN), or take another noise model."
        )


def _support(model: Model, name: str, series: Series) -> tuple[np.ndarray, str, Any, bool]:
    """Which values lie in the support; the noise model's name, support, and whether it is joint."""
    traced: dict[str, Any] = {}

    def at_start(values: Any) -> Any:
        one = model.distribution_at_start(name, values)
        traced["noise"] = type(one).__name__
        traced["joint"] = bool(one.event_shape)
        return one.support

    jax.eval_shape(lambda values: traced.update(support=at_start(values)), model.site_shapes)
    support, values = traced["support"], _known(series)
    dependent = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(support))
    if not dependent:
        return np.asarray(support(values)), traced["noise"], support, traced["joint"]

    @jax.jit
    @jax.vmap
    def inside(key: jax.Array) -> jax.Array:
        return at_start(model.sample_prior(key))(jnp.asarray(values, model.dtype))

    tried = np.asarray(inside(jax.random.split(jax.random.key(0), _NUM_DRAWS)))
    return tried.any(axis=0), traced["noise"], type(support).__name__, traced["joint"]


def _known(series: Series) -> np.ndarray:
    """The values, and of censored ones a bound that they are known by."""
    if series.upper is None:
        return series.values
    return np.where(np.isfinite(series.upper), series.upper, series.values)


def _wording(support: Any) -> str:
    """A support in words."""
    words = [
        (constraints.positive, "a positive number"),
        (constraints.nonnegative_integer, "a whole number of at least 0"),
        (constraints.positive_integer, "a whole number of at least 1"),
        (constraints.nonnegative, "a number of at least 0"),
        (constraints.unit_interval, "a number between 0 and 1"),
        (constraints.boolean, "0 or 1"),
        (constraints.simplex, "proportions that sum to 1"),
    ]
    for known, word in words:
        if type(support) is type(known) and support == known:
            return word
    return f"a value within {support}"
