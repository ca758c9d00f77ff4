"""Adjoints compared on one problem: time, memory, error."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

from odecal._errors import SettingsError
from odecal._inference.calibrate import shipped
from odecal._inference.multistart import NUM_CANDIDATES, MultiStart
from odecal._inference.timing import Clock, Compiled, again, compiled, gradient_of, logdensity_of
from odecal._jax.keys import key_of, run_keys
from odecal._jax.programs import Compiler
from odecal._model.compile import as_system, compile  # noqa: A004
from odecal._model.flat import flatten
from odecal._model.model import Model
from odecal._run.provenance import environment_attrs, merge, solve_attrs, system_attrs
from odecal._system.solve import Solve
from odecal.adjoints import (
    AbstractAdjoint,
    Backsolve,
    Direct,
    ExplicitForward,
    ExplicitReverse,
    Forward,
    ForwardSensitivity,
    Gauss,
    Interpolating,
    Quadrature,
    RecursiveCheckpoint,
    as_adjoint,
)

if TYPE_CHECKING:
    import xarray as xr

    from odecal._inference.progress import Progress
    from odecal._system.system import System

# The reference is solved this much tighter than the tightest tolerances compared.
_TIGHTER = 1e-3
# Seconds that timing one adjoint may take; draws that do not fit in are not measured.
_BUDGET = 20.0
# The step of the differences that check the reference, in unconstrained space.
_STEP = 1e-4

_MENU: tuple[AbstractAdjoint, ...] = (
    ExplicitForward(),
    ExplicitReverse(),
    Forward(),
    ForwardSensitivity(),
    RecursiveCheckpoint(),
    Interpolating(),
    Gauss(),
    Quadrature(),
    Backsolve(),
    Direct(),
)


@dataclass(frozen=True, eq=False)
class _Points:
    """Where gradients are compared.

    Args:
        positions: of shape (draw, dim).
        places: "prior" or "mode", for each.
        gradients: the reference, of shape (draw, dim).
        mistrust: how far it is from finite differences, relative; of shape (draw,).
        failed: where the reference could not be solved, of shape (draw,).
    """

    positions: np.ndarray
    places: np.ndarray
    gradients: np.ndarray
    mistrust: np.ndarray
    failed: np.ndarray


@dataclass(frozen=True, eq=False)
class _Measured:
    """One adjoint: its programs, times and errors, of shapes (tolerance, draw) and (tolerance,)."""

    alone: Compiled
    seconds: np.ndarray
    errors: np.ndarray
    batch_seconds: np.ndarray


def compare_adjoints(
    system: "System",
    observations: Any = None,
    *,
    adjoints: Mapping[str, Any] | None = None,
    solve: Solve | None = None,
    tolerances: Sequence[float] = (1e-2, 1.0, 1e2),
    num_draws: int = 8,
    num_around_mode: int = 8,
    repeats: int = 10,
    batch_size: int = 16,
    seed: int = 0,
    progress: bool = True,
) -> "xr.Dataset":
    """Compare gradient strategies on a system's own log density.

    Gradients are taken at draws from the prior and at draws around the best mode of the posterior,
    at several tolerances.

    Args:
        system: the system.
        observations: a table, as for `calibrate`; None takes the one that comes with the system.
        adjoints: the strategies by the names to give them; None takes all that serve the solver.
        solve: the settings of a solve, whose adjoint is replaced by each; None takes the system's.
        tolerances: factors of the tolerances of the solve.
        num_draws: how many draws from the prior.
        num_around_mode: how many draws around the mode; 0 spares the search for it.
        repeats: how many times each gradient is timed, all adjoints in turn; a short one is taken
            several times in one program, as a chain takes it.
        batch_size: how many gradients a batch computes at once; 0 leaves batches out.
        seed: the random seed.
        progress: whether progress is shown.

    Returns:
        A data set with the dimensions `adjoint`, `tolerance` (the relative tolerance of a solve)
        and `draw`, each draw with its `place`, "prior" or "mode":

        * `gradient_time` (adjoint, tolerance, draw): seconds for value and gradient, a median;
        * `batch_time` (adjoint, tolerance): the same for one member of a batch;
        * `value_time` (tolerance, draw): seconds for the log density alone, by the default adjoint;
        * `relative_error` (adjoint, tolerance, draw): of the gradient, in the Euclidean norm,
          against forward mode at tolerances 1000 times below the tightest compared;
        * `failed` (adjoint, tolerance, draw): gradients that were not found, without an error;
        * `compile_time` (adjoint): seconds; `peak_memory` (adjoint): bytes, by XLA's analysis of
          the compiled program;
        * `reference_error` (draw): how far the reference is from central differences of the log
          density along a random direction, relative to its norm;
        * coordinates `mode` and `exact` (adjoint), as the strategies declare.

        A gradient that did not fit into the 20 seconds that each adjoint may take has neither time
        nor error.

    Raises:
        SettingsError: if an adjoint cannot serve the solver, or a number cannot be.
        SamplingError: if no draw from the prior can be solved.
    """
    from odecal._inference.progress import Progress, shown_progress

    system = as_system(system)
    factors = _checked(tolerances, (num_draws, repeats), (num_around_mode, batch_size))
    model = compile(system, shipped(system) if observations is None else observations, solve)
    chosen = default_adjoints(model.solve) if adjoints is None else dict(adjoints)
    for adjoint in chosen.values():  # each refused before anything is measured
        replace(model.solve, adjoint=adjoint)
    with model.precision(), shown_progress() if progress else Progress() as shown:
        points = _points(model, factors, (num_draws, num_around_mode), seed, shown)
        value_times, measured = _measure(model, chosen, points, factors, repeats, batch_size, shown)
    return _dataset(model, chosen, points, factors, value_times, measured)


def default_adjoints(solve: Solve) -> dict[str, AbstractAdjoint]:
    """The strategies that serve the solver of a solve, by their names."""
    served: dict[str, AbstractAdjoint] = {}
    for adjoint in _MENU:
        try:
            adjoint.check(solve.solver, solve.max_steps_or_default)
        except ValueError:
            continue
        served[_snake(type(adjoint).__name__)] = adjoint
    return served


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


def _checked(
    tolerances: Sequence[float], positive: tuple[int, int], others: tuple[int, int]
) -> np.ndarray:
    factors = np.sort(np.asarray(tolerances, float).ravel())
    if not factors.size or not (np.isfinite(factors) & (factors > 0)).all():
        raise SettingsError(
            "compare_adjoints(tolerances=...) expects positive factors of the tolerances of the "
            f"solve, such as (0.01, 1, 100). Got {tolerances!r}."
        )
    if min(positive) < 1 or min(others) < 0:
        raise SettingsError(
            "compare_adjoints expects num_draws and repeats of at least 1, num_around_mode and "
            f"batch_size of at least 0. Got {positive[0]}, {positive[1]}, {others[0]} and "
            f"{others[1]}."
        )
    return factors


def _points(
    model: Model, factors: np.ndarray, counts: tuple[int, int], seed: int, shown: "Progress"
) -> _Points:
    """Draws from the prior and around the best mode, with their reference gradients."""
    run_key = run_keys(seed)

    def draw(key_data: jax.Array) -> jax.Array:
        keys = jax.random.split(key_of(key_data), NUM_CANDIDATES)
        return jax.vmap(lambda key: ravel_pytree(model.init_position(key))[0])(keys)

    prior = np.asarray(jax.jit(draw)(run_key.prior))
    positions = np.resize(prior, (counts[0], prior.shape[1]))
    if counts[1]:
        shown.say("Looking for the mode")
        with Compiler() as compiler:
            found = MultiStart(flatten(model), compiler)(prior, run_key.starts, counts[1])
        positions = np.concatenate([positions, np.asarray(found.starts.position)])
    shown.say("Reference gradients")
    gradients, mistrust, failed = _reference(model, positions, factors[0], seed)
    return _Points(positions, np.repeat(["prior", "mode"], counts), gradients, mistrust, failed)


def _reference(
    model: Model, positions: np.ndarray, tightest: float, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tight gradients, how far from differences they are, and where there are none."""
    solve = model.solve
    # Below this, rounding is all that is seen.
    least = 100 * float(np.finfo(solve.dtype).eps) / solve.rtol
    factor = max(tightest * _TIGHTER, least)
    tight = replace(model, solve=replace(solve, max_steps=100 * solve.max_steps_or_default))
    strategy = ExplicitForward() if ExplicitForward.serves(solve.solver) else Forward()
    value = logdensity_of(tight, replace(tight.solve, adjoint=strategy))
    gradient = compiled(gradient_of(tight, strategy), positions[0], factor).program
    density = compiled(value, positions[0], factor).program
    found = [gradient(x, factor) for x in positions]
    values = np.asarray([v for v, _ in found])
    gradients = np.asarray([g for _, g in found])
    directions = np.random.default_rng(seed).standard_normal(positions.shape)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    ahead, behind = (
        np.asarray([density(x, factor) for x in positions + sign * _STEP * directions])
        for sign in (1, -1)
    )
    slopes = np.sum(gradients * directions, axis=1)
    with np.errstate(all="ignore"):
        mistrust = np.abs((ahead - behind) / (2 * _STEP) - slopes)
        mistrust = mistrust / np.linalg.norm(gradients, axis=1)
    return gradients, mistrust, ~np.isfinite(values) | ~np.isfinite(gradients).all(axis=1)


