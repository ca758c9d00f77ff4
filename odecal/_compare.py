"""Adjoints compared on one problem: time, memory, error."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from odecal._calibrate import shipped
from odecal._compile import as_system, compile  # noqa: A004
from odecal._errors import SettingsError
from odecal._model import Model
from odecal._provenance import environment_attrs, merge, solve_attrs, system_attrs
from odecal._settings import Solve
from odecal._trace import value_and_gradient
from odecal.adjoints import Backsolve, Direct, ExplicitForward, Forward, RecursiveCheckpoint

if TYPE_CHECKING:
    import xarray as xr

    from odecal._progress import Progress
    from odecal._system import System

# The reference is solved this much tighter.
_TIGHTER = 1e-3
# Seconds that timing one adjoint may take; draws that do not fit in are not measured.
_BUDGET = 20.0


@dataclass(frozen=True, eq=False)
class _Measured:
    """One adjoint, measured at every draw."""

    seconds: np.ndarray
    errors: np.ndarray
    compile_seconds: float
    memory: float


def compare_adjoints(
    system: "System",
    observations: Any = None,
    *,
    adjoints: Mapping[str, Any] | None = None,
    solve: Solve | None = None,
    num_draws: int = 16,
    repeats: int = 10,
    seed: int = 0,
    progress: bool = True,
) -> "xr.Dataset":
    """Compare gradient strategies on a system's own log density, over draws from its prior.

    Args:
        system: the system.
        observations: a table, as for `calibrate`; None takes the one that comes with the system.
        adjoints: the strategies by the names to give them; None takes
            `explicit_forward` (where it serves the solver), `forward`, `recursive_checkpoint`,
            `backsolve` and `direct`.
        solve: the settings of a solve, whose adjoint is replaced by each; None takes the system's.
        num_draws: how many draws from the prior.
        repeats: how many times each gradient is timed, all adjoints in turn.
        seed: the random seed.
        progress: whether progress is shown.

    Returns:
        A data set with the dimensions `adjoint` and `draw`: `gradient_time` (seconds for value and
        gradient, a median), `relative_error` (of the gradient, in the Euclidean norm, against one
        with tolerances 1000 times tighter), `compile_time` (seconds), `peak_memory` (bytes, by
        XLA's analysis of the compiled program), and `failed` (draws whose solve failed, here or
        for the reference; they have no error). A draw that did not fit into the 20 seconds that
        each adjoint may take has neither time nor error.

    Raises:
        SettingsError: if an adjoint cannot serve the solver.
    """
    from odecal._progress import Progress, shown_progress

    system = as_system(system)
    if num_draws < 1 or repeats < 1:
        raise SettingsError(
            "compare_adjoints expects num_draws and repeats of at least 1. "
            f"Got {num_draws} and {repeats}."
        )
    model = compile(system, shipped(system) if observations is None else observations, solve)
    chosen = default_adjoints(model.solve) if adjoints is None else dict(adjoints)
    settings = {name: replace(model.solve, adjoint=adjoint) for name, adjoint in chosen.items()}
    with model.precision(), shown_progress() if progress else Progress() as shown:
        positions = jax.jit(jax.vmap(lambda key: ravel_pytree(model.init_position(key))[0]))(
            jax.random.split(jax.random.key(seed), num_draws)
        )
        shown.say("Reference gradients")
        reference, failed = _reference(model, positions)
        measured = _measure(model, settings, positions, reference, repeats, shown)
    return _dataset(model, measured, failed)


def default_adjoints(solve: Solve) -> dict[str, Any]:
    """The strategies that are compared unless told otherwise, by their names."""
    explicit = ExplicitForward.serves(solve.solver)
    return {
        **({"explicit_forward": ExplicitForward()} if explicit else {}),
        "forward": Forward(),
        "recursive_checkpoint": RecursiveCheckpoint(),
        "backsolve": Backsolve(),
        "direct": Direct(),
    }


def _gradient(model: Model, settings: Solve) -> Any:
    """Value and gradient of the log density on flat positions."""
    _, unravel = ravel_pytree(model.init_position(jax.random.key(0)))
    other = replace(model, solve=settings)
    return jax.jit(
        value_and_gradient(lambda x: other.logdensity_fn(unravel(x)), settings.forward_mode)
    )


def _reference(model: Model, positions: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """Gradients at tight tolerances, and which draws have none there."""
    tight = replace(
        model.solve,
        rtol=max(model.solve.rtol * _TIGHTER, 1e-12),
        atol=max(model.solve.atol * _TIGHTER, 1e-16),
        max_steps=100 * model.solve.max_steps,
        adjoint=Forward(),
    )
    gradient = _gradient(model, tight)
    results = [gradient(x) for x in positions]
    values = np.asarray([value for value, _ in results])
    return np.asarray([g for _, g in results]), ~np.isfinite(values)


def _measure(
    model: Model,
    settings: Mapping[str, Solve],
    positions: jax.Array,
    reference: np.ndarray,
    repeats: int,
    shown: "Progress",
) -> dict[str, _Measured]:
    """Compile every adjoint, then time them in turn, so that all meet the same machine."""
    programs, compiling, memory = {}, {}, {}
    for name, solve in settings.items():
        shown.say(f"Compiling {name}")
        began = time.perf_counter()
        programs[name] = _gradient(model, solve).lower(positions[0]).compile()
        compiling[name] = time.perf_counter() - began
        memory[name] = peak_memory(programs[name])
    measured = {}
    shown.say("Timing")
    runs = {name: _Runs(program, len(positions)) for name, program in programs.items()}
    for i, position in enumerate(positions):
        for run in runs.values():
            run.look(i, position, reference[i])
        for _ in range(repeats):
            for run in runs.values():
                run.time(i, position)
    for name, run in runs.items():
        measured[name] = _Measured(run.seconds(), run.errors, compiling[name], memory[name])
    return measured


class _Runs:
    """The runs of one adjoint's program, as long as its budget lasts."""

    def __init__(self, program: Any, num_draws: int) -> None:
        self.program = program
        self.errors = np.full(num_draws, np.nan)
        self.ticks: list[list[float]] = [[] for _ in range(num_draws)]
        self.spent = 0.0

    def look(self, i: int, position: jax.Array, reference: np.ndarray) -> None:
        """Compare the gradient at one draw with the reference."""
        if self.spent < _BUDGET:
            value, gradient = self.time(i, position)
            self.errors[i] = _relative_error(value, gradient, reference)

    def time(self, i: int, position: jax.Array) -> Any:
        """Run once more at one draw."""
        if self.spent >= _BUDGET:
            return None
        began = time.perf_counter()
        result = jax.block_until_ready(self.program(position))
        self.ticks[i].append(time.perf_counter() - began)
        self.spent += self.ticks[i][-1]
        return result

    def seconds(self) -> np.ndarray:
        """The median time at each draw, not a number where there was none."""
        return np.array([np.median(ticks) if ticks else np.nan for ticks in self.ticks])


