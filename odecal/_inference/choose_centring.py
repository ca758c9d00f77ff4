"""Centrings chosen from how much the data of each group say, by a short run before the long one."""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from odecal._inference.engine import Engine
from odecal._inference.multistart import NUM_CANDIDATES, MultiStart, prior_sampler
from odecal._inference.progress import AbstractProgress, NoProgress
from odecal._jax.keys import run_keys
from odecal._jax.programs import Compiler
from odecal._model.flat import FlatModel, flatten
from odecal._model.model import Model
from odecal.centring import Informed, Partial
from odecal.samplers import NUTS, LowRankMetric, Run

# The pilot run: chains, warm-up, draws, and how deep trees may grow; and what is added to its seed.
_PILOT = Run(4, 100, 100)
_DEPTH, _OTHER_SEED = 7, 2**32

Draws = Float[np.ndarray, "draw dim"]


def choose_centring(model: Model, seed: int, progress: AbstractProgress) -> Model:
    """Choose the coordinates of parameters whose centring is `Informed`.

    A short run in non-centred coordinates tells the variance v of each group's standardised value,
    z = (θ − μ)/σ, which is 1 where the data say nothing of it: w = 1 − v is what they take away.
    To be called outside the model's precision.
    """
    wanted = [
        name
        for effects in model.hierarchy.random_effects
        for name, c in effects.members.items()
        if isinstance(c.variation.centring, Informed) and effects.raw in model.hierarchy.reparams
    ]
    if not wanted:
        return model
    progress.say("Choosing centrings: a short run")
    with model.precision(), Compiler() as compiler, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the run itself says what is to be said
        flat = flatten(model)
        draws = _pilot(model, flat, seed, compiler)
        standard, scales = _standardised(model, flat, draws)
    chosen = {name: _weights(standard[name], scales[name]) for name in wanted}
    return replace(model, centrings={**model.centrings, **chosen})


def _pilot(model: Model, flat: FlatModel, seed: int, compiler: Compiler) -> Draws:
    """Draws of a short run."""
    run_key = run_keys(seed + _OTHER_SEED)
    sampler = NUTS(max_tree_depth=_DEPTH, metric=LowRankMetric())
    engine = Engine(flat.target, sampler, _PILOT, run_key.chains, compiler)
    find_starts = MultiStart(flat.target, compiler, flat.hierarchical, flat.names)
    candidates = np.asarray(jax.jit(prior_sampler(model, NUM_CANDIDATES))(run_key.prior))
    starts = find_starts(candidates, run_key.starts, _PILOT.num_chains).starts
    chains, complete = engine.sample(engine.init(starts), NoProgress())
    if not complete:
        raise KeyboardInterrupt  # nothing that is kept has been drawn yet
    return np.asarray(chains.positions).reshape(-1, flat.target.dim)


def _standardised(
    model: Model, flat: FlatModel, draws: Draws
) -> tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]:
    """(θ − μ)/σ of every group and the scale σ of each parameter, with a leading axis of draws."""

    def one(position: jax.Array) -> Any:
        values = model.site_values(model.constrain(flat.unravel(position)))
        return values.standard, values.scales

    return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(jnp.asarray(draws)))


def _weights(
    standard: Float[np.ndarray, "draw ..."], scale: Float[np.ndarray, "draw ..."]
) -> Partial:
    """The centring of one parameter."""
    w = np.clip(1.0 - standard.var(axis=0), 0.0, 1.0)
    return Partial(w, np.clip(2.0 * w - 1.0, 0.0, 1.0), float(np.median(scale)))
