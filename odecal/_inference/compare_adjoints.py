"""Adjoints compared on one problem: time, memory, error."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from inspect import isabstract, isclass
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import Bool, Float

from odecal import adjoints as strategies
from odecal._errors import SettingsError
from odecal._inference.calibrate import shipped
from odecal._inference.multistart import NUM_CANDIDATES, MultiStart, prior_sampler
from odecal._inference.progress import AbstractProgress, NoProgress, shown_progress
from odecal._inference.timing import (
    Compiled,
    Timer,
    compiled,
    compiled_gradient,
    gradient_of,
    logdensity_of,
    relative_error,
)
from odecal._jax.keys import run_keys
from odecal._jax.programs import Compiler
from odecal._model.compile import as_system, compile  # noqa: A004
from odecal._model.flat import flatten
from odecal._model.model import Model
from odecal._run.provenance import environment_attrs, merge, solve_attrs, system_attrs
from odecal._system.solve import Solve
from odecal._system.system import System
from odecal.adjoints import AbstractAdjoint, ExplicitForward, Forward, as_adjoint

if TYPE_CHECKING:
    import xarray as xr

# The reference is solved this much tighter than the tightest tolerances compared.
_TIGHTER = 1e-3
# Seconds that timing one adjoint may take; draws that do not fit in are not measured.
_BUDGET = 20.0
# A strategy that is given another, and one for states at rest, are compared where asked for.
_OTHERS = (strategies.DiffraxAdjoint, strategies.SteadyState)
# The step of the differences that check the reference, in unconstrained space.
_STEP = 1e-4


@dataclass(frozen=True, eq=False)
class _Points:
    """Where gradients are compared."""

    positions: Float[np.ndarray, "draw dim"]  # in unconstrained space
    batch: Float[np.ndarray, "batch dim"]  # the same, as many as a batch has
    places: np.ndarray  # "prior" or "mode", for each
    gradients: Float[np.ndarray, "draw dim"]  # the reference
    reference_errors: Float[np.ndarray, " draw"]  # its distance from finite differences, relative
    failed: Bool[np.ndarray, " draw"]  # where the reference could not be solved


@dataclass(frozen=True, eq=False)
class _Compared:
    """One adjoint: its compiled gradient, that of a batch, their times, and errors."""

    gradient: Compiled
    batch: Compiled | None
    timer: Timer
    errors: Float[np.ndarray, "tolerance draw"]


def compare_adjoints(
    system: System,
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
    system = as_system(system)
    factors = _checked(tolerances, (num_draws, repeats), (num_around_mode, batch_size))
    model = compile(system, shipped(system) if observations is None else observations, solve)
    chosen = default_adjoints(model.solve) if adjoints is None else dict(adjoints)
    for adjoint in chosen.values():  # each refused before anything is measured
        replace(model.solve, adjoint=adjoint)
    with model.precision(), shown_progress() if progress else NoProgress() as shown:
        points = _points(model, factors, (num_draws, num_around_mode, batch_size), seed, shown)
        compared = _compile(model, chosen, points, len(factors), shown)
        value_timer = _time(model, compared, points, factors, repeats, shown)
    return _dataset(model, chosen, points, factors, value_timer, compared)


def default_adjoints(solve: Solve) -> dict[str, AbstractAdjoint]:
    """The strategies that serve the solver of a solve, by their names."""
    served: dict[str, AbstractAdjoint] = {}
    for cls in (getattr(strategies, name) for name in strategies.__all__):
        if cls in _OTHERS or not (isclass(cls) and issubclass(cls, AbstractAdjoint)):
            continue
        if not isabstract(cls):
            adjoint = cls()
            with suppress(ValueError):
                adjoint.check(solve.solver, solve.max_steps_or_default)
                served[_snake(cls.__name__)] = adjoint
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
    model: Model,
    factors: np.ndarray,
    counts: tuple[int, int, int],
    seed: int,
    shown: AbstractProgress,
) -> _Points:
    """Draws from the prior and around the best mode, with their reference gradients."""
    run_key = run_keys(seed)
    prior = np.asarray(jax.jit(prior_sampler(model, NUM_CANDIDATES))(run_key.prior))
    positions = np.resize(prior, (counts[0], prior.shape[1]))
    if counts[1]:
        shown.say("Looking for the mode")
        with Compiler() as compiler:
            flat = flatten(model)
            find_starts = MultiStart(flat.target, compiler, names=flat.names)
            found = find_starts(prior, run_key.starts, counts[1])
        positions = np.concatenate([positions, np.asarray(found.starts.position)])
    shown.say("Reference gradients")
    return _Points(
        positions,
        np.resize(positions, (counts[2], prior.shape[1])),
        np.repeat(["prior", "mode"], counts[:2]),
        *_reference(model, positions, factors[0], seed),
    )


def _reference(
    model: Model, positions: Float[np.ndarray, "draw dim"], tightest: float, seed: int
) -> tuple[Float[np.ndarray, "draw dim"], Float[np.ndarray, " draw"], Bool[np.ndarray, " draw"]]:
    """Tight gradients, how far from finite differences they are, and where there are none."""
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
        errors = np.abs((ahead - behind) / (2 * _STEP) - slopes)
        errors = errors / np.linalg.norm(gradients, axis=1)
    return gradients, errors, ~np.isfinite(values) | ~np.isfinite(gradients).all(axis=1)


def _compile(
    model: Model,
    adjoints: Mapping[str, Any],
    points: _Points,
    num_tolerances: int,
    shown: AbstractProgress,
) -> dict[str, _Compared]:
    """Compile the gradient of every adjoint, alone and of a batch."""
    compared = {}
    for i, (name, adjoint) in enumerate(adjoints.items(), start=1):
        shown.say(f"Compiling {name} ({i} of {len(adjoints)})")
        gradient, batch = gradient_of(model, adjoint), None
        if len(points.batch):
            batch = compiled(jax.vmap(gradient, (0, None)), points.batch, 1.0)
        errors = np.full((num_tolerances, len(points.positions)), np.nan)
        alone = compiled_gradient(gradient, points.positions[0])
        compared[name] = _Compared(alone, batch, Timer(_BUDGET), errors)
    return compared


def _time(
    model: Model,
    compared: Mapping[str, _Compared],
    points: _Points,
    factors: np.ndarray,
    repeats: int,
    shown: AbstractProgress,
) -> Timer:
    """Time all adjoints in turn, so that all meet the same machine; and the value alone."""
    logdensity = logdensity_of(model, replace(model.solve, adjoint=None))
    value = compiled_gradient(lambda x, factor: (logdensity(x, factor), x), points.positions[0])
    value_timer = Timer(_BUDGET)
    for i, factor in enumerate(factors):
        shown.say(f"Timing at rtol {model.solve.rtol * factor:.0e}")
        for j, position in enumerate(points.positions):
            for n in range(repeats):
                value_timer.gradient((i, j), value, position, factor, 1)
                for one in compared.values():
                    found = one.timer.gradient((i, j), one.gradient, position, factor, 1)
                    if n == 0 and found is not None and np.isfinite(found[0]):
                        one.errors[i, j] = relative_error(found[1], points.gradients[j])
        for _ in range(repeats):
            for one in compared.values():
                if one.batch is not None:
                    parts = len(points.batch)
                    one.timer.run(i, one.batch.program, points.batch, factor, parts=parts)
    return value_timer


def _medians(timer: Timer, shape: tuple[int, int]) -> Float[np.ndarray, "tolerance draw"]:
    return np.array([[timer.median((i, j)) for j in range(shape[1])] for i in range(shape[0])])


def _dataset(
    model: Model,
    adjoints: Mapping[str, Any],
    points: _Points,
    factors: np.ndarray,
    value_timer: Timer,
    compared: Mapping[str, _Compared],
) -> "xr.Dataset":
    import xarray as xr

    rows, shape = list(compared.values()), (len(factors), len(points.positions))
    seconds = np.stack([_medians(row.timer, shape) for row in rows])
    errors = np.stack([row.errors for row in rows])
    errors[:, :, points.failed] = np.nan
    missed = np.isfinite(seconds) & ~np.isfinite(errors) & ~points.failed
    batch_seconds = np.array([[row.timer.median(i) for i in range(len(factors))] for row in rows])
    declared = [as_adjoint(adjoint).properties for adjoint in adjoints.values()]
    modes = ["" if p is None else p.mode.value for p in declared]
    exact = ["" if p is None else ("yes" if p.exact else "no") for p in declared]
    each, draws, unit = ("adjoint",), ("adjoint", "tolerance", "draw"), {"units": "s"}
    return xr.Dataset(
        {
            "gradient_time": (draws, seconds, unit),
            "batch_time": (draws[:2], batch_seconds, unit),
            "value_time": (draws[1:], _medians(value_timer, shape), unit),
            "relative_error": (draws, errors),
            "failed": (draws, missed),
            "compile_time": (each, np.array([row.gradient.seconds for row in rows]), unit),
            "peak_memory": (
                each,
                np.array([row.gradient.memory for row in rows]),
                {"units": "byte"},
            ),
            "reference_error": (("draw",), points.reference_errors),
        },
        {
            "adjoint": np.asarray(list(compared), dtype=object),
            "tolerance": model.solve.rtol * factors,
            "draw": np.arange(len(points.positions)),
            "place": (("draw",), points.places.astype(object)),
            "mode": (each, np.asarray(modes, dtype=object)),
            "exact": (each, np.asarray(exact, dtype=object)),
        },
        merge(system_attrs(model.system), solve_attrs(model.solve), environment_attrs())
        | {"adjoint": ", ".join(compared), "reference_failed": int(points.failed.sum())},
    )
