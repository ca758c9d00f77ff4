"""What a model predicts from many draws: one program, in batches, over all devices."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from odecal._engine import spread, usable_devices
from odecal._flat import FlatModel
from odecal._model import Model

# Draws of one call of the program, and of one vectorised batch within it.
_CHUNK = 512
_BATCH = 32

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model predicts from each of n draws.

    Args:
        sites: natural values of the sites, each of shape (n, *dims).
        derived: derived quantities, likewise.
        replicated: one replicated data set a draw: each observable, of shape (n, time, *dims).
        log_likelihood: the log density of every observed value, of the same shapes.
        states: the states on the grid, each of shape (n, grid, *dims).
        predicted: a replicate of each observable on the grid, except those over intervals.
        solver_steps: the steps that the solve took, of shape (n,).
        failed: whether it failed, of shape (n,).
    """

    sites: Arrays
    derived: Arrays
    replicated: Arrays
    log_likelihood: Arrays
    states: Arrays
    predicted: Arrays
    solver_steps: np.ndarray
    failed: np.ndarray


class Evaluator:
    """The compiled program that evaluates draws of one model.

    Args:
        model: the model.
        flat: the same, flat.
        grid: the fine grid of times, of shape (grid,).
    """

    def __init__(self, model: Model, flat: FlatModel, grid: np.ndarray) -> None:
        self._devices = usable_devices(_CHUNK)

        def chunk(positions: jax.Array, keys: jax.Array) -> Evaluation:
            one = partial(_evaluate_one, model, flat, grid)
            return jax.lax.map(lambda a: one(*a), (positions, keys), batch_size=_BATCH)

        self._program = spread(chunk, self._devices, batched=2)

    def __call__(self, positions: np.ndarray, key: jax.Array) -> Evaluation:
        """Evaluate draws.

        Args:
            positions: in unconstrained space, of shape (n, dim).
            key: the random key of the replicated data.

        Returns:
            What the model predicts from each.
        """
        total = len(positions)
        padded = np.resize(np.arange(total), -(-total // _CHUNK) * _CHUNK)
        keys = jax.random.split(key, len(padded))
        chunks = [
            jax.tree.map(
                np.asarray,
                self._program(jnp.asarray(positions[padded[i : i + _CHUNK]]), keys[i : i + _CHUNK]),
            )
            for i in range(0, len(padded), _CHUNK)
        ]
        fields = jax.tree.map(lambda *parts: np.concatenate(parts)[:total], *chunks)
        failed = fields["failed"]
        for name in ("replicated", "states", "predicted"):
            fields[name] = {key: _missing(x, failed) for key, x in fields[name].items()}
        return Evaluation(**fields)


def _missing(draws: np.ndarray, failed: np.ndarray) -> np.ndarray:
    """Draws, not a number where the solve failed."""
    if not failed.any():
        return draws
    draws = draws.astype(np.promote_types(draws.dtype, np.float32))
    draws[failed] = np.nan
    return draws


def _evaluate_one(
    model: Model, flat: FlatModel, grid: np.ndarray, position: jax.Array, key: jax.Array
) -> dict[str, Any]:
    """Everything about one draw, from a single solve."""
    values = model.constrain(flat.unravel(position))
    prediction = model.predict(values, extra_times=grid)
    trajectory = prediction.trajectory
    index = np.searchsorted(np.union1d(model.experiment.ts, grid), grid)
    instant = {
        name: model.law(name, prediction.p, trajectory, index)
        for name, observable in model.system.declaration.observables.items()
        if not observable.over_interval
    }
    keys = jax.random.split(key, 2 * len(prediction.laws))
    replicated = {n: law.sample(k) for k, (n, law) in zip(keys, prediction.laws.items())}  # noqa: B905
    predicted = {
        n: law.sample(k)
        for k, (n, law) in zip(keys[len(replicated) :], instant.items())  # noqa: B905
    }
    return {
        "sites": values,
        "derived": prediction.derived,
        "replicated": replicated,
        "log_likelihood": model.log_likelihood(prediction),
        "states": {name: y[index] for name, y in trajectory.y.items()},
        "predicted": predicted,
        "solver_steps": trajectory.num_steps,
        "failed": trajectory.failed,
    }