def _relative_error(value: jax.Array, gradient: jax.Array, reference: np.ndarray) -> float:
    """‖g − g_ref‖ / ‖g_ref‖; not a number where the solve failed."""
    if not np.isfinite(value):
        return float("nan")
    norm = float(jnp.linalg.norm(reference))
    return float(jnp.linalg.norm(gradient - reference)) / norm if norm > 0 else float("nan")


def peak_memory(program: Any) -> float:
    """The bytes that a compiled program needs beside its arguments, by XLA's own analysis."""
    analysis = program.memory_analysis()
    if analysis is None:
        return float("nan")
    # On a CPU the temporaries can read 0 where the peak has the figure.
    figures = [getattr(analysis, f"{name}_in_bytes", 0) for name in ("temp_size", "peak_memory")]
    return float(max(figures)) or float("nan")


def _dataset(model: Model, measured: Mapping[str, _Measured], failed: np.ndarray) -> "xr.Dataset":
    import xarray as xr

    rows = list(measured.values())
    errors = np.stack([row.errors for row in rows])
    seconds = np.stack([row.seconds for row in rows])
    missed = np.isfinite(seconds) & ~np.isfinite(errors)
    each, draws = ("adjoint",), ("adjoint", "draw")
    return xr.Dataset(
        {
            "gradient_time": (draws, seconds, {"units": "s"}),
            "relative_error": (draws, errors),
            "failed": (draws, missed),
            "compile_time": (each, np.array([r.compile_seconds for r in rows]), {"units": "s"}),
            "peak_memory": (each, np.array([r.memory for r in rows]), {"units": "byte"}),
        },
        {"adjoint": np.asarray(list(measured), dtype=object), "draw": np.arange(len(failed))},
        merge(system_attrs(model.system), solve_attrs(model.solve), environment_attrs())
        | {"adjoint": ", ".join(measured), "reference_failed": int(failed.sum())},
    )
