"""From a model to a posterior: compile, start, sample, evaluate, put together."""

import time

import numpy as np
from jaxtyping import Float

from odecal._inference.engine import Engine
from odecal._inference.multistart import NUM_PRIOR, MultiStart, prior_program
from odecal._inference.predictive import Evaluator
from odecal._inference.progress import AbstractProgress
from odecal._inference.rehearse import rehearse
from odecal._jax.keys import run_keys
from odecal._jax.programs import Compiler
from odecal._model.flat import flatten
from odecal._model.model import Model
from odecal._run.records import AbstractJournal, Plan, Result

# Times of the grid of one individual, and of all together.
_GRID, _GRID_OF_ALL = 200, 2400


def execute(
    plan: Plan,
    journal: AbstractJournal,
    progress: AbstractProgress,
    prior_draws: Float[np.ndarray, "draw dim"] | None = None,
) -> Result:
    """Run a calibration from where its journal stands to its end, or until the user interrupts it.

    Draws from the prior may have been made before, by `draw_prior`.

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
        drawing = None if prior_draws is not None else prior_program(model, compiler)
        flat = flatten(model)
        # The engine first, which takes longest to compile.
        engine = Engine(flat.target, plan.sampler, run, run_key.chains, compiler)
        finder = None
        if warm_start is None:
            finder = MultiStart(flat, compiler)
        grid = time_grid(model)
        evaluate = Evaluator(model, flat, grid, compiler)
        # While programs compile.
        rehearse(plan, flat.names, engine.blank(), evaluate.blank(), grid)
        if drawing is not None:
            prior_draws = np.asarray(drawing(run_key.prior))
        assert prior_draws is not None
        if finder is not None:
            progress.say("Looking for modes")
            finder.wait()
            began = time.perf_counter()
            warm_start = finder(prior_draws, run_key.starts, run.num_chains, progress.say)
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
        prior, modes = others.split(NUM_PRIOR)
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