def _measure(
    model: Model,
    adjoints: Mapping[str, Any],
    points: _Points,
    factors: np.ndarray,
    repeats: int,
    batch_size: int,
    shown: "Progress",
) -> tuple[np.ndarray, dict[str, _Measured]]:
    """Compile every adjoint, then time them in turn, so that all meet the same machine."""
    x, one = points.positions[0], 1.0
    batch = np.resize(points.positions, (batch_size, len(x)))
    alone, batched = {}, {}
    for i, (name, adjoint) in enumerate(adjoints.items(), start=1):
        shown.say(f"Compiling {name} ({i} of {len(adjoints)})")
        gradient = gradient_of(model, adjoint)
        alone[name] = compiled(again(gradient), x, one, 1, 0.0)
        if batch_size:
            batched[name] = compiled(jax.vmap(gradient, (0, None)), batch, one).program
    logdensity = logdensity_of(model, replace(model.solve, adjoint=None))
    value = compiled(again(lambda x, factor: (logdensity(x, factor), x)), x, one, 1, 0.0).program
    clocks = {name: Clock(_BUDGET) for name in adjoints}
    value_clock = Clock(_BUDGET)
    shape = (len(factors), len(points.positions))
    errors = {name: np.full(shape, np.nan) for name in adjoints}
    for i, factor in enumerate(factors):
        shown.say(f"Timing at rtol {model.solve.rtol * factor:.0e}")
        for j, position in enumerate(points.positions):
            for n in range(repeats):
                value_clock.repeat((i, j), value, position, factor, 1)
                for name, clock in clocks.items():
                    found = clock.repeat((i, j), alone[name].program, position, factor, 1)
                    if n == 0 and found is not None:
                        errors[name][i, j] = _relative_error(
                            found[0], found[1], points.gradients[j]
                        )
        for _ in range(repeats if batch_size else 0):
            for name, clock in clocks.items():
                clock.run(i, batched[name], batch, factor, parts=batch_size)
    measured = {
        name: _Measured(
            alone[name],
            _medians(clock, shape),
            errors[name],
            np.array([clock.median(i) for i in range(len(factors))]),
        )
        for name, clock in clocks.items()
    }
    return _medians(value_clock, shape), measured


