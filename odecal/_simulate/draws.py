"""Draws of the observables, and the refusal of those that no laboratory would report."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from odecal._errors import SamplingError, listed
from odecal._model.model import Model
from odecal._simulate.values import drawn_values

# Values of more letters are not shown in messages.
_LONG = 300


def drawn_observables(
    model: Model, values: Mapping[str, Any], seed: int
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A draw of every observable, each of shape (value, *dims), and the values used."""
    with model.precision():
        key_values, key_noise = jax.random.split(jax.random.key(seed))
        site_values = drawn_values(model, values, key_values)

        @jax.jit
        def observed(sites: dict[str, jax.Array], key: jax.Array) -> Any:
            prediction = model.predict(sites)
            return prediction.trajectory.failed, prediction.sample(key)

        failed, draws = jax.tree.map(np.asarray, observed(site_values.sites, key_noise))
        used = as_lists(model.hierarchy.reported(site_values))
    check_solved(model, failed, values)
    for name, draw in draws.items():
        wrong = ~np.isfinite(draw).reshape(len(draw), -1).all(axis=1)
        if wrong.any():
            individual = model.experiment.series[name].individual[wrong][0]
            raise SamplingError(
                f"The noise model of `{name}` gives a value that is not finite"
                f"{_of_individual(model, individual)}. Expected finite ones. Check the values "
                f"{_shown(values)}, and the priors of the others: a scale may be drawn far too "
                "large."
            )
    return draws, used


def as_lists(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by name as numbers and lists of numbers."""
    return {name: np.asarray(value, float).tolist() for name, value in values.items()}


def check_solved(model: Model, failed: Any, values: Mapping[str, Any]) -> None:
    """Refuse solves of which one failed; `values` are those that were given."""
    failed = np.atleast_1d(failed)
    if failed.any():
        more = f" and {failed.sum() - 1} more" if failed.sum() > 1 else ""
        raise SamplingError(
            f"The solve of {model.declaration.name}{_of_individual(model, failed.argmax())}"
            f"{more} failed with the values {_shown(values)}. Check them, raise max_steps, or take "
            "a solver for stiff systems (diffrax.Kvaerno5())."
        )


def _of_individual(model: Model, i: Any) -> str:
    """` for subject 3`; nothing for a single experiment."""
    individuals = model.experiment.individuals
    return f" for {individuals.dim} {individuals.labels[i]}" if individuals.dim else ""


def _shown(values: Mapping[str, Any]) -> str:
    """Given values for a message; of long ones, the names."""
    text = repr(dict(values)) if values else "(drawn)"
    return text if len(text) < _LONG else f"of {listed(values)}"
