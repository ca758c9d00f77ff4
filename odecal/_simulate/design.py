"""Simulated tables: who is measured when is given, and what is measured is drawn."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from odecal._data.columns import ColumnRoles, column_roles
from odecal._data.frame import read_frame
from odecal._data.nonmem import is_nonmem
from odecal._data.numbers import numbers
from odecal._data.observations import Observations, read_experiment
from odecal._data.times import check_precision
from odecal._errors import ObservationError, SamplingError, listed
from odecal._model.model import Model
from odecal._simulate.cells import fill_nonmem, fill_tidy
from odecal._simulate.values import drawn_values
from odecal._system.solve import Solve

if TYPE_CHECKING:
    import pandas as pd

    from odecal._system.system import System

# What stands where a value will be drawn, until it is. No row is refused for it.
_ANY = 1.0
# Values of more letters are not told in messages.
_LONG = 300


def simulate_design(
    system: "System", design: Any, values: Mapping[str, Any], solve: Solve, seed: int
) -> "pd.DataFrame":
    """A design, in which the observables are drawn.

    Args:
        system: the system.
        design: `Observations`, or what it takes as data but datasets.
        values: of sites, groups and correlations, by name; the others are drawn.
        solve: the settings of the solves.
        seed: the random seed.

    Returns:
        The table, whose `attrs["values"]` are the values of everything that a posterior reports.

    Raises:
        DeclarationError: if a value cannot be.
        ObservationError: if the design does not fit the system.
        SamplingError: if a solve fails, or gives a noise that is not finite.
    """
    source = design if isinstance(design, Observations) else Observations(design)
    declaration = system.declaration
    layout = column_roles(declaration, source.time, source.ignore)
    table = _with_dv(read_frame(source.data, "Designs"), layout)
    nonmem = is_nonmem(table, layout)
    marked = _marked_nonmem(table, layout) if nonmem else _marked(table, layout)
    experiment = read_experiment(replace(source, data=marked), declaration)
    check_precision(experiment, solve.dtype)
    model = Model(system, experiment, solve)
    draws, used = _drawn(model, values, seed)
    fill = fill_nonmem if nonmem else fill_tidy
    filled = _with_numbers(fill(table, layout, experiment.series, draws), layout)
    filled.attrs = {"values": used}
    return filled


def _with_dv(table: "pd.DataFrame", layout: ColumnRoles) -> "pd.DataFrame":
    """The table, with DV if all that it lacks of a pharmacometric one is that."""
    names = {name.upper(): name for name in table.columns if name not in layout.ignore}
    if "EVID" not in names or "DV" in names or names["EVID"] in layout.columns:
        return table
    return table.assign(DV=np.nan)


def _with_numbers(table: "pd.DataFrame", layout: ColumnRoles) -> "pd.DataFrame":
    """The table, in which text of numbers alone is numbers, but in labels."""
    found = {}
    for name in table.columns:
        if table[name].dtype.kind == "O" and name not in layout.labels and name.upper() != "ID":
            try:
                found[name] = numbers(table[name], name)
            except ObservationError:
                continue
    return table.assign(**found)


def _marked_nonmem(table: "pd.DataFrame", layout: ColumnRoles) -> "pd.DataFrame":
    """The table with a value in every row, of which the reader takes those of observations."""
    roles = {name.upper(): name for name in table.columns if name not in layout.ignore}
    blank = {"DV": _ANY, "CENS": 0, "LIMIT": np.nan}
    return table.assign(**{roles[role]: x for role, x in blank.items() if role in roles})


def _marked(table: "pd.DataFrame", layout: ColumnRoles) -> "pd.DataFrame":
    """The table with a value wherever one will be drawn."""
    columns = [column for columns in layout.observables.values() for column in columns]
    given = {c: table[c].notna().to_numpy() for c in columns if c in table}
    inputs = [column for column in layout.inputs.values() if column in table]
    sampled = table[inputs].notna().any(axis=1).to_numpy()
    alone = sampled & ~np.any([*given.values(), np.zeros(len(table), bool)], axis=0)
    if alone.all():  # then the times of the inputs are all that there are
        alone = np.zeros(len(table), bool)
    marks = {c: given[c] if c in given and given[c].any() else ~alone for c in columns}
    return table.assign(**{c: np.where(mark, _ANY, np.nan) for c, mark in marks.items()})


def _drawn(
    model: Model, values: Mapping[str, Any], seed: int
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A draw of every observable, each of shape (n, *dims), and the values used."""
    with model.precision():
        key_values, key_noise = jax.random.split(jax.random.key(seed))
        site_values = drawn_values(model, values, key_values)

        @jax.jit
        def observed(sites: dict[str, jax.Array], key: jax.Array) -> Any:
            prediction = model.predict(sites)
            return prediction.trajectory.failed, prediction.sample(key)

        failed, draws = jax.tree.map(np.asarray, observed(site_values.sites, key_noise))
        reported = model.hierarchy.reported(site_values)
        used = {name: np.asarray(value, float).tolist() for name, value in reported.items()}
    _check_solved(model, np.atleast_1d(failed), values)
    for name, draw in draws.items():
        wrong = ~np.isfinite(draw).reshape(len(draw), -1).all(axis=1)
        if wrong.any():
            who = model.experiment.series[name].individual[wrong][0]
            raise SamplingError(
                f"The noise model of `{name}` gives a value that is not finite{_for(model, who)}. "
                f"Expected finite ones. Check the values {_shown(values)}, and the priors of the "
                "others: a scale may be drawn far too large."
            )
    return draws, used


def _check_solved(model: Model, failed: np.ndarray, values: Mapping[str, Any]) -> None:
    if failed.any():
        more = f" and {failed.sum() - 1} more" if failed.sum() > 1 else ""
        raise SamplingError(
            f"The solve of {model.system.declaration.name}{_for(model, failed.argmax())}{more} "
            f"failed with the values {_shown(values)}. Check them, raise max_steps, or take a "
            "solver for stiff systems (diffrax.Kvaerno5())."
        )


def _for(model: Model, i: Any) -> str:
    """` for subject 3`; nothing for a single experiment."""
    individuals = model.experiment.individuals
    return f" for {individuals.dim} {individuals.labels[i]}" if individuals.dim else ""


def _shown(values: Mapping[str, Any]) -> str:
    """Given values for a message: of many groups no more than the names."""
    text = repr(dict(values)) if values else "(drawn)"
    return text if len(text) < _LONG else f"of {listed(values)}"
