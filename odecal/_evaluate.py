"""What a model predicts from many draws: one program, in batches, over all devices."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import jax
import numpy as np

from odecal._flat import FlatModel
from odecal._model import Model
from odecal._programs import Compiler, each, padded, spread, usable_devices
from odecal._streams import Words, example_words, key_of

# Draws of one call of the program.
_CHUNK = 512

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

    def rows(self, which: slice) -> "Evaluation":
        """The evaluation of some of the draws."""
        parts = {f.name: getattr(self, f.name) for f in fields(self)}
        return Evaluation(**jax.tree.map(lambda x: x[which], parts))


class Evaluator:
    """The compiled program that evaluates draws of one model.

    Args:
        model: the model.
        flat: the same, flat.
        grid: the fine grid of times, of shape (grid,).
        compiler: compiles the program.
    """

    def __init__(self, model: Model, flat: FlatModel, grid: np.ndarray, compiler: Compiler) -> None:
        def one(position: jax.Array, which: jax.Array, words: jax.Array) -> dict[str, Any]:
            chain, draw = which
            key = jax.random.fold_in(jax.random.fold_in(key_of(words), chain), draw)
            return _evaluate_one(model, flat, grid, position, key)

        def chunk(positions: jax.Array, which: jax.Array, words: jax.Array) -> dict[str, Any]:
            return each(lambda x, i: one(x, i, words))(positions, which)

        self._program = compiler(
            spread(chunk, usable_devices(_CHUNK), batched=2, replicated=1),
            jax.ShapeDtypeStruct((_CHUNK, flat.dim), model.dtype),
            jax.ShapeDtypeStruct((_CHUNK, 2), np.uint32),
            example_words(),
        )

    def __call__(self, positions: np.ndarray, words: Words) -> Evaluation:
        """Evaluate draws.

        Args:
            positions: in unconstrained space, of shape (chain, draw, dim).
            words: the random key of the replicated data, in words. That of a draw depends on its
                chain and number alone.

        Returns:
            What the model predicts from each, chain after chain.
        """
        num_chains, num_draws, dim = positions.shape
        total = num_chains * num_draws
        index = np.resize(np.arange(total), padded(total, _CHUNK))
        flat = positions.reshape(total, dim)[index]
        which = np.stack(np.divmod(index, num_draws), axis=1).astype(np.uint32)
        chunks = [
            jax.tree.map(
                np.asarray, self._program(flat[i : i + _CHUNK], which[i : i + _CHUNK], words)
            )
            for i in range(0, len(index), _CHUNK)
        ]
        found = jax.tree.map(lambda *parts: np.concatenate(parts)[:total], *chunks)
        for name in ("replicated", "states", "predicted"):
            found[name] = {n: _missing(x, found["failed"]) for n, x in found[name].items()}
        return Evaluation(**found)


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
    ts = np.union1d(model.experiment.ts, grid)
    on_grid = np.searchsorted(ts, grid)
    replicated, predicted = {}, {}
    keys = jax.random.split(key, len(prediction.laws))
    for own, (name, law) in zip(keys, prediction.laws.items(), strict=True):
        times = model.experiment.series[name].times
        if model.system.declaration.observables[name].over_interval:
            replicated[name] = law.sample(own)
            continue
        # One law for both, since random numbers take long to compile.
        index = np.concatenate([np.searchsorted(ts, times), on_grid])
        draws = model.law(name, prediction.p, trajectory, index).sample(own)
        replicated[name], predicted[name] = draws[: len(times)], draws[len(times) :]
    return {
        "sites": values,
        "derived": prediction.derived,
        "replicated": replicated,
        "log_likelihood": model.log_likelihood(prediction),
        "states": {name: y[on_grid] for name, y in trajectory.y.items()},
        "predicted": predicted,
        "solver_steps": trajectory.num_steps,
        "failed": trajectory.failed,
    }