def _medians(clock: Clock, shape: tuple[int, int]) -> np.ndarray:
    return np.array([[clock.median((i, j)) for j in range(shape[1])] for i in range(shape[0])])


def _relative_error(value: jax.Array, gradient: jax.Array, reference: np.ndarray) -> float:
    """‖g − g_ref‖ / ‖g_ref‖; not a number where there is no gradient."""
    if not np.isfinite(value):
        return float("nan")
    norm = float(np.linalg.norm(reference))
    return float(np.linalg.norm(gradient - reference)) / norm if norm > 0 else float("nan")


def _dataset(
    model: Model,
    adjoints: Mapping[str, Any],
    points: _Points,
    factors: np.ndarray,
    value_times: np.ndarray,
    measured: Mapping[str, _Measured],
) -> "xr.Dataset":
    import xarray as xr

    rows = list(measured.values())
    seconds = np.stack([row.seconds for row in rows])
    errors = np.stack([row.errors for row in rows])
    errors[:, :, points.failed] = np.nan
    missed = np.isfinite(seconds) & ~np.isfinite(errors) & ~points.failed
    declared = [as_adjoint(adjoint).properties for adjoint in adjoints.values()]
    each, draws = ("adjoint",), ("adjoint", "tolerance", "draw")
    compile_seconds = np.array([row.alone.seconds for row in rows])
    memory = np.array([row.alone.memory for row in rows])
    modes = ["" if p is None else p.mode.value for p in declared]
    exact = ["" if p is None else ("yes" if p.exact else "no") for p in declared]
    return xr.Dataset(
        {
            "gradient_time": (draws, seconds, {"units": "s"}),
            "batch_time": (draws[:2], np.stack([r.batch_seconds for r in rows]), {"units": "s"}),
            "value_time": (draws[1:], value_times, {"units": "s"}),
            "relative_error": (draws, errors),
            "failed": (draws, missed),
            "compile_time": (each, compile_seconds, {"units": "s"}),
            "peak_memory": (each, memory, {"units": "byte"}),
            "reference_error": (("draw",), points.mistrust),
        },
        {
            "adjoint": np.asarray(list(measured), dtype=object),
            "tolerance": model.solve.rtol * factors,
            "draw": np.arange(len(points.positions)),
            "place": (("draw",), points.places.astype(object)),
            "mode": (each, np.asarray(modes, dtype=object)),
            "exact": (each, np.asarray(exact, dtype=object)),
        },
        merge(system_attrs(model.system), solve_attrs(model.solve), environment_attrs())
        | {"adjoint": ", ".join(measured), "reference_failed": int(points.failed.sum())},
    )
