"""The solver of a calibration where none is asked for: implicit where the prior is stiff."""

import json
import time
from dataclasses import asdict, dataclass, replace

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from odecal._errors import SettingsError
from odecal._inference.progress import AbstractProgress
from odecal._jax.programs import compile_to_run_once, map_or_vmap
from odecal._model.flat import NO_LIMIT, unraveller
from odecal._model.model import Model
from odecal._system.implicit import implicit_solver
from odecal.adjoints import ExplicitForward

# Draws of the prior that are solved at, by at most so many explicit steps; and of those that need
# more, so many by as many as they need.
_NUM_DRAWS, _FEW_STEPS, _NUM_LONG = 16, np.int32(4096), 4
# An implicit solver is tried where so large a share of the draws takes so many steps.
_STIFF_SHARE, _MANY_STEPS = 0.25, 1000
# How much faster it must be where both solve as many, since its gradients cost more.
_GAIN = 2.0


@dataclass(frozen=True)
class Trial:
    """One solver as it was tried at draws of the prior."""

    median_steps: float
    failed: int  # of the draws
    seconds: float  # of all draws


@dataclass(frozen=True, eq=False)
class SolverChoice:
    """The solver chosen, why, and what was tried, by name."""

    solver: diffrax.AbstractSolver
    reason: str
    trials: dict[str, Trial]

    def note(self) -> str:
        """For the file of results, as JSON."""
        trials = {name: asdict(trial) for name, trial in self.trials.items()}
        return json.dumps({"reason": self.reason, "trials": trials})


def solver_is_open(model: Model) -> bool:
    """Whether a solver may be chosen: none was asked for, and no event needs an explicit one."""
    return model.solve.solver is None and not model.declaration.events


def choose_solver(
    model: Model, draws: Float[np.ndarray, "draw dim"] | None, progress: AbstractProgress
) -> SolverChoice:
    """The solver that a model is calibrated by, from the steps that it takes at draws of the prior.

    An explicit solver on a stiff system takes as many steps as stability asks for, which fails or
    is slow, and says nothing. Where many draws take many steps an implicit one is tried at the same
    draws, and taken if it solves as many of them in less time. Without draws there is no choice. To
    be called outside the model's precision.
    """
    solve, usual_solver = model.solve, model.solve.solver_or_default
    if draws is None or not solver_is_open(model):
        reason = "it follows events" if solve.solver is None else "as asked for"
        return SolverChoice(usual_solver, reason, {})
    draws = draws[:_NUM_DRAWS]
    with model.precision():
        usual = _Solves(replace(model, solve=replace(solve, adjoint=ExplicitForward())))
        if np.mean(usual.steps_once(draws) >= _MANY_STEPS) < _STIFF_SHARE:
            return SolverChoice(usual_solver, "few draws of the prior take many steps", {})
        progress.say("The prior is stiff, or its solves long: trying an implicit solver")
        try:
            other = replace(solve, solver=implicit_solver())
        except SettingsError:  # an adjoint was asked for that serves none
            return SolverChoice(usual_solver, "the adjoint serves no implicit solver", {})
        explicit = usual.trial(draws)
        implicit = _Solves(replace(model, solve=replace(other, adjoint=None))).trial(draws)
    trials = {"Tsit5": explicit, "Kvaerno5": implicit}
    solves_more = implicit.failed < explicit.failed
    faster = _GAIN * implicit.seconds < explicit.seconds and implicit.failed == explicit.failed
    if not solves_more and not faster:
        return SolverChoice(usual_solver, "long, not stiff: an implicit solver is slower", trials)
    progress.say(_said(trials))
    reason = "it solves more of the prior" if solves_more else "it is faster over the prior"
    return SolverChoice(other.solver_or_default, f"stiff: {reason}", trials)


class _Solves:
    """Solves of a model at draws, without gradients."""

    def __init__(self, model: Model) -> None:
        _, unravel = unraveller(jax.eval_shape(model.unconstrain, model.site_shapes))

        def of_draws(draws: jax.Array, step_limit: jax.Array) -> tuple[jax.Array, ...]:
            limited = replace(model, solve=model.solve.limited(step_limit))

            def of_one(x: jax.Array) -> tuple[jax.Array, ...]:
                trajectory = limited.predict(model.constrain(unravel(x))).trajectory
                return jnp.max(trajectory.num_steps), jnp.any(trajectory.failed)

            return map_or_vmap(of_one)(draws)

        self._program = jax.jit(of_draws)

    def steps_once(self, draws: Float[np.ndarray, "draw dim"]) -> Int[np.ndarray, " draw"]:
        """Steps, of the individual that takes most, where few are allowed."""
        lowered = self._program.lower(draws, _FEW_STEPS)
        return np.asarray(compile_to_run_once(lowered)(draws, _FEW_STEPS)[0])

    def trial(self, draws: Float[np.ndarray, "draw dim"]) -> Trial:
        """Steps, failures and time; of those that run out of few steps by a part of them."""
        steps, failed, seconds = self._run(draws, _FEW_STEPS)
        long = np.flatnonzero(failed & (steps >= _FEW_STEPS))
        some = long[:_NUM_LONG]
        if some.size:
            full_steps, full_failed, full_seconds = self._run(draws[some], NO_LIMIT)
            steps[long] = np.resize(full_steps, long.size)
            failed[long] = np.resize(full_failed, long.size)
            seconds += full_seconds * long.size / some.size
        return Trial(float(np.median(steps)), int(failed.sum()), seconds)

    def _run(
        self, draws: Float[np.ndarray, "draw dim"], step_limit: np.int32
    ) -> tuple[Int[np.ndarray, " draw"], Bool[np.ndarray, " draw"], float]:
        program = self._program.lower(draws, step_limit).compile()
        began = time.perf_counter()
        steps, failed = map(np.array, program(draws, step_limit))
        return steps, failed, time.perf_counter() - began


def _said(trials: dict[str, Trial]) -> str:
    """What was found, in a line."""
    steps = {name: f"{trial.median_steps:,.0f}" for name, trial in trials.items()}
    return (
        f"  stiff: a draw of the prior takes {steps['Tsit5']} steps by Tsit5 and "
        f"{steps['Kvaerno5']} by Kvaerno5, which is taken"
    )
