"""The pipeline: from a system and a table to a posterior, and on from where it stands."""

import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from odecal._errors import DeclarationError, ObservationError, OutputError, SettingsError
from odecal._inference.choose_adjoint import choose_adjoint
from odecal._inference.choose_centring import choose_centring
from odecal._inference.progress import AbstractProgress, NoProgress, shown_progress
from odecal._model.compile import as_system, compile  # noqa: A004
from odecal._model.model import Model
from odecal._run.checkpoint import read_checkpoint
from odecal._run.journal import FileJournal, journal_path
from odecal._run.names import check_dims
from odecal._run.netcdf import save
from odecal._run.output import check_output
from odecal._run.plan import check_count, checked_run, plan_from_bytes, plan_to_bytes
from odecal._run.records import AbstractJournal, Plan
from odecal._run.rescue import MemoryJournal, failures_say_where
from odecal._system.solve import Solve
from odecal._system.system import System
from odecal.samplers import NUTS, AbstractSampler, LowRankMetric

if TYPE_CHECKING:
    import xarray as xr


# The target acceptance rate where there is a hierarchy.
_HIERARCHY_ACCEPTANCE = 0.95


def calibrate(
    system: System,
    observations: Any = None,
    *,
    sampler: AbstractSampler | None = None,
    solve: Solve | None = None,
    num_chains: int = 4,
    num_warmup: int = 500,
    num_samples: int = 1000,
    seed: int = 0,
    path: str | Path | None = None,
    progress: bool | AbstractProgress = True,
) -> "xr.DataTree":
    """Calibrate a system to observations: draw from the posterior of its parameters.

    With a `path` the run is recorded as it goes, in blocks, in a journal beside that file; if the
    process is killed, [`resume`][odecal.resume] goes on. If it is interrupted (Ctrl-C) once it
    samples, what has been drawn until then is returned, with the attribute `complete` 0. If
    something fails after that, what has been drawn is kept in a journal, also without a `path`, and
    the message says where.

    Args:
        system: the system, an instance of a `System` subclass.
        observations: a `pandas.DataFrame`, an `xarray.Dataset`, the path of a CSV file, or
            `Observations(...)`; None takes the table that comes with the system.
        sampler: the sampler; None takes `odecal.samplers.NUTS()`, with a target acceptance rate of
            0.95 and `LowRankMetric()` where parameters vary between groups.
        solve: the settings of a solve; None takes the system's own.
        num_chains: the number of chains.
        num_warmup: transitions of warm-up of each chain.
        num_samples: draws of each chain.
        seed: the random seed: the same seed on the same machine gives the same draws.
        path: a netCDF file that the result is saved in; None keeps it in memory.
        progress: whether progress is shown, or what shows it.

    Returns:
        A tree with the groups `posterior`, `sample_stats`, `posterior_predictive`,
        `log_likelihood`, `observed_data`, `constant_data`, `prior`, `prior_predictive` and
        `warmup_sample_stats`, as ArviZ names them; `trajectories` (the states) and `predictions`
        (the observables) on a fine grid of times; `warm_start` (the modes, and where each
        optimisation ended), `adaptation` (what warm-up has found), `unconstrained_posterior`, and
        `checkpoint`, from which the run can go on. Where parameters vary between groups, also
        `population_predictive` (data of other groups of the same population), and `centring` where
        that was chosen from the data. Units are attributes; provenance is in the attributes of the
        root.

    Raises:
        DeclarationError: if the system is none, or has no unknown.
        ObservationError: if the table does not fit the system.
        SettingsError: if a setting cannot work.
        SamplingError: if no draw from the prior has a finite log density.
        OutputError: if the file or its journal cannot be written, or an unfinished run is there.
    """
    began = time.perf_counter()
    system = as_system(system)
    run = checked_run(sampler or NUTS(), num_chains, num_warmup, num_samples, seed)
    if path is not None:
        _check_apart(Path(path), system.data if observations is None else observations)
    journal = None if path is None else _new_journal(Path(path))
    try:
        model = compile(system, shipped(system) if observations is None else observations, solve)
        if not model.sites:
            raise DeclarationError(
                f"{system.declaration.name} has nothing to calibrate: every parameter and initial "
                "value is fixed. Expected at least one prior. To solve it, use odecal.simulate."
            )
        check_dims(model)
        model, note = _choose(model, int(seed), progress)
        plan = Plan(model, sampler or _default_sampler(model), run, int(seed), note)
        if journal is None or path is None:
            return _run(plan, MemoryJournal(plan), began, progress)
        return _run_and_save(plan, journal, Path(path).absolute(), began, progress)
    except BaseException:
        if journal is not None and not journal.begun:
            journal.remove()  # nothing in it is worth going on with
        raise


def resume(
    path: str | Path, system: System | None = None, *, progress: bool | AbstractProgress = True
) -> "xr.DataTree":
    """Go on with a run that was killed or interrupted, to the end that it would have had.

    On the same machine and with the same number of devices the draws are, bit by bit, those that
    the run would have given without the interruption.

    Args:
        path: the netCDF file that the run was to be saved in.
        system: the system, if it has overrides, or its class cannot be found by its name.
        progress: whether progress is shown, or what shows it.

    Returns:
        The result, which is also saved; see [`calibrate`][odecal.calibrate].

    Raises:
        OutputError: if there is no such run, or it is complete, or of another system.
    """
    began, path = time.perf_counter(), Path(path)
    if journal_path(path).exists():
        journal = FileJournal(journal_path(path.absolute()))
        data = journal.part("plan")
        if data is None:
            journal.remove()
            raise OutputError(f"The run to {path} was stopped before it began. Start it again.")
        try:
            plan = plan_from_bytes(data, path, system, tell=_announce(progress))
        except BaseException:
            journal.close()
            raise
    else:
        plan, journal = _reopen(path, system, 0, progress)
    return _run_and_save(plan, journal, path.absolute(), began, progress)


