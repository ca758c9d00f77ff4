"""The adjoint chosen by measurement, on the user's own problem and device."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np

from odecal._inference.multistart import prior_sampler
from odecal._inference.progress import AbstractProgress
from odecal._inference.timing import (
    Timer,
    compiled_gradient,
    gradient_of,
    relative_error,
)
from odecal._jax.keys import run_keys
from odecal._model.model import Model
from odecal._run.provenance import environment_attrs, solve_attrs, system_attrs
from odecal.adjoints import (
    AbstractAdjoint,
    AbstractSensitivities,
    ExplicitForward,
    ExplicitReverse,
    Forward,
    RecursiveCheckpoint,
)

# Measured in benchmarks/results/gradients.csv. With an explicit solver forward mode is best up to
# the first of these numbers of sensitivities (states times one more than the numbers
# differentiated by), reverse mode is best or nearly so above it, and measuring begins to pay at the
# second. An implicit solver's factorisations are shared by all sensitivities: up to so many
# numbers differentiated by, forward mode is best.
_FORWARD_UP_TO, _CHEAP_UP_TO, _IMPLICIT_UP_TO = 30, 512, 40
# Gradients of a calibration one after the other, about; and how much of one another strategy may
# save, about: it is not tried if trying takes longer than it may save.
_GRADIENTS, _SAVING = 20_000, 0.7
# Draws from the prior that gradients are timed at, and seconds that one strategy may take.
_NUM_DRAWS, _BUDGET = 8, 1.0
# The relative error of a gradient against an exact one that a sampler does not feel.
_ERROR = 1e-3
# What another strategy must gain to be preferred, so that noise does not decide.
_GAIN = 1.1


@dataclass(frozen=True)
class Trial:
    """One strategy as it was measured."""

    seconds: float  # for value and gradient, the median over draws from the prior
    error: float  # the largest relative error against an exact strategy; 0 for those
    compile_seconds: float


@dataclass(frozen=True, eq=False)
class Choice:
    """The strategy chosen, why, and what was measured, by name."""

    adjoint: AbstractAdjoint
    reason: str
    trials: Mapping[str, Trial]

    def note(self) -> str:
        """For the file of results, as JSON."""
        trials = {name: asdict(trial) for name, trial in self.trials.items()}
        return json.dumps({"reason": self.reason, "trials": trials})


def choose_adjoint(model: Model, seed: int, progress: AbstractProgress) -> Choice:
    """The adjoint that gives gradients of a model fastest, among those that give them right.

    Small problems are not measured: it is known what is fastest there, and measuring costs more
    than it can save. For others a few candidates are compiled and timed at draws from the prior,
    the usual one first, as long as another may save more than trying it costs. One that is not
    exact for the discrete solve must agree with one that is. What was found is kept in the user's
    cache folder, by problem, device and versions. To be called outside the model's precision.
    """
    solve = model.solve
    if solve.adjoint is not None:
        return Choice(solve.strategy, "as asked for", {})
    explicit = ExplicitForward.serves(solve.solver)
    if model.declaration.events:
        return Choice(solve.strategy, "it follows events", {})
    # What can be at most first, which needs no trace.
    for size in (_largest_size, _size):
        states, moving = size(model)
        carried = states * (1 + moving)
        small = carried <= _FORWARD_UP_TO if explicit else moving <= _IMPLICIT_UP_TO
        if small:
            reason = "forward mode is the fastest on problems so small"
            return Choice(solve.strategy, reason, {})
    if explicit and carried <= _CHEAP_UP_TO:
        if model.forcing.has_jumps:
            reason = "forward mode is the fastest where the state changes on the way"
            return Choice(solve.strategy, reason, {})
        reason = "reverse mode is the fastest on problems of this size"
        return Choice(ExplicitReverse(), reason, {})
    candidates = _candidates(explicit)
    file = _cache_file(model)
    trials = _cached(file, candidates)
    if trials is None:
        trials = _measured(model, candidates, seed, progress)
        _keep(file, trials)
    sound = {name: t.seconds for name, t in trials.items() if t.error <= _ERROR}
    if not sound:
        return Choice(solve.strategy, "no candidate could be measured", trials)
    best = min(sound, key=sound.__getitem__)
    usual = next(iter(candidates))
    if usual in sound and sound[usual] <= _GAIN * sound[best]:
        best = usual
    return Choice(candidates[best], "the fastest as measured", trials)


class _Found(Exception):  # noqa: N818
    """Carries a size out of a trace."""


class _Probe(AbstractSensitivities):
    """Traces as far as the solve, and tells what is differentiated there."""

    serves_jumps: ClassVar[bool] = True

    def check(self, solver: Any, max_steps: int | None) -> None:
        """Serve every solver."""

    def primal(self, problem: Any, y0: Any, args: Any) -> Any:
        """Not differentiated at all."""
        raise _Found(0)

    def jacobian(self, problem: Any, diff: Any, nondiff: Any) -> Any:
        """The numbers to differentiate by."""
        raise _Found(sum(leaf.size for leaf in jax.tree.leaves(diff)))


def _largest_size(model: Model) -> tuple[int, int]:
    """The elements of the state, and the numbers that a solve may be differentiated by at most."""
    declaration = model.declaration
    states = sum(int(np.prod(declaration.shape(name))) for name in declaration.states)
    return states, states + sum(int(np.prod(s.shape)) for s in model.site_shapes.values())


def _size(model: Model) -> tuple[int, int]:
    """The elements of the state, and the numbers that a solve is differentiated by."""
    states, _ = _largest_size(model)
    with model.precision():
        sites = jax.eval_shape(model.unconstrain, model.site_shapes)
        position = jax.ShapeDtypeStruct((sum(s.size for s in sites.values()),), model.dtype)
        try:
            jax.eval_shape(gradient_of(model, _Probe()), position, 1.0)
        except _Found as found:
            return states, found.args[0]
    return states, 0


def _candidates(explicit: bool) -> dict[str, AbstractAdjoint]:
    """A few strategies that may be the fastest, by size."""
    if explicit:
        return {"ExplicitReverse": ExplicitReverse(), "ExplicitForward": ExplicitForward()}
    return {"Forward": Forward(), "RecursiveCheckpoint": RecursiveCheckpoint()}


def _measured(
    model: Model, candidates: Mapping[str, AbstractAdjoint], seed: int, progress: AbstractProgress
) -> dict[str, Trial]:
    """Compile and time the candidates, as long as that pays."""
    gradients: dict[str, dict[int, Any]] = {}
    timers: dict[str, Timer] = {}
    compile_seconds: dict[str, float] = {}
    with model.precision():
        positions = np.asarray(jax.jit(prior_sampler(model, _NUM_DRAWS))(run_keys(seed).prior))
        for name, adjoint in candidates.items():
            if timers and _cannot_pay(timers, compile_seconds):
                break
            progress.say(f"Measuring adjoints: {name}")
            program = compiled_gradient(gradient_of(model, adjoint), positions[0])
            timers[name], compile_seconds[name] = Timer(_BUDGET), program.seconds
            timed = {
                i: timers[name].gradient(i, program, x, 1.0, 3) for i, x in enumerate(positions)
            }
            gradients[name] = {i: x[1] for i, x in timed.items() if x and np.isfinite(x[0])}
    exact = [name for name, a in candidates.items() if a.properties and a.properties.exact]
    reference = gradients[exact[0]]
    trials = {}
    for name, timer in timers.items():
        common = sorted(set(gradients[name]) & set(reference))
        seconds = [s for i in common if np.isfinite(s := timer.median(i))]
        errors = [
            0.0 if name in exact else relative_error(gradients[name][i], np.asarray(reference[i]))
            for i in common
        ]
        if seconds:
            error = float(np.max(errors))
            trials[name] = Trial(float(np.median(seconds)), error, compile_seconds[name])
    return trials


def _cannot_pay(timers: Mapping[str, Timer], compile_seconds: Mapping[str, float]) -> bool:
    """Whether trying a further strategy takes longer than it may save."""
    seconds = min(timer.median_of_all() for timer in timers.values())
    return _SAVING * _GRADIENTS * seconds < max(compile_seconds.values())


def _cache_file(model: Model) -> Path:
    """Where the choice for a problem like this is kept."""
    from platformdirs import user_cache_path

    environment = environment_attrs()
    environment.pop("created_at")
    experiment = model.experiment
    ts = experiment.save_times.ts
    parts = {
        "sites": {name: str(s) for name, s in model.site_shapes.items()},
        "times": [float(experiment.t0[0]), *ts.shape, float(ts.max())],
        "drive": str(model.forcing.flags),
        "solve": solve_attrs(model.solve),
        "cores": os.cpu_count(),
        **system_attrs(model.system),
        **environment,
    }
    digest = hashlib.sha256(json.dumps(parts, default=str, sort_keys=True).encode()).hexdigest()
    return user_cache_path("odecal") / "adjoints" / f"{digest[:32]}.json"


def _cached(file: Path, candidates: Mapping[str, Any]) -> dict[str, Trial] | None:
    """What was measured before, if it was."""
    try:
        trials = json.loads(file.read_text())
        return {name: Trial(**trials[name]) for name in candidates if name in trials} or None
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def _keep(file: Path, trials: Mapping[str, Trial]) -> None:
    """Keep what was measured; a cache that cannot be written is done without."""
    partial = file.with_suffix(f".{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps({name: asdict(trial) for name, trial in trials.items()}))
        partial.replace(file)
    except OSError:
        pass
