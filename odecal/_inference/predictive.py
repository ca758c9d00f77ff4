"""What a model predicts from many draws: one program, in batches, over all devices."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from odecal._data.experiment import SaveTimes, save_times_of
from odecal._jax.backend import usable_devices
from odecal._jax.keys import KeyData, example_key_data, key_of, keys_by_name
from odecal._jax.programs import Compiler, jit_sharded, map_or_vmap, padded
from odecal._model.flat import FlatModel
from odecal._model.forward import Prediction, SaveIndex
from odecal._model.model import Model
from odecal._run.records import THINNED, Evaluation

# Draws of one call of the program, at most, and about how many numbers it may give in all.
_CHUNK, _CHUNK_SIZE = 512, 2**23
# Draws of which trajectories on the grid are kept, and the most numbers of one kind that are kept.
_MAX_TRAJECTORIES, _MAX_SIZE = 1000, 2 * 10**7


class Evaluator:
    """The compiled program that evaluates draws of one model."""

    def __init__(
        self,
        model: Model,
        flat: FlatModel,
        grid: Float[np.ndarray, " grid"],
        compiler: Compiler,
    ) -> None:
        save_times = save_times_of(model.experiment, grid)

        def chunk(positions: jax.Array, numbers: jax.Array, key_data: jax.Array) -> dict[str, Any]:
            def one(position: jax.Array, number: jax.Array) -> dict[str, Any]:
                chain, draw = number
                key = jax.random.fold_in(jax.random.fold_in(key_of(key_data), chain), draw)
                return _evaluate_one(model, flat, save_times, position, key)

            return map_or_vmap(one)(positions, numbers)

        self._data_size, self._grid_size = _sizes(model, save_times)
        most = _CHUNK_SIZE // (3 * self._data_size + self._grid_size + flat.target.dim)
        devices = usable_devices(_CHUNK)
        self._chunk = padded(int(np.clip(most, 8, _CHUNK)), len(devices))
        self._program = compiler(
            jit_sharded(chunk, devices, batched=2, replicated=1),
            jax.ShapeDtypeStruct((self._chunk, flat.target.dim), model.dtype),
            jax.ShapeDtypeStruct((self._chunk, 2), np.uint32),
            example_key_data(),
        )

    def blank(self) -> Evaluation:
        """The evaluation of one draw, of zeros: what an evaluation looks like."""
        return Evaluation(
            **jax.tree.map(lambda x: np.zeros((1, *x.shape[1:]), x.dtype), self._program.shape)
        )

    def __call__(
        self, positions: Float[np.ndarray, "chain draw dim"], key_data: KeyData
    ) -> Evaluation:
        """What the model predicts from each draw, chain after chain.

        The key of a draw's replicated data depends on its chain and number alone. Where it is too
        much to keep, replicated data and trajectories are those of every few draws of each chain.
        """
        num_chains, num_draws, dim = positions.shape
        total, size = num_chains * num_draws, self._chunk
        index = np.resize(np.arange(total), padded(total, size))
        flat = positions.reshape(total, dim)[index]
        numbers = np.stack(np.divmod(index, num_draws), axis=1).astype(np.uint32)
        steps = {
            "data": _step(total, _MAX_SIZE // self._data_size),
            "grid": _step(total, min(_MAX_TRAJECTORIES, _MAX_SIZE // self._grid_size)),
        }
        chunks = []
        for start in range(0, len(index), size):
            rows = slice(start, start + size)
            evaluated = self._program(flat[rows], numbers[rows], key_data)
            draws = numbers[rows, 1][: total - start]  # the rest fills up the last chunk
            chunks.append(_thinned(jax.tree.map(np.asarray, evaluated), draws, steps))
        evaluation = jax.tree.map(lambda *parts: np.concatenate(parts), *chunks)
        return Evaluation(**evaluation, data_step=steps["data"], grid_step=steps["grid"])


def _thinned(
    evaluated: dict[str, Any], draws: np.ndarray, steps: Mapping[str, int]
) -> dict[str, Any]:
    """The first draws of a chunk, by their numbers in a chain; of what takes much room, a few."""
    thinned = {}
    for name, part in evaluated.items():
        step = steps[THINNED[name]] if name in THINNED else 1
        rows = np.flatnonzero(draws % step == 0)
        thinned[name] = jax.tree.map(lambda x, rows=rows: x[rows], part)
        if name in THINNED and name != "log_likelihood":
            failed = evaluated["failed"][rows]
            thinned[name] = {n: _nan_where(failed, x) for n, x in thinned[name].items()}
    return thinned


def _step(total: int, most: int) -> int:
    """Of every how many of so many draws something is kept."""
    return max(1, -(-total // max(1, most)))


def _sizes(model: Model, save_times: SaveTimes) -> tuple[int, int]:
    """How many numbers one draw gives for the data, and on the grid."""
    declaration = model.declaration
    data = sum(series.values.size for series in model.experiment.series.values())
    smooth = [name for name, o in declaration.observables.items() if not o.over_interval]
    elements = sum(int(np.prod(declaration.shape(n))) for n in [*declaration.states, *smooth])
    return data, save_times.extra.size * elements


def _nan_where(failed: Bool[np.ndarray, " draw"], draws: np.ndarray) -> np.ndarray:
    """Draws, NaN where the solve failed."""
    if not failed.any():
        return draws
    draws = draws.astype(np.promote_types(draws.dtype, np.float32))
    draws[failed] = np.nan
    return draws


def _evaluate_one(
    model: Model, flat: FlatModel, save_times: SaveTimes, position: jax.Array, key: jax.Array
) -> dict[str, Any]:
    """Everything about one draw, from a single solve."""
    prediction = model.predict_at(model.constrain(flat.unravel(position)), save_times)
    trajectory, grid = prediction.trajectory, save_times.extra
    key_data, key_others = jax.random.split(key)
    replicated, predicted = _replicates(model, prediction, save_times, key_data)
    many = bool(model.experiment.individuals.dim)
    on_grid = (np.arange(len(grid))[:, None], grid) if many else grid[0]
    return {
        "quantities": model.hierarchy.reported(prediction.site_values),
        "derived": prediction.derived,
        "replicated": replicated,
        "log_likelihood": model.log_likelihood(prediction),
        "renewed": _renewed(model, prediction.site_values.sites, key_others),
        "states": {name: y[on_grid] for name, y in trajectory.y.items()},
        "predicted": predicted,
        "solver_steps": jnp.sum(trajectory.num_steps),
        "failed": jnp.any(trajectory.failed),
    }


def _replicates(
    model: Model, prediction: Prediction, save_times: SaveTimes, key: jax.Array
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """A replicate of every observable at the times of the data, and of most on the grid."""
    count, size = save_times.extra.shape
    individual = np.repeat(np.arange(count), size)
    shape = (count, size) if model.experiment.individuals.dim else (size,)
    replicated, predicted = {}, {}
    keys = keys_by_name(key, prediction.laws)
    for name, distribution in prediction.laws.items():
        series = model.experiment.series[name]
        if model.declaration.observables[name].over_interval:
            replicated[name] = distribution.sample(keys[name])
            continue
        # One distribution for both, since random numbers take long to compile.
        index = SaveIndex(
            np.concatenate([series.individual, individual]),
            np.concatenate([save_times.index[name], save_times.extra.ravel()]),
        )
        both = model.forward.distribution(
            name, prediction.parameters, prediction.trajectory, index
        ).sample(keys[name])
        replicated[name], on_grid = jnp.split(both, [len(series.times)])
        predicted[name] = on_grid.reshape(*shape, *on_grid.shape[1:])
    return replicated, predicted


def _renewed(model: Model, sites: Mapping[str, jax.Array], key: jax.Array) -> dict[str, Any]:
    """Replicated data of groups that are drawn anew from the population, in the same design."""
    if not model.hierarchy.random_effects:
        return {}
    key_groups, key_data = jax.random.split(key)
    prediction = model.predict_at(model.hierarchy.renewed(sites, key_groups, model.dtype), None)
    return prediction.sample(key_data)
