"""From a model to a posterior: compile, start, sample, evaluate, put together."""

import time

import jax
import numpy as np
from jaxtyping import Float

from odecal._inference.engine import Engine
from odecal._inference.multistart import NUM_CANDIDATES, MultiStart, prior_sampler
from odecal._inference.predictive import Evaluator
from odecal._inference.progress import AbstractProgress
from odecal._inference.rehearse import rehearse
from odecal._jax.keys import example_key_data, run_keys
from odecal._jax.programs import Compiler
from odecal._model.flat import flatten
from odecal._model.model import Model
from odecal._run.records import AbstractJournal, Plan, Result

_NUM_PRIOR = 1000
# Times of the grid of one individual, and of all together.
_GRID, _GRID_OF_ALL = 200, 2400


def execute(plan: Plan, journal: AbstractJournal, progress: AbstractProgress) -> Result:
    """Run a calibration from where its journal stands to its end, or until the user interrupts it.

    Raises:
        SamplingError: if no draw from the prior has a finite log density.
        OutputError: if the result could not be saved, before anything is drawn.
    """
    model, run = plan.model, plan.run
    run_key = run_keys(plan.seed)
    with model.precision(), Compiler() as compiler:
        progress.say("Compiling")
        warm_start, snapshot, start_seconds = journal.warm_start(), journal.snapshot(), 0.0
        # Compiled while the model is traced.
        draw_prior = compiler(jax.jit(prior_sampler(model, _NUM_PRIOR)), example_key_data())
        flat = flatten(model)
        # The engine first, which takes longest to compile.
        engine = Engine(flat.target, plan.sampler, run, run_key.chains, compiler)
        finder = None
        if warm_start is None:
            finder = MultiStart(flat.target, compiler, flat.hierarchical, flat.names)
        grid = time_grid(model)
        evaluate = Evaluator(model, flat, grid, compiler)
        # While programs compile.
        rehearse(plan, flat.names, engine.blank(), evaluate.blank(), grid)
        prior_draws = np.asarray(draw_prior(run_key.prior))
        if finder is not None:
            progress.say("Looking for modes")
            finder.wait()
            began = time.perf_counter()
            warm_start = finder(prior_draws[:NUM_CANDIDATES], run_key.starts, run.num_chains)
            start_seconds = time.perf_counter() - began
            journal.record_start(warm_start)
        assert warm_start is not None
        snapshot = snapshot or engine.init(warm_start.starts)
        chains, complete = engine.sample(snapshot, progress, journal.record)
        progress.say("Predicting from the draws")
        posterior = (
            evaluate(chains.positions, run_key.replicates) if chains.positions.size else None
        )
        others = evaluate(np.concatenate([prior_draws, warm_start.modes])[None], run_key.others)
        prior, modes = others.split(_NUM_PRIOR)
        return Result(
            plan,
            flat.names,
            warm_start,
            chains,
            posterior,
            prior,
            modes,
            grid,
            complete,
            compiler.seconds,
            start_seconds,
        )


def time_grid(model: Model) -> Float[np.ndarray, " grid"]:
    """A fine grid of times from the first initial time to the last observation.

    Half of it is even in time; the other half is even between each time of observation and the
    next, so that observations spaced by powers of ten are followed as closely at either end.
    It is coarser where there are many individuals.
    """
    experiment = model.experiment
    size = int(np.clip(_GRID_OF_ALL // len(experiment.individuals), _GRID // 8, _GRID)) // 2
    knots = np.union1d(experiment.t0, experiment.save_times.ts)
    even = np.linspace(knots[0], knots[-1], size)
    between = np.interp(np.linspace(0, len(knots) - 1, size), np.arange(len(knots)), knots)
    return np.union1d(even, between)