def extend(
    path: str | Path,
    num_samples: int,
    system: System | None = None,
    *,
    progress: bool | AbstractProgress = True,
) -> "xr.DataTree":
    """Add draws to a finished run.

    Args:
        path: the netCDF file of the run.
        num_samples: how many draws to add to each chain.
        system: the system, if it has overrides, or its class cannot be found by its name.
        progress: whether progress is shown, or what shows it.

    Returns:
        The result, old draws and new, which replaces the file; see
        [`calibrate`][odecal.calibrate].

    Raises:
        OutputError: if there is no such run, or it is not complete, or of another system.
        SettingsError: if no draw is asked for, or the sampler cannot add any.
    """
    began, path = time.perf_counter(), Path(path)
    check_count("extend", "num_samples", num_samples, 1)
    plan, journal = _reopen(path, system, num_samples, progress)
    return _run_and_save(plan, journal, path.absolute(), began, progress)


def shipped(system: System) -> Any:
    """The table that comes with a system, which must have one."""
    if system.data is None:
        raise ObservationError(
            f"{system.declaration.name} comes with no observations. Expected a table: a "
            "pandas.DataFrame, an xarray.Dataset or the path of a CSV file (--data on the command "
            "line), or a class attribute `data` with a path."
        )
    return system.data


def _default_sampler(model: Model) -> AbstractSampler:
    """NUTS; in a hierarchy with smaller steps, for its funnels, and a metric of low rank.

    There many coordinates are nearly independent, and a full covariance of them is mostly noise:
    measured on theophylline, a metric of low rank gives twice the effective draws a second.
    """
    if not model.hierarchy.reparams:
        return NUTS()
    return NUTS(target_acceptance_rate=_HIERARCHY_ACCEPTANCE, metric=LowRankMetric())


def _choose(model: Model, seed: int, progress: bool | AbstractProgress) -> tuple[Model, str]:
    """The model with an adjoint and centrings chosen for it, and a note on the adjoint."""
    with _as_progress(progress) as shown:
        choice = choose_adjoint(model, seed, shown)
        solve = replace(model.solve, adjoint=choice.adjoint)
        return choose_centring(replace(model, solve=solve), seed, shown), choice.note()


def _as_progress(progress: bool | AbstractProgress) -> AbstractProgress:
    """The object that shows progress."""
    if isinstance(progress, AbstractProgress):
        return progress
    return shown_progress() if progress else NoProgress()


def _run(
    plan: Plan, journal: AbstractJournal, began: float, progress: bool | AbstractProgress
) -> "xr.DataTree":
    """Run a plan to its end."""
    # Only here, since xarray takes long to import.
    from odecal._inference.pipeline import execute
    from odecal._results.tree import build_tree

    with failures_say_where(journal), _as_progress(progress) as shown:
        tree = build_tree(execute(plan, journal, shown))
    tree.attrs["wall_time_seconds"] = time.perf_counter() - began
    if not tree.attrs["complete"]:
        done, total = tree.attrs["done"], plan.run.num_warmup + plan.run.num_samples
        warnings.warn(
            f"The run was interrupted after {done} of {total} transitions of each chain, of which "
            f"{plan.run.num_warmup} are warm-up.",
            stacklevel=3,
        )
    return tree


def _run_and_save(
    plan: Plan, journal: FileJournal, path: Path, began: float, progress: bool | AbstractProgress
) -> "xr.DataTree":
    """Run a plan to its end, save the result, and remove the journal."""
    try:
        journal.record_plan(plan_to_bytes(plan))
        tree = _run(plan, journal, began, progress)
        with failures_say_where(journal, saving=True):
            save(tree, path)
        journal.remove()
    finally:
        journal.close()
    return tree


def _check_apart(path: Path, observations: Any) -> None:
    """Refuse to write over the table that is read."""
    for table in (observations, *(getattr(observations, x, None) for x in ("data", "doses"))):
        both = isinstance(table, (str, Path)) and path.exists() and Path(table).exists()
        if both and path.samefile(table):
            raise OutputError(
                f"The output {path} is the table {table}, which it would replace. Expected another "
                "path. Choose one."
            )


def _new_journal(path: Path) -> FileJournal:
    """The journal of a run that begins."""
    check_output(path)
    if journal_path(path).exists():
        raise OutputError(
            f"An unfinished run to {path} is there, in {journal_path(path)}. Go on with it "
            f"(odecal resume {path}, or odecal.resume), or delete that file to start afresh."
        )
    return FileJournal(journal_path(path.absolute()))


def _reopen(
    path: Path, system: System | None, more: int, progress: bool | AbstractProgress
) -> tuple[Plan, FileJournal]:
    """A run that was saved, with draws to add, and a journal that begins where it ended."""
    if more and journal_path(path).exists():
        raise OutputError(
            f"The run to {path} is unfinished. Expected a finished one to extend. Finish it first: "
            f"odecal resume {path}"
        )
    data, warm_start, snapshot = read_checkpoint(path, complete=bool(more))
    plan = plan_from_bytes(data, path, system, more, _announce(progress))
    if more and not plan.sampler.extendable:
        raise SettingsError(
            f"{type(plan.sampler).__name__} cannot add draws to a run. Start a new run with a "
            "larger num_samples."
        )
    journal = FileJournal(journal_path(path.absolute()))
    journal.record_start(warm_start)
    journal.record(snapshot)
    return plan, journal


def _announce(progress: bool | AbstractProgress) -> Callable[[str], None]:
    """A function that prints which file is run, where progress is shown."""
    return partial(print, file=sys.stderr) if progress else lambda line: None
